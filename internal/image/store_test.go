package image

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/erofs"
	"github.com/sandpool/sandpool/internal/erofs/erofstest"
	"github.com/sandpool/sandpool/internal/need"
)

func openStore(t *testing.T) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "images"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func put(t *testing.T, s *Store, name, content string) Image {
	t.Helper()
	i, err := s.Put(t.Context(), name, []erofs.Entry{erofs.File("f", 0o644, []byte(content))})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func list(t *testing.T, s *Store) []Image {
	t.Helper()
	all, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// An image is found by name and by digest, also by the next process.
func TestStorePutResolve(t *testing.T) {
	s := openStore(t)
	i := put(t, s, "agent", "one")
	again, err := Open(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{"agent", i.Digest, i.Digest[:len("sha256:")+12]} {
		got, err := again.Resolve(ref)
		if err != nil || got.Digest != i.Digest || got.Path != i.Path || got.Size != i.Size ||
			!got.Created.Equal(i.Created) {
			t.Errorf("resolve %q: %+v, %v; want %+v", ref, got, err, i)
		}
	}
	if got := erofstest.Read(t, i.Path)["f"].Content; got != "one" {
		t.Errorf("read back %q", got)
	}
	if info, err := os.Stat(i.Path); err != nil || info.Size() != i.Size ||
		info.Mode().Perm()&0o222 != 0 {
		t.Errorf("the file: %v, %v; want %d bytes that nobody writes to", info, err, i.Size)
	}
	if l := i.Layer("/opt"); l.Digest != i.Digest || l.Path != i.Path || l.Target != "/opt" {
		t.Errorf("layer %+v", l)
	}
}

// What is not there is an error that says how to get it; part of a digest
// that could be many images' finds none.
func TestStoreResolveUnknown(t *testing.T) {
	s := openStore(t)
	i := put(t, s, "agent", "one")
	for ref, advice := range map[string]string{
		"python": "image build python", "pythonn": "image list", i.Digest[:12]: "image list",
		"": "image list",
	} {
		_, err := s.Resolve(ref)
		if sandpool.ClassOf(err) != sandpool.NotFound || !strings.Contains(err.Error(), advice) {
			t.Errorf("resolve %q: %v, want class not found with %q", ref, err, advice)
		}
	}
}

// Equal content is one file; a name that moves on leaves the earlier image
// until it is pruned.
func TestStoreNames(t *testing.T) {
	s := openStore(t)
	a, b := put(t, s, "a", "same"), put(t, s, "b", "same")
	if a.Digest != b.Digest {
		t.Fatalf("the same content has digests %s and %s", a.Digest, b.Digest)
	}
	later := put(t, s, "a", "new")
	if all := list(t, s); len(all) != 2 || all[0].Digest != later.Digest || all[1].Name != "b" {
		t.Fatalf("listed %+v, want a and b", all)
	}
	if err := s.Remove("b"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Resolve(b.Digest); sandpool.ClassOf(err) != sandpool.NotFound {
		t.Errorf("the last name was removed, and resolving the digest gives %v", err)
	}

	put(t, s, "a", "newest")
	all := list(t, s)
	if len(all) != 2 || all[1].Name != "" || all[1].Digest != later.Digest || all[1].Size == 0 {
		t.Fatalf("listed %+v, want a and the image it meant", all)
	}
	if gone, err := s.Prune(func(i Image) bool { return i.Digest == later.Digest }); err != nil ||
		len(gone) > 0 {
		t.Errorf("pruned %+v, which was to be kept, %v", gone, err)
	}
	if gone, err := s.Prune(nil); err != nil || len(gone) != 1 || gone[0].Digest != later.Digest {
		t.Errorf("pruned %+v, %v; want %s", gone, err, later.Digest)
	}
	if all := list(t, s); len(all) != 1 || all[0].Name != "a" {
		t.Errorf("after pruning: %+v, want a", all)
	}
}

// Removing one of two names leaves the image to the other.
func TestStoreRemoveShared(t *testing.T) {
	s := openStore(t)
	put(t, s, "a", "same")
	put(t, s, "b", "same")
	if err := s.Remove("a"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Resolve("b"); err != nil {
		t.Errorf("resolve b: %v", err)
	}
	if err := s.Remove("a"); sandpool.ClassOf(err) != sandpool.NotFound {
		t.Errorf("remove a again: %v, want class not found", err)
	}
}

// Names that are no names are refused, wherever they would lead.
func TestStoreBadNames(t *testing.T) {
	s := openStore(t)
	for _, name := range []string{"", ".", "..", "../x", "a/b", "A", "-a", "a ", "sha256:x",
		strings.Repeat("a", 65)} {
		if _, err := s.Put(t.Context(), name, nil); sandpool.ClassOf(err) != sandpool.Invalid {
			t.Errorf("put %q: %v, want class invalid", name, err)
		}
		if _, err := s.Build(t.Context(), Recipe{Name: name}, nil); sandpool.ClassOf(
			err) != sandpool.Invalid {
			t.Errorf("build %q: %v, want class invalid", name, err)
		}
	}
}

// A damaged name file is an error that names it, never a path outside the store.
func TestStoreDamagedName(t *testing.T) {
	s := openStore(t)
	put(t, s, "y", "whole")
	for _, text := range []string{"", "{", `{"digest":"../../../etc/passwd"}`} {
		if err := os.WriteFile(filepath.Join(s.names(), "x.json"), []byte(text),
			0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Resolve("x"); err == nil || !strings.Contains(err.Error(), `"x"`) {
			t.Errorf("%q: error %v, want one that names x", text, err)
		}
	}
}

// A name whose file is gone is an error, not an image that cannot be mounted.
func TestStoreLostFile(t *testing.T) {
	s := openStore(t)
	i := put(t, s, "a", "x")
	if err := os.Remove(i.Path); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Resolve("a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("resolve: %v, want that the file does not exist", err)
	}
}

// Open removes the folders of builders that died, and only those.
func TestStoreSweep(t *testing.T) {
	s := openStore(t)
	alive, err := s.newWork()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := alive.remove(); err != nil {
			t.Error(err)
		}
	}()
	dead, err := s.newWork()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dead.dir, "image.erofs"), []byte("half"),
		0o444); err != nil {
		t.Fatal(err)
	}
	dead.lock.Close()                        // as the kernel does for a process that dies
	half := filepath.Join(s.tmp(), "name-1") // of a writer that died with the lock
	if err := os.WriteFile(half, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	opened := make(chan error, 1)
	err = s.locked(func() error {
		go func() {
			_, err := Open(s.dir)
			opened <- err
		}()
		written := filepath.Join(s.tmp(), "name-2")
		if err := os.WriteFile(written, nil, 0o600); err != nil {
			return err
		}
		return os.Rename(written, filepath.Join(s.names(), "b.json"))
	})
	if err := errors.Join(err, <-opened); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{alive.dir: true, dead.dir: false, half: false,
		filepath.Join(s.names(), "b.json"): true} {
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s: %v, want there: %t", path, err, want)
		}
	}
}

// Nothing is deleted while something is mounted in it.
func TestStoreSweepMounted(t *testing.T) {
	need.Root(t)
	s := openStore(t)
	w, err := s.newWork()
	if err != nil {
		t.Fatal(err)
	}
	at := filepath.Join(w.dir, "proc")
	if err := os.Mkdir(at, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", at, "tmpfs", 0, ""); err != nil {
		need.Lack(t, "this machine lets nobody mount: %v", err)
	}
	defer func() {
		if err := unix.Unmount(at, 0); err != nil {
			t.Error(err)
		}
	}()
	if err := os.WriteFile(filepath.Join(at, "precious"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := w.remove(); err == nil || !strings.Contains(err.Error(), at) {
		t.Errorf("remove: %v, want an error that names the mount", err)
	}
	if _, err := os.Stat(filepath.Join(at, "precious")); err != nil {
		t.Error(err)
	}
}

// What is written for a name is what the documentation of Image says.
func TestStoreNameFile(t *testing.T) {
	s := openStore(t)
	i := put(t, s, "agent", "x")
	text, err := os.ReadFile(filepath.Join(s.names(), "agent.json"))
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if got["digest"] != i.Digest || got["size"] != float64(i.Size) || got["path"] != nil {
		t.Errorf("the file says %v", got)
	}
}

// Looking at a store that is not there makes nothing; what makes it lets nobody else in.
func TestStoreIsMadeByWriters(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	dir := filepath.Join(data, "images")
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if all := list(t, s); len(all) != 0 {
		t.Errorf("listed %+v", all)
	}
	if _, err := s.Resolve("python"); sandpool.ClassOf(err) != sandpool.NotFound {
		t.Errorf("resolve: %v, want class not found", err)
	}
	if gone, err := s.Prune(nil); err != nil || len(gone) > 0 {
		t.Errorf("prune: %+v, %v", gone, err)
	}
	if _, err := os.Stat(data); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("reading made %s: %v", data, err)
	}
	put(t, s, "a", "x")
	for _, d := range []string{data, dir} {
		if info, err := os.Stat(d); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v; want mode 0700", d, info, err)
		}
	}
}
