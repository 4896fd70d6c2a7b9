package gateway

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"net/url"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/interpreter"
)

const (
	oldVersion = "api-version=2024-02-02-preview&identifier=abcd"
	newVersion = "api-version=2025-10-02-preview&identifier=abcd"
)

// formOf returns a form's body and content type; parts are pairs of
// Content-Disposition and content.
func formOf(parts ...string) (body, contentType string) {
	var b bytes.Buffer
	m := multipart.NewWriter(&b)
	for i := 0; i+1 < len(parts); i += 2 {
		p, _ := m.CreatePart(textproto.MIMEHeader{"Content-Disposition": {parts[i]},
			"Content-Type": {"application/json"}})
		_, _ = io.WriteString(p, parts[i+1])
	}
	_ = m.Close()
	return b.String(), m.FormDataContentType()
}

func fileForm(name, content string) (body, contentType string) {
	return formOf(fmt.Sprintf(`form-data; name="file"; filename="%s"`, name), content)
}

// TestUploadNames checks under which path a file ends up, by either call.
func TestUploadNames(t *testing.T) {
	for _, tt := range []struct{ disposition, query, agent, want string }{
		{`form-data; name="file"; filename="a.txt"`, "", "", "a.txt"},
		{`form-data; name="file"; filename="/mnt/data/a.txt"`, "", "", "a.txt"},
		{`form-data; name="file"; filename="dir/a.txt"`, "", "", "dir/a.txt"},
		{`form-data; name="file"; filename="a.txt"`, "&path=", "", "a.txt"},
		{`form-data; name="file"; filename="a.txt"`, "&path=%2F", "", "a.txt"},
		{`form-data; name="file"; filename="a.txt"`, "&path=/mnt/data", "", "a.txt"},
		{`form-data; name="file"; filename="a.txt"`, "&path=my-directory/sub/", "",
			"my-directory/sub/a.txt"},
		{`form-data; name="file"; filename="/mnt/data/x/a.txt"`, "&path=/mnt/data/x", "",
			"x/a.txt"},
		{`form-data; name="file"; filename="my report (1) #2 100%.txt"`, "", "",
			"my report (1) #2 100%.txt"},
		{`form-data; name="file"; filename="grüße.txt"`, "", "", "grüße.txt"},
		{`form-data; name="file"; filename*=utf-8''gr%C3%BC%C3%9Fe%20a.txt`, "", "", "grüße a.txt"},
		{`form-data; name="file"; filename="a%20b.txt"`, "", "Python/3.13 aiohttp/3.12", "a b.txt"},
		{`form-data; name="file"; filename="a%20b.txt"`, "", "python-requests/2.32", "a%20b.txt"},
		{`form-data; name=file; filename=a.txt`, "", "", "a.txt"},
		{`form-data; name="file"; filename="=?utf-8?B?Z3LDvMOfZS50eHQ=?="`, "", "", "grüße.txt"},
		{`form-data; name=file; filename="=?UTF-8?Q?gr=C3=BC=C3=9Fe_a.txt?="`, "", "",
			"grüße a.txt"},
		{`form-data; name=file; filename="=?utf-8?B?Z3LDvA==?= =?utf-8?B?w59lLnR4dA==?="`, "", "",
			"grüße.txt"},
		{`form-data; name=file; filename="=?iso-8859-1?Q?gr=FC=DFe.txt?="`, "", "", "grüße.txt"},
		{`form-data; name=file; filename="=?koi8-r?B?xg==?="`, "", "", "ф"},
		{`form-data; name="file"; filename="=?utf-8?B?ISE?="`, "", "", "=?utf-8?B?ISE?="},
		{`form-data; name="file"; filename="gr_e.txt"; filename*=UTF-8''gr%C3%BC%C3%9Fe.txt`, "",
			"", "grüße.txt"},
		{`form-data; name="file"; filename*=iso-8859-1''gr%FC%DFe.txt; filename="a.txt"`, "", "",
			"grüße.txt"},
		{`form-data; name="file"; filename*=ISO-8859-1'de'gr%FC%DFe.txt`, "", "", "grüße.txt"},
		{`form-data; name="file"; filename="a \"b\".txt"`, "", "", `a "b".txt`},
		{`form-data; name="file"; filename="a%22b.txt"`, "", "Mozilla/5.0", "a%22b.txt"},
		{`form-data; name="file"; filename=my report.txt`, "", "", "my report.txt"},
		{`form-data; name="file"; filename=grüße.txt`, "", "", "grüße.txt"},
		{`form-data; filename=my report.txt; name="file"`, "", "", "my report.txt"},
	} {
		body, contentType := formOf(`form-data; name="note"`, "before", tt.disposition, "content",
			`form-data; name="end"`, "after")
		for _, call := range []string{"files/upload?" + oldVersion, "files?" + newVersion} {
			w := newWorld(t, Options{})
			got := w.do("POST", call+tt.query, body, "Content-Type", contentType, "User-Agent",
				tt.agent)
			if got.status != 200 || string(w.files[tt.want]) != "content" {
				t.Errorf("%s %s%s: %d %s, stored %q", tt.disposition, call, tt.query, got.status,
					got.body, w.files)
			}
		}
	}
}

func TestRefusedUploads(t *testing.T) {
	w := newWorld(t, Options{MaxUpload: 1000})
	noFile, noFileType := formOf(`form-data; name="content"; filename="a.txt"`, "x")
	noName, noNameType := formOf(`form-data; name="file"`, "x")
	up, upType := fileForm("../a.txt", "x")
	two, twoType := formOf(`form-data; name="file"; filename="a"`, "x",
		`form-data; name="file"; filename="b"`, "y")
	whole, wholeType := fileForm("a.txt", "x")
	large, largeType := fileForm("a.txt", strings.Repeat("x", 1001))
	huge, hugeType := fileForm("a.txt", strings.Repeat("x", 3<<20))
	for _, tt := range []struct {
		name, query, body, kind string
		status                  int
		target                  string
	}{
		{"no form", "", `{"file":"x"}`, "application/json", 400, "Content-Type"},
		{"no form, short", "", "x", "application/json", 400, "Content-Type"},
		{"an empty form", "", "--b--\r\n", "application/json", 400, "Content-Type"},
		{"no file part", "", noFile, noFileType, 400, "file"},
		{"no filename", "", noName, noNameType, 400, "filename"},
		{"dots", "", up, upType, 400, "path"},
		{"dots in path", "&path=..", whole, wholeType, 400, "path"},
		{"NUL in path", "&path=a%00b", whole, wholeType, 400, "path"},
		{"two files", "", two, twoType, 400, "file"},
		{"cut off", "", whole[:len(whole)-20], wholeType, 400, "body"},
		{"one byte too many", "", large, largeType, 413, "file"},
		{"announced as too large", "", huge, hugeType, 413, "file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := w.do("POST", "files?"+newVersion+tt.query, tt.body, "Content-Type", tt.kind)
			e, _ := got.json(t)["error"].(map[string]any)
			if got.status != tt.status || e["target"] != tt.target {
				t.Errorf("answer %d %s, want %d for %s", got.status, got.body, tt.status, tt.target)
			}
		})
	}
	for _, kind := range []string{"multipart/form-data", "application/json", ""} {
		if got := w.do("POST", "files?"+newVersion, whole, "Content-Type",
			kind); got.status != 200 {
			t.Errorf("a form sent as %q: %d %s", kind, got.status, got.body)
		}
	}
	exact, exactType := fileForm("exact.txt", strings.Repeat("x", 1000))
	if got := w.do("POST", "files?"+newVersion, exact, "Content-Type",
		exactType); got.status != 200 {
		t.Errorf("a file of exactly the limit: %d %s", got.status, got.body)
	}
	if acquired, released := w.counts(); acquired != released {
		t.Errorf("acquired %d leases, released %d", acquired, released)
	}
}

// TestLargeTree checks that a tree which is too large to be listed leaves the old
// list, which always holds the whole tree, with what is at its top.
func TestLargeTree(t *testing.T) {
	w := newWorld(t, Options{})
	for _, name := range []string{"top.txt", "a/1", "a/2", "a/3"} {
		w.files[name] = []byte("x")
	}
	w.mostListed = 3
	if got := w.do("GET", "files?"+oldVersion, ""); got.status != 200 ||
		!strings.Contains(got.body, "top.txt") || strings.Contains(got.body, "a/1") {
		t.Errorf("the old list: %d %s", got.status, got.body)
	}
	if got := w.do("GET", "files?recursive=true&"+newVersion, ""); got.status != 413 {
		t.Errorf("the new list, recursive: %d %s", got.status, got.body)
	}
}

// TestFileEnvelopes checks each call's answer, byte for byte.
func TestFileEnvelopes(t *testing.T) {
	w := newWorld(t, Options{})
	w.files["b/c d.csv"] = []byte("1,2")
	const (
		at     = `2026-05-04T03:02:01.1234567Z`
		oldA   = `{"$id":"2","properties":{"$id":"3","filename":"a.txt","size":5,"lastModifiedTime":"` + at + `"}}`
		oldC   = `{"$id":"4","properties":{"$id":"5","filename":"b/c d.csv","size":3,"lastModifiedTime":"` + at + `"}}`
		newA   = `{"name":"a.txt","type":"file","contentType":"text/plain; charset=utf-8","sizeInBytes":5,"lastModifiedAt":"` + at + `"}`
		newB   = `{"name":"b","type":"directory","contentType":"inode/directory","sizeInBytes":0,"lastModifiedAt":"` + at + `"}`
		newC   = `{"name":"c d.csv","type":"file","contentType":"text/csv; charset=utf-8","sizeInBytes":3,"lastModifiedAt":"` + at + `","directory":"b"}`
		oldC1  = `{"$id":"2","properties":{"$id":"3","filename":"b/c d.csv","size":3,"lastModifiedTime":"` + at + `"}}`
		closed = `],"nextLink":null}`
	)
	form, kind := fileForm("a.txt", "hello")
	for _, tt := range []struct {
		method, path string
		status       int
		want         string
	}{
		{"POST", "files/upload?" + oldVersion, 200, `{"$id":"1","value":[` + oldA + `]}`},
		{"POST", "python/uploadFile?" + oldVersion, 200, `{"$id":"1","value":[` + oldA + `]}`},
		{"POST", "files?" + newVersion, 200, newA},
		{"GET", "files?" + oldVersion, 200, `{"$id":"1","value":[` + oldA + `,` + oldC + `]}`},
		{"GET", "files?api-version=2024-08-02-preview&identifier=abcd", 200,
			`{"$id":"1","value":[` + oldA + `,` + oldC + `]}`},
		{"GET", "python/files?" + oldVersion, 200, `{"$id":"1","value":[` + oldA + `,` + oldC +
			`]}`},
		{"GET", "files?api-version=2024-10-02-preview&identifier=abcd", 200, `{"value":[` + newA +
			`,` + newB + closed},
		{"GET", "files?api-version=nonsense&identifier=abcd", 200, `{"value":[` + newA + `,` +
			newB + closed},
		{"GET", "files?identifier=abcd", 200, `{"value":[` + newA + `,` + newB + closed},
		{"GET", "files?path=&" + newVersion, 200, `{"value":[` + newA + `,` + newB + closed},
		{"GET", "files?path=%2Fmnt%2Fdata&recursive=True&" + newVersion, 200, `{"value":[` + newA +
			`,` + newB + `,` + newC + closed},
		{"GET", "files?path=/b&" + newVersion, 200, `{"value":[` + newC + closed},
		{"GET", "files/a.txt?" + newVersion, 200, newA},
		{"GET", "files/c%20d.csv?path=b&" + newVersion, 200, newC},
		{"GET", "files/b%2Fc%20d.csv?" + newVersion, 200, newC},
		{"GET", "files/b/c%20d.csv?" + newVersion, 200, newC},
		{"GET", "files/b%2Fc%20d.csv?" + oldVersion, 200, `{"$id":"1","value":[` + oldC1 + `]}`},
		{"DELETE", "files/a.txt?" + oldVersion, 200, `{"message":"file deleted successfully"}`},
		{"DELETE", "files/b?" + newVersion, 204, ""},
		{"GET", "files?" + newVersion, 200, `{"value":[],"nextLink":null}`},
		{"GET", "files?" + oldVersion, 200, `{"$id":"1","value":[]}`},
	} {
		got := w.do(tt.method, tt.path, form, "Content-Type", kind)
		if diff := cmp.Diff(tt.want, got.body); got.status != tt.status || diff != "" {
			t.Errorf("%s %s: status %d (-want +got):\n%s", tt.method, tt.path, got.status, diff)
		}
	}
	for _, path := range []string{"files/gone.txt", "files/content/gone.txt",
		"files/gone.txt/content"} {
		if got := w.do("GET", path+"?"+newVersion, ""); got.status != 404 {
			t.Errorf("%s: %d %s", path, got.status, got.body)
		}
	}
	if got := w.do("GET", "files?recursive=perhaps&"+newVersion, ""); got.status != 400 {
		t.Errorf("recursive=perhaps: %d %s", got.status, got.body)
	}
}

func TestContent(t *testing.T) {
	w := newWorld(t, Options{})
	names := []string{"plain.txt", "with space.txt", "ünïcode.txt", "#hash?and%20percent&.txt",
		"dir/sub/file.txt", "content", "a+b.txt", "mnt.txt"}
	for _, name := range names {
		w.files[name] = []byte("0123456789 " + name)
	}
	for _, name := range names {
		encoded := url.PathEscape(name)
		for _, path := range []string{"files/content/" + encoded + "?" + oldVersion, "files/" +
			encoded + "/content?" + newVersion,
			"files/content/" + strings.ReplaceAll(encoded, "%2F", "/") + "?" + oldVersion,
			"files/content//mnt/data/" + encoded + "?" + oldVersion,
			"python/downloadFile?filename=" + url.QueryEscape(strings.ReplaceAll(name, "+",
				"%2B")) + "&" + oldVersion} {
			if strings.Contains(path, "downloadFile") && strings.ContainsAny(name, " +%") {
				continue // '+' is no space here
			}
			got := w.do("GET", path, "")
			if got.status != 200 || got.body != "0123456789 "+name ||
				got.header.Get("Last-Modified") == "" {
				t.Errorf("GET %s: %d %q %v", path, got.status, got.body, got.header)
			}
		}
	}
	for _, tt := range []struct {
		ranges string
		status int
		body   string
	}{
		{"bytes=0-3", 206, "0123"}, {"bytes=-5", 206, "n.txt"}, {"bytes=999-", 416, ""}, {"lines=1",
			416, ""},
	} {
		got := w.do("GET", "files/plain.txt/content?"+newVersion, "", "Range", tt.ranges)
		if got.status != tt.status || got.body != tt.body {
			t.Errorf("%s: %d %q", tt.ranges, got.status, got.body)
		}
	}
	got := w.do("HEAD", "files/plain.txt/content?"+newVersion, "")
	if got.status != 200 || got.header.Get("Content-Length") != "20" ||
		got.header.Get("Accept-Ranges") != "bytes" {
		t.Errorf("HEAD: %d %v", got.status, got.header)
	}
	w.files["evil.html"] = []byte("<script>")
	got = w.do("GET", "files/content/evil.html?"+oldVersion, "")
	if !strings.HasPrefix(got.header.Get("Content-Disposition"), "attachment") ||
		got.header.Get("Content-Security-Policy") != "sandbox" {
		t.Errorf("a page made in a sandbox may run in a browser: %v", got.header)
	}
}

// endless is an upload of n bytes that is nowhere in memory.
func endless(n int64) (body io.Reader, kind string) {
	const head = "--b\r\nContent-Disposition: form-data; name=\"file\"; " +
		"filename=\"big.bin\"\r\n\r\n"
	return io.MultiReader(strings.NewReader(head), io.LimitReader(zeros{}, n),
		strings.NewReader("\r\n--b--\r\n")), "multipart/form-data; boundary=b"
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// counter is an interpreter that counts what is uploaded and keeps nothing.
type counter struct {
	interpreter.Agent
	largest int
	total   int64
}

func (c *counter) Close() {}

func (c *counter) Upload(_ context.Context, _ string, r io.Reader, limit int64) (agent.FileInfo,
	error) {
	buf := make([]byte, 1<<20)
	for {
		n, err := r.Read(buf)
		c.total += int64(n)
		c.largest = max(c.largest, n)
		switch {
		case c.total > limit:
			return agent.FileInfo{}, agent.TooLarge(limit)
		case err == io.EOF:
			return agent.FileInfo{Name: "big.bin", Path: "big.bin", Type: agent.File,
				Size: c.total}, nil
		case err != nil:
			return agent.FileInfo{}, err
		}
	}
}

// TestLargeUploads checks the default limit to the byte, with and without an
// announced length.
func TestLargeUploads(t *testing.T) {
	const limit = 128 << 20
	for _, tt := range []struct {
		size   int64
		status int
	}{{limit, 200}, {limit + 1, 413}} {
		c := &counter{}
		w := newWorldOf(t, Options{}, func(interpreter.Session) interpreter.Agent { return c })
		body, kind := endless(tt.size)
		req, err := http.NewRequestWithContext(t.Context(), "POST", w.url+endpoint+"/files/upload?"+
			oldVersion, body)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", kind)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != tt.status {
			t.Errorf("%d bytes: status %d after %d bytes, want %d", tt.size, resp.StatusCode,
				c.total, tt.status)
		}
	}
}

// TestStalledUpload checks that a caller who stops sending loses the lease.
func TestStalledUpload(t *testing.T) {
	w := newWorld(t, Options{Stall: time.Second})
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(w.url,
		"http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST %s/files?%s HTTP/1.1\r\nHost: x\r\nContent-Type: "+
		"multipart/form-data; boundary=b\r\nContent-Length: 1000\r\n\r\n"+
		"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nsome",
		endpoint, newVersion)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 400 {
		t.Errorf("status %d", resp.StatusCode)
	}
	if acquired, released := w.counts(); acquired != 1 || released != 1 {
		t.Errorf("acquired %d leases, released %d", acquired, released)
	}
}

// FuzzNames checks that whatever a caller names a file, it stays below the root.
func FuzzNames(f *testing.F) {
	f.Add("files/content/a%2F..%2Fb", "path=/mnt/data/x", "../x")
	f.Add("files/%2e%2e/content", "path=a//b&identifier=abcd", "/mnt/data/mnt/data/c")
	g := &Gateway{routes: compile(routes())}
	f.Fuzz(func(t *testing.T, rest, raw, name string) {
		check := func(p string, err error) {
			if err != nil {
				if e := asError(err); e == nil || e.Target == "" {
					t.Errorf("%q %q %q: error %#v", rest, raw, name, err)
				}
				return
			}
			if p == "" || !filepath.IsLocal(p) || strings.ContainsRune(p, 0) || p != path.Clean(p) {
				t.Errorf("%q %q %q: path %q", rest, raw, name, p)
			}
		}
		c := &call{r: &http.Request{Method: http.MethodGet}, w: httptest.NewRecorder(),
			query: arm.Query{Raw: raw}}
		check(c.resolve(name))
		segments, err := arm.Segments(rest)
		if err != nil {
			return
		}
		if _, err := g.find(c, segments); err == nil && c.name != "" {
			check(c.file())
		}
	})
}
