package escape_test

import (
	"bytes"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
	"testing"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/client"
)

// form is a multipart body with one file.
func form(t *testing.T, filename, content string) (contentType string, body io.Reader) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	p, err := w.CreatePart(textproto.MIMEHeader{
		"Content-Disposition": {`form-data; name="file"; filename="` + filename + `"`}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(p, content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return w.FormDataContentType(), &b
}

// paths: no spelling of a path in the file API leads out of /mnt/data.
func (k *target) paths(t *testing.T) {
	s := k.session(t, "box")
	s.prints(t, "open('/mnt/data/mine.txt', 'w').write('mine')")
	query := "?identifier=" + s.id
	for _, name := range []string{
		"../etc/passwd", "..%2fetc%2fpasswd", "%2e%2e/etc/passwd", "%2e%2e%2fetc%2fpasswd",
		"..%252fetc%252fpasswd", "x/..%2f..%2fetc/passwd",
		"%2fetc%2fpasswd", "/etc/passwd", "%2fproc%2fself%2fenviron", "mine.txt%00.png", "%00",
		"..", "%2e", "..;/etc/passwd", "..%5cetc%5cpasswd",
		"%c0%ae%c0%ae/etc/passwd", "\u2025/etc/passwd", "mnt/data/../../etc/passwd",
		"%2fmnt%2fdata%2f..%2f..%2fetc%2fpasswd", strings.Repeat("d/", 3000) + "x",
	} {
		for _, path := range []string{"/files/" + name + "/content", "/files/content/" + name,
			"/files/" + name} {
			status, _, body := k.send(t, request{"GET", endpoint(mine) + path + query,
				bearer(k.token), nil})
			if status < 400 || status >= 500 || strings.Contains(body, "root:") {
				t.Errorf("GET %.80s: %d %.200s", path, status, body)
			}
		}
		for _, path := range []string{"/files", "/files/" + name} {
			method := map[bool]string{true: "GET", false: "DELETE"}[path == "/files"]
			status, _, body := k.send(t, request{method, endpoint(mine) + path + query +
				"&path=../../etc", bearer(k.token), nil})
			if status < 400 || status >= 500 || strings.Contains(body, "passwd\"") &&
				strings.Contains(body, "sizeInBytes") {
				t.Errorf("%s %.80s with path=../../etc: %d %.200s", method, path, status, body)
			}
		}
	}
	for _, name := range []string{"../up", "a/../../up", "/etc/up", "/mnt/data/../up", "..", ".",
		"", "a\x00b", strings.Repeat("n", 300)} {
		contentType, body := form(t, name, "content")
		header := bearer(k.token)
		header.Set("Content-Type", contentType)
		status, _, text := k.send(t, request{"POST", endpoint(mine) + "/files" + query, header,
			body})
		// an absolute name is beneath /mnt/data
		if status/100 == 2 && name != "/etc/up" || status >= 500 {
			t.Errorf("upload %q: %d %s", name, status, text)
		}
	}
	if found := s.prints(t, "import subprocess; print(subprocess.run('find / -xdev -name up -not "+
		"-path \"/mnt/data/*\" 2>/dev/null', shell=True, capture_output=True, text=True).stdout)"); strings.TrimSpace(found) != "" {
		t.Errorf("an upload is outside of /mnt/data: %s", found)
	}
	if got := s.prints(t, "print(open('/mnt/data/mine.txt').read())"); got != "mine\n" {
		t.Errorf("after it the session's own file is %q", got)
	}
}

// fileKinds: what is no regular file beneath /mnt/data has no content and hangs
// nothing; a link out of it leads nowhere.
func (k *target) fileKinds(t *testing.T) {
	s := k.session(t, "box")
	s.prints(t, `
import os, socket
os.chdir('/mnt/data')
links = {'passwd': '/etc/passwd', 'etc': '/etc', 'up': '../..', 'me': '/proc/self', 'root': '/proc/1/root', 'mem': '/proc/self/mem', 'zero': '/dev/zero',
    'agent': '/opt/sandpool/sandpool-agent', 'loop': 'loop', 'self': '.', 'fd': '/proc/self/fd/0'}
for name, to in links.items(): os.symlink(to, name)
os.mkfifo('pipe')
socket.socket(socket.AF_UNIX).bind('socket')
try: os.link('/etc/passwd', 'hard')
except OSError as e: print(e)
with open('sparse', 'wb') as f:
    try: f.truncate(1 << 40)
    except OSError: f.truncate(1 << 24)
`)
	// gVisor follows a link to a directory where Linux would not (O_NOFOLLOW with O_DIRECTORY).
	for _, name := range []string{"etc/passwd", "up/etc/passwd", "root/etc/passwd", "etc",
		"up/tmp/out", "self/etc/passwd", "passwd", "me/environ", "me/maps", "me/mem", "me/fd/3",
		"me/cmdline", "mem", "zero", "agent", "loop", "fd", "pipe", "socket"} {
		c, err := k.Download(t.Context(), mine, s.id, name, client.Range{})
		if err == nil {
			head, _ := io.ReadAll(io.LimitReader(c, 100))
			c.Close()
			t.Errorf("content of %s: %.60q", name, head)
		} else if sandpool.ClassOf(err) == sandpool.Internal {
			t.Errorf("content of %s: %v", name, err)
		}
	}
	for _, name := range []string{"etc/passwd", "me/environ", "passwd"} {
		if _, err := k.Download(t.Context(), mine, s.id, name, client.Range{}); err == nil ||
			!strings.Contains(err.Error(), "leads out of the data directory") {
			t.Errorf("content of %s: the error %v does not say why", name, err)
		}
	}
	for _, name := range []string{"etc", "me", "up", "etc/ssl"} {
		if _, err := k.Files(t.Context(), mine, s.id, name, false); err == nil ||
			!strings.Contains(err.Error(), "leads out of the data directory") {
			t.Errorf("list of %s: the error %v does not say why", name, err)
		}
	}
	for _, name := range []string{"passwd/new", "etc/new", "me/new", "root/new", "up/new",
		"loop/new", "pipe/new", "etc/passwd", "root/opt/sandpool/sandpool-agent"} {
		if _, err := k.UploadFile(t.Context(), mine, s.id, name,
			strings.NewReader("x")); err == nil {
			t.Errorf("upload to %s succeeded", name)
		}
		if err := k.DeleteFile(t.Context(), mine, s.id, name); err == nil {
			t.Errorf("deletion of %s succeeded", name)
		}
	}
	c, err := k.Download(t.Context(), mine, s.id, "sparse", client.Range{Length: 10})
	if err != nil {
		t.Fatalf("the beginning of a sparse file: %v", err)
	}
	if head, err := io.ReadAll(c); err != nil || len(head) != 10 {
		t.Errorf("the beginning of a sparse file: %q %v", head, err)
	}
	c.Close()
	if _, err := k.Files(t.Context(), mine, s.id, "", true); err != nil {
		t.Errorf("list: %v", err)
	}
	for _, name := range []string{"etc", "root", "agent", "up", "pipe"} {
		if err := k.DeleteFile(t.Context(), mine, s.id, name); err != nil {
			t.Errorf("delete %s: %v", name, err)
		}
	}
	refused(t, s.verdicts(t, `
for p in '/etc/passwd', '/opt/sandpool/sandpool-agent': try_('gone ' + p, lambda: 1 / int(not os.path.exists(p)))
try_('read by a hard link', lambda: open('hard').read() if os.stat('hard').st_uid != os.stat('/etc/passwd').st_uid else 1/0)
`))
}

// fileNames: a name that code chose is data in every answer: no header, no markup, no path.
func (k *target) fileNames(t *testing.T) {
	s := k.session(t, "box")
	names := []string{"a\r\nX-Evil: 1\r\n\r\n<script>.html", `q"; filename="evil.exe`, "tab\tname",
		"\u202egnp.exe", "%2e%2e%2fetc", "a;b=c?d#e&f", "-rf", " "}
	for _, name := range names {
		s.prints(t, fmt.Sprintf("open('/mnt/data/' + %q, 'w').write('<script>1</script>')", name))
		status, header, body := k.send(t, request{"GET", endpoint(mine) + "/files/" +
			url.PathEscape(name) + "/content?identifier=" + s.id, bearer(k.token), nil})
		if status != 200 || body != "<script>1</script>" {
			t.Errorf("%q: %d %q", name, status, body)
			continue
		}
		kind, params, err := mime.ParseMediaType(header.Get("Content-Disposition"))
		if header.Get("X-Evil") != "" || header.Get("X-Content-Type-Options") != "nosniff" ||
			header.Get("Content-Security-Policy") != "sandbox" ||
			err != nil || kind != "attachment" || params["filename"] != name {
			t.Errorf("%q: header %v, %v", name, header, err)
		}
	}
	s.prints(t, `open(b'/mnt/data/\xff\xfe', 'w').write('x'); open('/mnt/data/utf', 'wb').write(b'\xff')`)
	found, err := k.Files(t.Context(), mine, s.id, "", true)
	if err != nil || len(found) != len(names)+2 {
		t.Errorf("list: %d files, %v; want %d", len(found), err, len(names)+2)
	}
	status, header, _ := k.send(t, request{"POST", endpoint(mine) + "/executions?identifier=" +
		s.id,
		http.Header{"Authorization": {"Bearer " + k.token}, "Operation-Id": {"x\u0085y"},
			"Traceparent": {"00-\u00ff"}}, strings.NewReader(`{"code":"1"}`)})
	if status != 200 || strings.Contains(header.Get("Operation-Id"), "x") &&
		strings.Contains(header.Get("Operation-Id"), "y") && len(header.Get("Operation-Id")) < 8 {
		t.Errorf("a strange operation id: %d %v", status, header)
	}
}
