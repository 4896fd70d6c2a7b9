// Package erofstest reads images back in tests, with gVisor's own reader, as a sandbox does.
package erofstest

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"strings"
	"testing"

	goerofs "github.com/erofs/go-erofs"
	"gvisor.dev/gvisor/pkg/erofs"
)

// Fact is what a reader finds at one path.
type Fact struct {
	Mode    uint16
	UID     uint32
	GID     uint32
	Links   uint32
	Mtime   uint64
	Content string // of a file or a link; of a long one its hash
}

// Content is how a Fact shows content: short content as it is, long content by its hash.
func Content(b string) string {
	if len(b) <= 64 {
		return b
	}
	return fmt.Sprintf("%d bytes %x", len(b), sha256.Sum256([]byte(b)))
}

// Read reads an image with gVisor's own reader, as a sandbox does.
func Read(t testing.TB, file string) map[string]Fact {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	img, err := erofs.OpenImage(f)
	if err != nil {
		t.Fatalf("gVisor does not open the image: %v", err)
	}
	defer img.Close()
	out := map[string]Fact{}
	if err := visit(img, ".", img.RootNid(), out); err != nil {
		t.Fatal(err)
	}
	return out
}

func visit(img *erofs.Image, name string, nid uint64, out map[string]Fact) error {
	node, err := img.Inode(nid)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	got := Fact{Mode: node.Mode(), UID: node.UID(), GID: node.GID(), Links: node.Nlink(),
		Mtime: node.Mtime()}
	switch {
	case node.IsSymlink():
		var target string
		target, err = node.Readlink()
		got.Content = Content(target)
	case node.IsRegular() && node.Size() > 0:
		var off uint64
		off, err = node.DataOffset() // what gVisor maps; refuses inline data
		if err == nil {
			var b []byte
			b, err = img.BytesAt(off, node.Size())
			got.Content = Content(string(b))
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	out[name] = got
	if !node.IsDir() {
		return nil
	}
	seen := ""
	return node.IterDirents(func(child string, typ uint8, to uint64) error {
		if child <= seen {
			return fmt.Errorf("%s: %q follows %q", name, child, seen)
		}
		seen = child
		// Lookup goes another way than listing: it searches.
		found, err := node.Lookup(child)
		if err != nil || found != to {
			return fmt.Errorf("%s/%s: lookup finds %d, %v; the listing says %d", name, child, found,
				err, to)
		}
		if child == "." || child == ".." {
			return nil
		}
		return visit(img, path.Join(name, child), to, out)
	})
}

// Xattrs reads the extended attributes of one path, with gVisor's reader and with an independent
// implementation of the format, which must agree.
func Xattrs(t testing.TB, file, name string) map[string]string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	other, err := goerofs.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	info, err := fs.Stat(other, name)
	if err != nil {
		t.Fatal(err)
	}
	want := info.(interface{ GetAllXattr() map[string]string }).GetAllXattr()
	img, err := erofs.OpenImage(f)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	nid := img.RootNid()
	for part := range strings.SplitSeq(name, "/") {
		dir, err := img.Inode(nid)
		if err == nil {
			nid, err = dir.Lookup(part)
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	node, err := img.Inode(nid)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	// What third_party/gvisor adds; without it the inode could not be read.
	reader, ok := any(&node).(interface {
		IterXattrs(func(name, value string) bool) error
	})
	if !ok {
		t.Fatal("this gVisor reads no extended attributes: run make gvisor")
	}
	got := map[string]string{}
	if err := reader.IterXattrs(func(name,
		value string) bool {
		got[name] = value
		return true
	}); err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(got, want) {
		t.Errorf("%s: gVisor reads %q, the other reader %q", name, got, want)
	}
	return got
}
