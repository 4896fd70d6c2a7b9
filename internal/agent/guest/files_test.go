package guest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/need"
)

// share serves a directory of the user without a kernel, and returns it with a client.
func share(t *testing.T) (string, *agent.Client) {
	t.Helper()
	dir := t.TempDir()
	user := User{UID: os.Getuid(), GID: os.Getgid()}
	if os.Getuid() == 0 {
		user = User{UID: agent.UserID, GID: agent.GroupID}
		if err := errors.Join(os.Chmod(filepath.Dir(dir), 0o755),
			os.Chown(dir, user.UID, user.GID)); err != nil {
			t.Fatal(err)
		}
	}
	s := NewServer(slog.New(slog.DiscardHandler), Config{DataDir: dir, User: user})
	hash := sha256.Sum256([]byte("secret"))
	s.secret.Store(&hash)
	web := httptest.NewServer(s.Handler())
	t.Cleanup(web.Close)
	c := agent.NewClient(func(ctx context.Context, _ int) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", web.Listener.Addr().String())
	}, "secret")
	t.Cleanup(c.Close)
	return dir, c
}

func upload(t *testing.T, c *agent.Client, path, content string) agent.FileInfo {
	t.Helper()
	info, err := c.Upload(t.Context(), path, strings.NewReader(content), 1<<20)
	if err != nil {
		t.Fatalf("upload %q: %v", path, err)
	}
	return info
}

func names(t *testing.T, c *agent.Client, dir string, recursive bool) []string {
	t.Helper()
	files, err := c.List(t.Context(), dir, recursive, nil)
	if err != nil {
		t.Fatalf("list %q: %v", dir, err)
	}
	var out []string
	for _, f := range files {
		out = append(out, string(f.Type[0])+" "+f.Path)
	}
	return out
}

func wantClass(t *testing.T, what string, err error, want sandpool.Class) {
	t.Helper()
	var e *sandpool.Error
	if !errors.As(err, &e) || e.Class != want || e.Message == "" {
		t.Errorf("%s: error %v, want class %v with a message", what, err, want)
	}
}

// TestFileNames: whatever is a name goes in, is listed and comes out unchanged.
func TestFileNames(t *testing.T) {
	dir, c := share(t)
	for _, name := range []string{"a.txt", "sub/dir/b", "with space", "ä ö 漢", "#%?&=+",
		"new\nline", "-rf", ".hidden", "100%41"} {
		info := upload(t, c, "/mnt/data/"+name, "content of "+name)
		if info.Path != name || info.Size != int64(len("content of "+name)) {
			t.Errorf("upload %q: %+v", name, info)
		}
		got, err := c.Open(t.Context(), name, "")
		if err != nil {
			t.Fatalf("open %q: %v", name, err)
		}
		body, err := io.ReadAll(got.Body)
		if err != nil || string(body) != "content of "+name || got.Status != 200 {
			t.Errorf("content of %q: %d %q %v", name, got.Status, body, err)
		}
		_ = got.Body.Close()
		if os.Getuid() == 0 {
			var st unix.Stat_t
			if err := unix.Stat(filepath.Join(dir, name), &st); err != nil ||
				st.Uid != agent.UserID || st.Gid != agent.GroupID {
				t.Errorf("%q belongs to %d:%d, %v", name, st.Uid, st.Gid, err)
			}
		}
		if err := c.Delete(t.Context(), name); err != nil {
			t.Errorf("delete %q: %v", name, err)
		}
	}
	if got := names(t, c, "", true); !slices.Equal(got, []string{"d sub", "d sub/dir"}) {
		t.Errorf("left over: %q", got)
	}
}

// TestUploadIsAtomic: a file is there whole or not at all.
func TestUploadIsAtomic(t *testing.T) {
	_, c := share(t)
	upload(t, c, "f", "old")
	_, err := c.Upload(t.Context(), "f", strings.NewReader(strings.Repeat("x", 101)), 100)
	wantClass(t, "beyond the limit", err, sandpool.TooLarge)
	_, err = c.Upload(t.Context(), "f", io.MultiReader(strings.NewReader("half"),
		iotest.ErrReader(errors.New("gone"))), 100)
	if err == nil {
		t.Error("an upload that broke off has no error")
	}
	content, err := c.Open(t.Context(), "f", "")
	if err != nil {
		t.Fatal(err)
	}
	defer content.Body.Close()
	if body, _ := io.ReadAll(content.Body); string(body) != "old" {
		t.Errorf("content %q after failed uploads", body)
	}
	upload(t, c, "exact", strings.Repeat("x", 100))
	if got := names(t, c, "", true); !slices.Equal(got, []string{"f exact", "f f"}) {
		t.Errorf("files %q", got)
	}
}

// TestFullDisk: an upload for which there is no room is told so, however much of it is still to
// come.
func TestFullDisk(t *testing.T) {
	dir, c := share(t)
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m,mode=777"); err != nil {
		need.Lack(t, "no file system to fill: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	for range 20 {
		_, err := c.Upload(t.Context(), "f", io.LimitReader(zeros{}, 32<<20), 64<<20)
		var e *sandpool.Error
		if !errors.As(err, &e) || e.Code != "DiskFull" {
			t.Errorf("an upload to a full disk: %v", err)
		}
	}
	if got := names(t, c, "", true); len(got) != 0 {
		t.Errorf("left over: %q", got)
	}
	upload(t, c, "f", "there is room again")
}

// zeros is an endless reader.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestRanges: content comes in parts, with what HTTP clients need to know.
func TestRanges(t *testing.T) {
	_, c := share(t)
	upload(t, c, "f.csv", "0123456789")
	for _, x := range []struct {
		header string
		status int
		body   string
	}{{"", 200, "0123456789"}, {"bytes=2-4", 206, "234"}, {"bytes=-3", 206, "789"}, {"bytes=8-",
		206, "89"}, {"bytes=20-", 416, "-"}} {
		got, err := c.Open(t.Context(), "f.csv", x.header)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(got.Body)
		_ = got.Body.Close()
		if err != nil || got.Status != x.status || x.body != "-" && string(body) != x.body {
			t.Errorf("%q: %d %q %v", x.header, got.Status, body, err)
		}
		if x.status != 416 && (got.Header.Get("Content-Type") != "text/csv; charset=utf-8" ||
			got.Header.Get("Last-Modified") == "") {
			t.Errorf("%q: header %v", x.header, got.Header)
		}
	}
}

// TestEscapes: no link leads out of the directory, and nothing but regular
// files is read.
func TestEscapes(t *testing.T) {
	dir, c := share(t)
	outside := filepath.Join(t.TempDir(), "outside")
	if err := errors.Join(os.Mkdir(outside, 0o777), os.Chmod(outside, 0o777),
		os.WriteFile(filepath.Join(outside, "f"), []byte("secret"), 0o666)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(
		os.Symlink(outside, filepath.Join(dir, "out")), os.Symlink("/etc/passwd",
			filepath.Join(dir, "passwd")),
		os.Symlink("../../..", filepath.Join(dir, "up")), os.Symlink("loop",
			filepath.Join(dir, "loop")),
		os.WriteFile(filepath.Join(dir, "real"), []byte("real"), 0o644), os.Symlink("real",
			filepath.Join(dir, "inside")),
		unix.Mkfifo(filepath.Join(dir, "fifo"), 0o666), os.Link(filepath.Join(dir, "real"),
			filepath.Join(dir, "hard")),
	); err != nil {
		t.Fatal(err)
	}
	if l, err := net.Listen("unix", filepath.Join(dir, "socket")); err != nil {
		t.Fatal(err)
	} else {
		defer l.Close()
	}
	for _, p := range []string{"out/f", "passwd", "up/etc/passwd", "loop", "fifo", "socket",
		"out"} {
		if got, err := c.Open(t.Context(), p, ""); err == nil {
			_ = got.Body.Close()
			t.Errorf("%q can be read", p)
		}
	}
	for _, p := range []string{"out/new", "up/new", "out/f"} {
		if _, err := c.Upload(t.Context(), p, strings.NewReader("x"), 10); err == nil {
			t.Errorf("%q can be written", p)
		}
		if err := c.Delete(t.Context(), p); err == nil {
			t.Errorf("%q can be deleted", p)
		}
	}
	for _, p := range []string{"inside", "hard"} {
		got, err := c.Open(t.Context(), p, "")
		if err != nil {
			t.Fatalf("open %q: %v", p, err)
		}
		body, _ := io.ReadAll(got.Body)
		_ = got.Body.Close()
		if string(body) != "real" {
			t.Errorf("%q holds %q", p, body)
		}
	}
	want := []string{"o fifo", "f hard", "f inside", "o loop", "o out", "o passwd", "f real",
		"o socket", "o up"}
	if got := names(t, c, "", true); !slices.Equal(got, want) {
		t.Errorf("listed %q, want %q", got, want)
	}
	// A link at the place of a file is replaced, not followed; deleting one leaves its target.
	upload(t, c, "passwd", "mine")
	if err := c.Delete(t.Context(), "out"); err != nil {
		t.Error(err)
	}
	if body, err := os.ReadFile(filepath.Join(outside, "f")); err != nil ||
		string(body) != "secret" {
		t.Errorf("the file outside: %q, %v", body, err)
	}
}

// TestFileErrors: what cannot be done is an error that says what and why.
func TestFileErrors(t *testing.T) {
	dir, c := share(t)
	upload(t, c, "d/f", "x")
	_, err := c.Open(t.Context(), "none", "")
	wantClass(t, "open what is not there", err, sandpool.NotFound)
	_, err = c.Open(t.Context(), "d", "")
	wantClass(t, "open a directory", err, sandpool.Conflict)
	_, err = c.Stat(t.Context(), "d/f/g")
	wantClass(t, "stat beneath a file", err, sandpool.Conflict)
	_, err = c.List(t.Context(), "none", false, nil)
	wantClass(t, "list what is not there", err, sandpool.NotFound)
	for _, file := range []string{"d/f", "d/f/g"} {
		_, err = c.List(t.Context(), file, false, nil)
		if wantClass(t, "list "+file, err, sandpool.Conflict); err == nil ||
			!strings.Contains(err.Error(), "not a directory") {
			t.Errorf("list %s: %v", file, err)
		}
	}
	_, err = c.Upload(t.Context(), "d", strings.NewReader("x"), 10)
	wantClass(t, "upload over a directory", err, sandpool.Conflict)
	_, err = c.Upload(t.Context(), "d/f/g", strings.NewReader("x"), 10)
	wantClass(t, "upload beneath a file", err, sandpool.Conflict)
	_, err = c.Upload(t.Context(), "/", strings.NewReader("x"), 10)
	wantClass(t, "upload without a name", err, sandpool.Invalid)
	wantClass(t, "delete what is not there", c.Delete(t.Context(), "none"), sandpool.NotFound)
	wantClass(t, "delete the root", c.Delete(t.Context(), "/mnt/data"), sandpool.Invalid)
	wantClass(t, "a parent reference", c.Delete(t.Context(), "../x"), sandpool.Invalid)
	if os.Getuid() == 0 {
		if err := os.WriteFile(filepath.Join(dir, "roots"), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err = c.Open(t.Context(), "roots", "")
		wantClass(t, "open a file of root", err, sandpool.Denied)
	}
}

// TestDeepTree: a tree of any depth is listed as far as is sensible, and deleted; a sparse
// file is read in parts.
func TestDeepTree(t *testing.T) {
	dir, c := share(t)
	path := strings.Repeat("d/", 1500)
	if err := c.Mkdir(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	if got := names(t, c, "", true); len(got) != maxDepth+1 {
		t.Errorf("listed %d directories", len(got))
	}
	if err := c.Delete(t.Context(), "d"); err != nil {
		t.Error(err)
	}
	if f, err := os.Create(filepath.Join(dir, "sparse")); err != nil {
		t.Fatal(err)
	} else if err := errors.Join(f.Truncate(1<<40), f.Chmod(0o644), f.Close()); err != nil {
		t.Fatal(err)
	}
	if info, err := c.Stat(t.Context(), "sparse"); err != nil || info.Size != 1<<40 {
		t.Errorf("sparse file: %+v, %v", info, err)
	}
	got, err := c.Open(t.Context(), "sparse", "bytes=1000000000000-1000000000003")
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	if body, _ := io.ReadAll(got.Body); !bytes.Equal(body, make([]byte, 4)) {
		t.Errorf("part of a sparse file: %q", body)
	}
}

// TestFaultsOfTheDisk: what the host logs of an error that nobody expects has no names in it.
func TestFaultsOfTheDisk(t *testing.T) {
	const name = "Pr1vate"
	for _, err := range []error{
		unix.EIO,
		&fs.PathError{Op: "read", Path: "/mnt/data/" + name, Err: unix.EIO},
		&os.LinkError{Op: "renameat", Old: name, New: name, Err: unix.EIO},
		fmt.Errorf("locate %q: %w", name, &fs.PathError{Op: "readlink", Path: name, Err: unix.EIO}),
	} {
		got := classify(err, name)
		if !errors.Is(got, unix.EIO) || strings.Contains(got.Error(), name) {
			t.Errorf("%v became %v", err, got)
		}
	}
}
