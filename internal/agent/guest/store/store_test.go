package store_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/agent/guest/store"
)

// serve returns a client of a store, and the directory that it serves.
func serve(t *testing.T) (*agent.Client, string) {
	t.Helper()
	dir := t.TempDir()
	s := &store.Store{Dir: dir, As: func(f func() error) error { return f() },
		Classify: func(err error, _ string) error {
			class := sandpool.Invalid
			var known *sandpool.Error
			switch {
			case err == nil:
				return nil
			case errors.As(err, &known):
				return err
			case errors.Is(err, fs.ErrNotExist):
				class = sandpool.NotFound
			case errors.Is(err, fs.ErrExist):
				class = sandpool.Conflict
			}
			return sandpool.Errorf(class, "", "path", "%v", err)
		},
		Describe: func(name string, info fs.FileInfo) agent.FileInfo {
			return agent.FileInfo{Path: name, Name: path.Base(name), Size: info.Size()}
		}}
	mux := http.NewServeMux()
	s.Register(func(pattern string, h func(http.ResponseWriter, *http.Request) error) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := h(w, r); err != nil {
				agent.WriteError(w, err)
			}
		})
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	c := agent.NewClient(func(ctx context.Context, _ int) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", srv.Listener.Addr().String())
	}, "0123456789abcdef")
	t.Cleanup(c.Close)
	return c, dir
}

func put(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, dir, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Error(err)
	}
	return string(text)
}

// TestMoveAndCopy: both make directories, replace nothing unasked, and never a directory.
func TestMoveAndCopy(t *testing.T) {
	c, dir := serve(t)
	put(t, dir, "a", "one")
	put(t, dir, "b\xff", "two")
	put(t, dir, "d/e/f", "three")
	if f, err := c.Move(t.Context(), "a", "x/y/a", false); err != nil || f.Path != "x/y/a" || get(t, dir, "x/y/a") != "one" {
		t.Errorf("move: %+v, %v", f, err)
	}
	if _, err := c.Move(t.Context(), "b\xff", "x/y/a", false); sandpool.ClassOf(err) != sandpool.Conflict {
		t.Errorf("move over a file: %v", err)
	}
	if _, err := c.Copy(t.Context(), "b\xff", "x/y/a", true); err != nil || get(t, dir, "x/y/a") != "two" || get(t, dir, "b\xff") != "two" {
		t.Errorf("copy over a file: %v", err)
	}
	if err := os.Symlink("f", filepath.Join(dir, "d/e/link")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Copy(t.Context(), "d", "n/d", false); err != nil || get(t, dir, "n/d/e/link") != "three" {
		t.Errorf("copy a directory: %v", err)
	}
	for to, class := range map[string]sandpool.Class{"n": sandpool.Conflict, "d/e/d": sandpool.Invalid} {
		if _, err := c.Copy(t.Context(), "d", to, true); sandpool.ClassOf(err) != class {
			t.Errorf("copy a directory to %s: %v", to, err)
		}
	}
	if _, err := c.Move(t.Context(), "none", "z", false); sandpool.ClassOf(err) != sandpool.NotFound {
		t.Errorf("move nothing: %v", err)
	}
	if err := os.Symlink("/etc", filepath.Join(dir, "out")); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"out/hostname", "../x"} {
		if _, err := c.Copy(t.Context(), bad, "stolen", false); err == nil {
			t.Errorf("copied %s", bad)
		}
		if _, err := c.Move(t.Context(), "x/y/a", path.Dir(bad)+"/new", false); err == nil && bad == "out/hostname" {
			t.Errorf("moved to %s", bad)
		}
	}
}

// TestWhatIsInTheWay: an error names the path that it is about, and says of which parameter.
func TestWhatIsInTheWay(t *testing.T) {
	c, dir := serve(t)
	put(t, dir, "a", "one")
	put(t, dir, "b", "two")
	put(t, dir, "d/f", "three")
	for do, call := range map[string]func(context.Context, string, string,
		bool) (agent.FileInfo, error){"move": c.Move, "copy": c.Copy} {
		for _, tt := range []struct {
			from, to  string
			overwrite bool
			class     sandpool.Class
			target    string
			names     string
		}{
			{"a", "b", false, sandpool.Conflict, "to", `"b" exists`},
			{"a", "d", true, sandpool.Conflict, "to", `"d" is a directory`},
			{"d", "d/e/d", false, sandpool.Invalid, "to", `"d/e/d" is within "d"`},
			{"none", "z", false, sandpool.NotFound, "path", "none"},
			{"a", "../z", false, sandpool.Invalid, "to", ".."},
			{"a", "", false, sandpool.Invalid, "to", "no file"},
			{"a", strings.Repeat("x", 256), false, sandpool.Invalid, "to", "255"},
		} {
			_, err := call(t.Context(), tt.from, tt.to, tt.overwrite)
			var known *sandpool.Error
			if !errors.As(err, &known) || known.Class != tt.class || known.Target != tt.target ||
				!strings.Contains(known.Message, tt.names) {
				t.Errorf("%s %s to %.20s: %+v", do, tt.from, tt.to, err)
			}
		}
	}
	if _, err := os.Lstat(filepath.Join(dir, "d/e")); err == nil {
		t.Error("a move that was refused made a directory")
	}
}

// TestPatch: a part is written at the end alone, so that a broken upload goes on where it was.
func TestPatch(t *testing.T) {
	c, dir := serve(t)
	for _, part := range []struct {
		offset int64
		text   string
		class  sandpool.Class
		size   int64
	}{{0, "hello", 0, 5}, {5, " world", 0, 11}, {5, "again", sandpool.Conflict, 0}, {-1, "!", 0, 12}, {99, "", sandpool.Conflict, 0}} {
		f, err := c.Patch(t.Context(), "p/q", part.offset, strings.NewReader(part.text), 100)
		if (err == nil) != (part.class == 0) || err != nil && sandpool.ClassOf(err) != part.class ||
			f.Size != part.size {
			t.Errorf("%+v: %+v, %v", part, f, err)
		}
	}
	if got := get(t, dir, "p/q"); got != "hello world!" {
		t.Errorf("in the end %q", got)
	}
	if _, err := c.Patch(t.Context(), "p/q", -1, strings.NewReader("more"), 2); sandpool.ClassOf(err) != sandpool.TooLarge {
		t.Errorf("more than the limit: %v", err)
	}
	if f, err := c.Patch(t.Context(), "p/q", 0, strings.NewReader("new"), 100); err != nil || f.Size != 3 {
		t.Errorf("begun again: %+v, %v", f, err)
	}
	if err := os.Symlink("/etc/hostname", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Patch(t.Context(), "link", -1, strings.NewReader("x"), 100); err == nil {
		t.Error("wrote through a link")
	}
	f, err := c.Digest(t.Context(), "p/q")
	if err != nil || f.SHA256 != "11507a0e2f5e69d5dfa40a62a1bd7b6ee57e6bcd85c67c9b8431b36fff21c437" {
		t.Errorf("digest: %+v, %v", f, err)
	}
}

// TestArchives: a directory goes out and in again by either form, and nothing leads out.
func TestArchives(t *testing.T) {
	for _, format := range []string{"tar", "zip"} {
		t.Run(format, func(t *testing.T) {
			c, dir := serve(t)
			put(t, dir, "src/a", "one")
			put(t, dir, "src/deep/b\xff", strings.Repeat("two", 1000))
			put(t, dir, "src/"+agent.UploadPrefix+"x", "no")
			if err := os.Symlink("a", filepath.Join(dir, "src/link")); err != nil {
				t.Fatal(err)
			}
			r, err := c.Pack(t.Context(), "src", format)
			if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(r)
			if err := errors.Join(err, r.Close()); err != nil {
				t.Fatal(err)
			}
			put(t, dir, "dst/a", "old")
			if done, err := c.Unpack(t.Context(), "dst", format, bytes.NewReader(data), 1<<20); err != nil || done.Files != 4 {
				t.Errorf("unpack: %+v, %v", done, err)
			}
			for name, want := range map[string]string{"a": "one", "link": "one", "deep/b\xff": strings.Repeat("two", 1000)} {
				if got := get(t, dir, "dst/"+name); got != want {
					t.Errorf("%q: %.20q", name, got)
				}
			}
			if _, err := os.Lstat(filepath.Join(dir, "dst", agent.UploadPrefix+"x")); err == nil {
				t.Error("an upload on its way is in the archive")
			}
			if _, err := c.Unpack(t.Context(), "dst", format, strings.NewReader("nonsense"+strings.Repeat("x", 2000)), 1<<20); sandpool.ClassOf(err) != sandpool.Invalid {
				t.Errorf("nonsense: %v", err)
			}
			_, err = c.Unpack(t.Context(), "dst", format, strings.NewReader("x\n"), 1<<20)
			var refused *sandpool.Error
			if !errors.As(err, &refused) || refused.Code != "InvalidArchive" {
				t.Errorf("a few bytes: %v", err)
			}
			if _, err := c.Unpack(t.Context(), "dst", format, bytes.NewReader(data), 100); sandpool.ClassOf(err) != sandpool.TooLarge {
				t.Errorf("more than the limit: %v", err)
			}
			if _, err := c.Pack(t.Context(), "none", format); sandpool.ClassOf(err) != sandpool.NotFound {
				t.Errorf("nothing: %v", err)
			}
		})
	}
	if c, _ := serve(t); true {
		if _, err := c.Pack(t.Context(), "", "rar"); sandpool.ClassOf(err) != sandpool.Invalid {
			t.Errorf("another form: %v", err)
		}
	}
}

// TestLongListOfAZip: the list at the end of a zip, which is held in memory, is bounded.
func TestLongListOfAZip(t *testing.T) {
	c, dir := serve(t)
	var packed bytes.Buffer
	zw := zip.NewWriter(&packed)
	for i := range 600 {
		h := &zip.FileHeader{Name: fmt.Sprintf("%03d", i), Extra: make([]byte, 60<<10)}
		if _, err := zw.CreateRaw(h); err != nil {
			t.Fatal(err)
		}
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := c.Unpack(t.Context(), "", "zip", &packed, 1<<30)
	if left, _ := os.ReadDir(dir); sandpool.ClassOf(err) != sandpool.TooLarge || len(left) > 0 {
		t.Errorf("%v; %d files were made", err, len(left))
	}
}

// TestHostileArchives: entries that lead out, by their names or by links before them, make nothing
// outside.
func TestHostileArchives(t *testing.T) {
	outside := t.TempDir()
	entries := []tar.Header{
		{Name: "out", Typeflag: tar.TypeSymlink, Linkname: outside},
		{Name: "out/evil", Typeflag: tar.TypeReg},
		{Name: "../evil", Typeflag: tar.TypeReg},
		{Name: "/evil", Typeflag: tar.TypeReg},
		{Name: "hard", Typeflag: tar.TypeLink, Linkname: "/etc/passwd"},
		{Name: "pipe", Typeflag: tar.TypeFifo},
	}
	for i := range entries {
		c, dir := serve(t)
		var text, packed bytes.Buffer
		tw, zw := tar.NewWriter(&text), zip.NewWriter(&packed)
		for _, h := range entries[:i+1] {
			if h.Name == "../evil" && i > 2 {
				continue // which ends it
			}
			if err := tw.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
			z := &zip.FileHeader{Name: h.Name}
			z.SetMode(h.FileInfo().Mode())
			w, err := zw.CreateHeader(z)
			if err == nil {
				_, err = io.WriteString(w, h.Linkname)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(tw.Close(), zw.Close()); err != nil {
			t.Fatal(err)
		}
		_, _ = c.Unpack(t.Context(), "d", "tar", &text, 1<<20)
		_, _ = c.Unpack(t.Context(), "z", "zip", &packed, 1<<20)
		for _, where := range []string{outside, filepath.Dir(dir)} {
			if _, err := os.Lstat(filepath.Join(where, "evil")); err == nil {
				t.Errorf("%s leads to %s", entries[i].Name, where)
			}
		}
		if _, err := os.Lstat("/evil"); err == nil {
			t.Error("/evil was made")
		}
		if _, err := os.Lstat(filepath.Join(dir, "d/hard")); err == nil {
			t.Error("a hard link was made")
		}
	}
}
