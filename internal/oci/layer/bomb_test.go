package layer

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/sandpool/sandpool"
)

// zeros is an endless source.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// stop is how much of an endless layer a test would let pass.
const stop = 1 << 30

// produce streams what write writes, so that a test needs no memory for a bomb.
func produce(write func(io.Writer) error) io.Reader {
	r, w := io.Pipe()
	go func() { w.CloseWithError(write(w)) }()
	return r
}

// Layers that ask for more than they may are cut off, early, and the error says what
// was too much.
func TestBombs(t *testing.T) {
	small := Limits{Bytes: 128 << 20, Entries: 2000, Ratio: 100}
	for _, c := range []struct {
		name  string
		layer io.Reader
		class sandpool.Class
		want  string
	}{
		{"bytes", produce(func(w io.Writer) error {
			tw := tar.NewWriter(w)
			for i := range 3 {
				if err := tw.WriteHeader(&tar.Header{Name: fmt.Sprint(i), Typeflag: tar.TypeReg,
					Size: 60 << 20}); err != nil {
					return err
				}
				if _, err := io.CopyN(tw, zeros{}, 60<<20); err != nil {
					return err
				}
			}
			return tw.Close()
		}), sandpool.TooLarge, "more than 128 MiB"},
		{"ratio", produce(func(w io.Writer) error {
			z := gzip.NewWriter(w)
			tw := tar.NewWriter(z)
			if err := tw.WriteHeader(&tar.Header{Name: "f", Typeflag: tar.TypeReg,
				Size: 100 << 20}); err != nil {
				return err
			}
			_, err := io.CopyN(tw, zeros{}, 100<<20)
			return err
		}), sandpool.TooLarge, "more than 100 times"},
		{"after the end", produce(func(w io.Writer) error {
			if err := tar.NewWriter(w).Close(); err != nil {
				return err
			}
			_, err := io.CopyN(w, zeros{}, stop)
			return err
		}), sandpool.TooLarge, "more than 128 MiB"},
		{"a claim of size", bytes.NewReader(claim(t, 1<<60)), sandpool.TooLarge,
			"more than 128 MiB"},
		{"sparse", bytes.NewReader(sparse(t, 1<<60)), sandpool.TooLarge, "more than 128 MiB"},
		{"sparse ratio", bytes.NewReader(sparse(t, 100<<20)), sandpool.TooLarge,
			"more than 100 times"},
		{"entries", produce(entries(func(i int) tar.Header { return file(fmt.Sprint("f", i)) })),
			sandpool.TooLarge, "more than 2000 files"},
		{"entries of one name", produce(entries(func(int) tar.Header { return file("f") })),
			sandpool.TooLarge, "more than 2000 files"},
		{"whiteouts", produce(entries(func(i int) tar.Header {
			return file(fmt.Sprint(".wh.",
				i))
		})), sandpool.TooLarge, "more than 2000 files"},
		{"hard links", produce(entries(func(i int) tar.Header {
			if i == 0 {
				return file("f")
			}
			return hard(fmt.Sprint(i), "f")
		})), sandpool.TooLarge, "more than 2000 files"},
		{"folders nobody names", produce(entries(func(i int) tar.Header {
			return file(fmt.Sprintf("%d/%sf", i, strings.Repeat("d/", 100)))
		})), sandpool.TooLarge, "more than 2000 files"},
		{"names", produce(entries(func(i int) tar.Header {
			return dir(fmt.Sprintf("%s%d", strings.Repeat(strings.Repeat("d", 200)+"/", 15), i))
		})), sandpool.TooLarge, "names, links and attributes"},
		{"targets", produce(entries(func(i int) tar.Header {
			return link(fmt.Sprint(i),
				strings.Repeat("t", 4000))
		})), sandpool.TooLarge, "names, links and attributes"},
		{"attributes", produce(entries(func(i int) tar.Header {
			return tar.Header{Name: fmt.Sprint(i), Typeflag: tar.TypeDir,
				PAXRecords: map[string]string{"SCHILY.xattr.user.a": strings.Repeat("v", 3000)}}
		})), sandpool.TooLarge, "names, links and attributes"},
		{"steps", produce(entries(func(i int) tar.Header {
			if i < 30 {
				return link(fmt.Sprintf("l%d", i), fmt.Sprintf("l%d/%s", i+1, strings.Repeat("./",
					1000)))
			}
			return file(fmt.Sprintf("l0/f%d", i))
		})), sandpool.Invalid, "steps"},
		{"steps of whiteouts", produce(entries(func(i int) tar.Header {
			if i < 1000 {
				return file(fmt.Sprintf("d/f%d", i))
			}
			return file(".wh.d")
		})), sandpool.Invalid, "steps"},
		{"huge header", bytes.NewReader(pax(t, 64<<20)), sandpool.Invalid, "damaged"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tree := newTree(t, small)
			read := int64(0)
			err := tree.Apply(t.Context(), &meter{r: c.layer, ctx: t.Context(), count: &read}, "")
			if sandpool.ClassOf(err) != c.class || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one of class %s with %q", err, c.class, c.want)
			}
			if size := tree.Size(); size > small.Bytes {
				t.Errorf("%d bytes are on disk", size)
			}
		})
	}
}

// entries streams headers without end.
func entries(header func(int) tar.Header) func(io.Writer) error {
	return func(w io.Writer) error {
		tw := tar.NewWriter(w)
		for i := 0; ; i++ {
			h := header(i)
			content := h.Gname
			if h.Typeflag == tar.TypeReg {
				h.Gname = ""
			}
			if err := tw.WriteHeader(&h); err != nil {
				return err
			}
			if h.Typeflag == tar.TypeReg {
				if _, err := io.WriteString(tw, content); err != nil {
					return err
				}
			}
		}
	}
}

// claim is a layer whose only file says that it has size bytes.
func claim(t *testing.T, size int64) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := tar.NewWriter(&b).WriteHeader(&tar.Header{Name: "f", Typeflag: tar.TypeReg,
		Size: size}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// sparse is a layer with a file of size bytes of which the layer holds none, in the form of
// GNU tar 1.0: the map is at the beginning of the content.
func sparse(t *testing.T, size int64) []byte {
	t.Helper()
	var b bytes.Buffer
	records := map[string]string{"GNU.sparse.major": "1", "GNU.sparse.minor": "0",
		"GNU.sparse.name": "f", "GNU.sparse.realsize": fmt.Sprint(size)}
	var pax bytes.Buffer
	for key, value := range records {
		pax.WriteString(record(key, value))
	}
	b.Write(rawHeader("PaxHeaders/f", 'x', pax.Len()))
	b.Write(blocks(pax.Bytes()))
	content := blocks([]byte(fmt.Sprintf("1\n%d\n0\n", size)))
	b.Write(rawHeader("GNUSparseFile.0/f", '0', len(content)))
	b.Write(content)
	b.Write(make([]byte, 1024))
	return b.Bytes()
}

// pax is a layer with extended headers of size bytes.
func pax(t *testing.T, size int) []byte {
	t.Helper()
	return append(rawHeader("PaxHeaders/f", 'x', size), make([]byte, size)...)
}

func record(key, value string) string {
	text := " " + key + "=" + value + "\n"
	n := len(text)
	for n != len(text)+len(fmt.Sprint(n)) {
		n = len(text) + len(fmt.Sprint(n))
	}
	return fmt.Sprint(n) + text
}

func rawHeader(name string, typ byte, size int) []byte {
	b := make([]byte, 512)
	copy(b, name)
	copy(b[100:], "0000644\x000000000\x000000000\x00")
	copy(b[124:], fmt.Sprintf("%011o\x00", size))
	copy(b[136:], "00000000000\x00")
	b[156] = typ
	copy(b[257:], "ustar\x0000")
	return checksum(b)
}

func blocks(b []byte) []byte { return append(b, make([]byte, (512-len(b)%512)%512)...) }

// A layer that is being applied ends with its context, however long it is.
func TestCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r := produce(entries(func(i int) tar.Header {
		if i == 100 {
			cancel()
		}
		return file(fmt.Sprint(i))
	}))
	if err := newTree(t, DefaultLimits()).Apply(ctx, r, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want the context's", err)
	}
}

// Errors of the source and of the disk are not taken for damage of the layer.
func TestSourceErrors(t *testing.T) {
	broken := errors.New("broken")
	b := squeeze(t, pack(t, file("f")))
	err := newTree(t, DefaultLimits()).Apply(t.Context(), io.MultiReader(bytes.NewReader(b[:20]),
		failing{broken}), "")
	if !errors.Is(err, broken) || sandpool.ClassOf(err) != sandpool.Internal {
		t.Errorf("error %v, want that of the source", err)
	}
	tree := newTree(t, DefaultLimits())
	tree.content.Close()
	plain := pack(t, file("f"))
	if err := tree.Apply(t.Context(), bytes.NewReader(plain), digest(plain)); err == nil ||
		sandpool.ClassOf(err) != sandpool.Internal {
		t.Errorf("error %v, want that of the file", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// Whatever the bytes, a layer is refused or makes a tree that can be written, whose paths stay
// inside.
func FuzzApply(f *testing.F) {
	f.Add(pack(f, dir("a"), file("a/f"), link("l", "a"), hard("h", "l/f")), pack(f, file("l/.wh.f"),
		file("a/.wh..wh..opq")))
	f.Add(squeeze(f, pack(f, file("f"))), sparseSeed())
	f.Add(negativeSize(f), pack(f, link("up", "../.."), file("up/f")))
	f.Fuzz(func(t *testing.T, one, two []byte) {
		tree := newTree(t, Limits{Bytes: 1 << 20, Entries: 1000, Ratio: 200})
		for _, b := range [][]byte{one, two} {
			err := tree.Apply(t.Context(), bytes.NewReader(b), "")
			if err == nil {
				t.Fatal("a layer without a digest was taken")
			}
			if !strings.Contains(err.Error(), "configuration says") {
				return
			}
		}
		entries := tree.Entries()
		show(t, tree)
		for _, e := range entries[1:] {
			for _, part := range strings.Split(e.Path, "/") {
				if part == "" || part == "." || part == ".." {
					t.Errorf("path %q", e.Path)
				}
			}
		}
	})
}

func sparseSeed() []byte {
	var b bytes.Buffer
	b.Write(rawHeader("f", 'S', 0))
	b.Write(make([]byte, 1024))
	return b.Bytes()
}
