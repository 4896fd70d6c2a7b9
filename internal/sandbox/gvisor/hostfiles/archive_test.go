package hostfiles

import (
	"archive/tar"
	"bytes"
	"io"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/sandpool/sandpool/internal/sandbox"
)

func unpack(t *testing.T, f Files) (texts map[string]string, modes map[string]int64) {
	t.Helper()
	data, err := f.Archive()
	if err != nil {
		t.Fatal(err)
	}
	texts, modes = map[string]string{}, map[string]int64{}
	in := tar.NewReader(bytes.NewReader(data))
	for {
		h, err := in.Next()
		if err == io.EOF {
			return texts, modes
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, twice := modes[h.Name]; twice {
			t.Errorf("%s is there twice", h.Name)
		}
		text, _ := io.ReadAll(in)
		texts[h.Name], modes[h.Name] = string(text), h.Mode
		if dir := h.Name[:strings.LastIndex(strings.TrimSuffix(h.Name, "/"), "/")+1]; h.Name != "./" {
			if _, ok := modes[dir]; !ok {
				t.Errorf("%s comes before %s", h.Name, dir)
			}
		}
	}
}

// A root's own certificates stay, wherever it has them, and links to them are followed inside it.
func TestTrust(t *testing.T) {
	link := func(to string) *fstest.MapFile {
		return &fstest.MapFile{Data: []byte(to), Mode: fs.ModeSymlink | 0o777}
	}
	text := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s), Mode: 0o644} }
	for name, test := range map[string]struct {
		root fstest.MapFS
		want map[string]string
		main string
	}{
		"Debian": {fstest.MapFS{"etc/ssl/certs/ca-certificates.crt": text("old\n"),
			"usr/local/share": {Mode: fs.ModeDir | 0o775}},
			map[string]string{"./etc/ssl/certs/ca-certificates.crt": "old\nnew\n"},
			"/etc/ssl/certs/ca-certificates.crt"},
		"Alpine": {fstest.MapFS{"etc/ssl/certs/ca-certificates.crt": text("old"),
			"etc/ssl/cert.pem": link("certs/ca-certificates.crt")},
			map[string]string{"./etc/ssl/certs/ca-certificates.crt": "old\nnew\n"},
			"/etc/ssl/certs/ca-certificates.crt"},
		"Fedora": {fstest.MapFS{
			"etc/pki/tls/certs/ca-bundle.crt":        link("/etc/pki/ca-trust/extracted/pem/all.pem"),
			"etc/pki/ca-trust/extracted/pem/all.pem": text("old\n"),
			"etc/ssl/certs":                          link("../pki/tls/certs")},
			map[string]string{"./etc/pki/ca-trust/extracted/pem/all.pem": "old\nnew\n"},
			"/etc/pki/ca-trust/extracted/pem/all.pem"},
		"nothing": {fstest.MapFS{"app": text("")},
			map[string]string{"./etc/ssl/certs/ca-certificates.crt": "new\n"},
			"/etc/ssl/certs/ca-certificates.crt"},
		"a linked directory": {fstest.MapFS{"etc/ssl": link("/usr/ssl"),
			"usr/ssl/certs": {Mode: fs.ModeDir | 0o755}},
			map[string]string{"./usr/ssl/certs/ca-certificates.crt": "new\n"},
			"/usr/ssl/certs/ca-certificates.crt"},
		"a loop": {fstest.MapFS{"etc/ssl/cert.pem": link("cert.pem")},
			map[string]string{"./etc/ssl/certs/ca-certificates.crt": "new\n"},
			"/etc/ssl/certs/ca-certificates.crt"},
	} {
		trust, err := NewTrust(test.root, "new\n")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		texts, modes := unpack(t, Files{Trust: trust})
		test.want["./"+added] = "new\n"
		for at, want := range test.want {
			if texts[at] != want {
				t.Errorf("%s: %s is %q, want %q", name, at, texts[at], want)
			}
		}
		for at, got := range texts {
			if got != "" && test.want[at] == "" {
				t.Errorf("%s: %s is written", name, at)
			}
		}
		if name == "Debian" && modes["./usr/local/share/"] != 0o775 {
			t.Errorf("a directory of the root has the mode %o now", modes["./usr/local/share/"])
		}
		env := trust.Env([]string{"SSL_CERT_FILE=/own"})
		for _, want := range []string{"SSL_CERT_FILE=/own", "REQUESTS_CA_BUNDLE=" + test.main,
			"NODE_EXTRA_CA_CERTS=/" + added} {
			if !slices.Contains(env, want) {
				t.Errorf("%s: %s is not in %q", name, want, env)
			}
		}
	}
}

// A sandbox gets the files that its template asks for, and no others.
func TestHostFiles(t *testing.T) {
	at := netip.MustParseAddr("198.18.0.1")
	for which, want := range map[sandbox.HostFiles][]string{sandbox.NoHostFiles: nil,
		sandbox.ResolverFile: {"./etc/resolv.conf"},
		sandbox.AllHostFiles: {"./etc/resolv.conf", "./etc/hosts", "./etc/hostname"}} {
		texts, _ := unpack(t, Files{Which: which, Name: "box", Resolver: at})
		n := 0
		for name, text := range texts {
			if text != "" {
				n++
				if !slices.Contains(want, name) {
					t.Errorf("%q: %s is there", which, name)
				}
			}
		}
		if n != len(want) {
			t.Errorf("%q: %d files, want %q", which, n, want)
		}
		if s := texts["./etc/resolv.conf"]; which != "" && s != "nameserver 198.18.0.1\n" {
			t.Errorf("the resolver is %q", s)
		}
	}
}
