package escape_test

import (
	"archive/tar"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/sandpool/sandpool/internal/image"
	"github.com/sandpool/sandpool/internal/need"
	"github.com/sandpool/sandpool/internal/oci/ocitest"
)

// A hostileLayer is what an image is made of, and what becomes of a pool of it.
type hostileLayer struct {
	name    string
	entries []ocitest.Entry
	// wrap is how the registry serves it; nil is as it should.
	wrap func(http.ResponseWriter, *http.Request) http.ResponseWriter
	// says is in the pool's problem. What it says has nothing of the host.
	says string
}

func symlink(name, target string) ocitest.Entry {
	return ocitest.Entry{Header: tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target,
		Mode: 0o777}}
}

func hardLink(name, target string) ocitest.Entry {
	return ocitest.Entry{Header: tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: target}}
}

// hostileLayers try to leave the image's root for marker, a folder of the host; to be more than
// this machine can hold; or to be another image than they say.
func hostileLayers(marker string) []hostileLayer {
	up := strings.Repeat("../", 40)
	var many []ocitest.Entry
	for i := range 600_000 {
		many = append(many, ocitest.Entry{Header: tar.Header{Name: fmt.Sprintf("%d", i),
			Typeflag: tar.TypeReg, Mode: 0o644}})
	}
	chain := []ocitest.Entry{symlink("l0", "/")}
	for i := range 60 {
		chain = append(chain, symlink(fmt.Sprintf("l%d", i+1), fmt.Sprintf("l%d", i)))
	}
	noise := make([]byte, 3*large)
	_, _ = rand.Read(noise)
	big := ocitest.File("x", 0o644, string(noise))
	return []hostileLayer{
		{name: "traversal", entries: []ocitest.Entry{ocitest.File(up+marker[1:]+"/traversal", 0o644,
			"x")}, says: "layer"},
		{name: "traversal in the middle", entries: []ocitest.Entry{ocitest.File("a/"+up+marker[1:]+
			"/middle", 0o644, "x")}, says: "layer"},
		{name: "hard link out", entries: []ocitest.Entry{hardLink("shadow", up+"etc/shadow")},
			says: "layer"},
		{name: "hard link to nothing", entries: []ocitest.Entry{hardLink("shadow", "/etc/shadow")},
			says: "layer"},
		{name: "endless links", entries: append(chain, ocitest.File("l60/etc/x", 0o644, "x")),
			says: "layer"},
		{name: "links in a circle", entries: []ocitest.Entry{symlink("a", "b"), symlink("b", "a"),
			ocitest.File("a/x", 0o644, "x")}, says: "layer"},
		{name: "names without number", entries: many, says: "files and folders"},
		{name: "a long name", entries: []ocitest.Entry{ocitest.File(strings.Repeat("n", 300), 0o644,
			"x")}, says: "layer"},
		{name: "a lie", entries: []ocitest.Entry{big}, wrap: lies(changed),
			says: "is not what its digest"},
		{name: "an endless stream", entries: []ocitest.Entry{big}, wrap: endless,
			says: "more than the"},
		{name: "cut short", entries: []ocitest.Entry{big}, wrap: lies(short), says: "registry"},
	}
}

// large is more than the configuration of an image has, and less than a layer that a registry
// lies about.
const large = 64 << 10

// A liar is an answer whose body is changed piece by piece, if it is that of a large layer.
type liar struct {
	http.ResponseWriter
	lie func(w io.Writer, p []byte) error
	big bool
}

func lies(lie func(w io.Writer, p []byte) error) func(http.ResponseWriter,
	*http.Request) http.ResponseWriter {
	return func(w http.ResponseWriter, _ *http.Request) http.ResponseWriter {
		return &liar{ResponseWriter: w, lie: lie}
	}
}

func (l *liar) WriteHeader(status int) {
	length := l.Header().Get("Content-Length")
	n, err := strconv.Atoi(length)
	l.big = err == nil && n > large
	l.ResponseWriter.WriteHeader(status)
}

func (l *liar) Write(p []byte) (int, error) {
	if !l.big {
		return l.ResponseWriter.Write(p)
	}
	return len(p), l.lie(l.ResponseWriter, p)
}

// changed changes a byte.
func changed(w io.Writer, p []byte) error {
	out := slices.Clone(p)
	out[len(out)/2] ^= 1
	_, err := w.Write(out)
	return err
}

// endless says nothing of a length and never ends.
func endless(w http.ResponseWriter, _ *http.Request) http.ResponseWriter {
	return &liar{ResponseWriter: &unsized{w}, lie: func(w io.Writer, p []byte) error {
		for {
			if _, err := w.Write(p); err != nil {
				return err
			}
		}
	}}
}

// short ends before its length.
func short(w io.Writer, p []byte) error {
	_, err := w.Write(p[:len(p)/2])
	return err
}

// unsized takes the length out of an answer.
type unsized struct{ http.ResponseWriter }

func (u *unsized) WriteHeader(status int) {
	u.Header().Del("Content-Length")
	u.ResponseWriter.WriteHeader(status)
}

// TestHostileImages makes pools of hostile images, from a hostile registry. Each fails, says why,
// and leaves neither half an image nor anything outside of it.
func TestHostileImages(t *testing.T) {
	need.Data(t)
	k := newServer(t, "")
	marker := t.TempDir()
	for i, l := range hostileLayers(marker) {
		t.Run(l.name, func(t *testing.T) {
			hub := ocitest.NewHub(t)
			var asked atomic.Int64
			hub.Wrap = func(w http.ResponseWriter, r *http.Request) http.ResponseWriter {
				asked.Add(1)
				if l.wrap != nil {
					return l.wrap(w, r)
				}
				return w
			}
			hub.Push("hostile:1", ocitest.Image{Layers: []string{ocitest.Layer(t, l.entries...)},
				Config: v1.Config{Entrypoint: []string{"/x"}}})
			pool := fmt.Sprintf("hostile-%d", i)
			begin := time.Now()
			_, err := k.PutPool(t.Context(), pool, customPool(hub.Host()+"/hostile:1"))
			t.Logf("after %v and %d requests: %v", time.Since(begin), asked.Load(), err)
			if err == nil {
				t.Error("the pool can be used")
			} else if !strings.Contains(err.Error(), l.says) ||
				strings.Contains(err.Error(), k.dir) {
				t.Errorf("the pool fails: %v; want something about %q, and nothing of %s", err,
					l.says, k.dir)
			}
			if _, err := k.DeletePool(t.Context(), pool); err != nil {
				t.Error(err)
			}
			k.noImages(t)
		})
	}
	if left, err := os.ReadDir(marker); err != nil || len(left) > 0 {
		t.Errorf("on the host: %v, %v", left, err)
	}
}

// noImages fails the test for anything that the server has of an image.
func (k *target) noImages(t *testing.T) {
	t.Helper()
	dir := filepath.Join(k.dir, "images")
	if half, err := os.ReadDir(filepath.Join(dir, "tmp")); err == nil && len(half) > 0 {
		t.Errorf("left behind: %v", half)
	}
	store, err := image.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if all, err := store.List(); err != nil || len(all) > 0 {
		t.Errorf("left behind: images %v, %v", all, err)
	}
}
