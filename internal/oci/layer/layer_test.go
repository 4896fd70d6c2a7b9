package layer

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/erofs"
)

// dir, file, link, hard and others are entries of a layer.
func dir(name string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755}
}

func link(name, target string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target, Mode: 0o777}
}

func hard(name, target string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: target}
}

// file has its own name's last part as its content.
func file(name string) tar.Header { return text(name, name[strings.LastIndex(name, "/")+1:]) }

// text keeps the content in a record of its own, which pack takes out.
func text(name, content string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(content)),
		Gname: content}
}

func pack(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		content := h.Gname
		if h.Typeflag == tar.TypeReg {
			h.Gname = ""
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := io.WriteString(w, content); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func digest(b []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(b)) }

func newTree(t testing.TB, l Limits) *Tree {
	t.Helper()
	content, err := os.Create(filepath.Join(t.TempDir(), "content"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { content.Close() })
	return NewTree(l, content)
}

// apply applies plain layers to a new tree.
func apply(t testing.TB, layers ...[]byte) (*Tree, error) {
	t.Helper()
	tree := newTree(t, DefaultLimits())
	for _, l := range layers {
		if err := tree.Apply(t.Context(), bytes.NewReader(l), digest(l)); err != nil {
			return tree, err
		}
	}
	return tree, nil
}

// show renders a tree, a line an entry. It also makes an image of it: what the tree holds can
// always be written.
func show(t testing.TB, tree *Tree) []string {
	t.Helper()
	var out []string
	entries := tree.Entries()
	for _, e := range entries {
		line := e.Path
		switch {
		case e.Link != "":
			line += " == " + e.Link
		case e.Mode.IsDir():
			line += "/"
		case e.Mode&fs.ModeSymlink != 0:
			line += " -> " + e.Target
		case e.Size > 0:
			r, err := e.Open()
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(r)
			if err != nil || int64(len(b)) != e.Size {
				t.Fatalf("%s: read %d bytes, %v; want %d", e.Path, len(b), err, e.Size)
			}
			line += " = " + string(b)
		}
		out = append(out, line)
	}
	if err := erofs.Write(t.Context(), io.Discard, entries, nil); err != nil {
		t.Errorf("the tree cannot be written: %v", err)
	}
	return out[1:] // without the root
}

// Layers merge as container engines merge them.
func TestMerge(t *testing.T) {
	for _, c := range []struct {
		name   string
		layers [][]byte
		want   []string
	}{
		{"one layer", [][]byte{pack(t, dir("./"), dir("a/"), file("a/f"), link("a/l", "f"),
			hard("a/h", "a/f"))},
			[]string{"a/", "a/f = f", "a/h == a/f", "a/l -> f"}},
		{"folders that nobody names", [][]byte{pack(t, file("a/b/f"))}, []string{"a/", "a/b/",
			"a/b/f = f"}},
		{"absolute names are below the root", [][]byte{pack(t, file("/etc/f"))}, []string{"etc/",
			"etc/f = f"}},
		{"names in no encoding", [][]byte{pack(t, tar.Header{Name: "caf\xe9/f\xff",
			Typeflag: tar.TypeReg, Format: tar.FormatGNU})}, []string{"caf\xe9/", "caf\xe9/f\xff"}},
		{"later content", [][]byte{pack(t, text("f", "one"), file("g")), pack(t, text("f", "two"))},
			[]string{"f = two", "g = g"}},
		{"twice in a layer", [][]byte{pack(t, text("f", "one"), text("f", "two"))},
			[]string{"f = two"}},
		{"a folder over a folder keeps it", [][]byte{pack(t, file("a/f")), pack(t, dir("a"))},
			[]string{"a/", "a/f = f"}},
		{"a file over a folder", [][]byte{pack(t, file("a/f")), pack(t, file("a"))},
			[]string{"a = a"}},
		{"a folder over a file", [][]byte{pack(t, file("a")), pack(t, dir("a"), file("a/f"))},
			[]string{"a/", "a/f = f"}},
		{"a folder over a link", [][]byte{pack(t, dir("b"), link("a", "b")), pack(t, dir("a"),
			file("a/f"))}, []string{"a/", "a/f = f", "b/"}},

		{"whiteout", [][]byte{pack(t, file("a/f"), file("a/g")), pack(t, file("a/.wh.f"))},
			[]string{"a/", "a/g = g"}},
		{"whiteout of a folder", [][]byte{pack(t, file("a/b/f"), file("g")), pack(t,
			file(".wh.a"))}, []string{"g = g"}},
		{"whiteout of nothing", [][]byte{pack(t, file("f")), pack(t, file("no/.wh.such"))},
			[]string{"f = f"}},
		{"whiteout spares its own layer", [][]byte{pack(t, text("f", "one")), pack(t, text("f",
			"two"), file(".wh.f"))}, []string{"f = two"}},
		{"whiteout before its own layer", [][]byte{pack(t, file("a/old")), pack(t, file(".wh.a"),
			file("a/new"))}, []string{"a/", "a/new = new"}},
		{"whiteout after its own layer", [][]byte{pack(t, file("a/old")), pack(t, file("a/new"),
			file(".wh.a"))}, []string{"a/", "a/new = new"}},
		{"whiteout of one name of two", [][]byte{pack(t, file("f")), pack(t, hard("g", "f"),
			file(".wh.f"))}, []string{"g = f"}},
		{"opaque", [][]byte{pack(t, file("a/f"), file("a/b/g")), pack(t, file("a/new"),
			file("a/.wh..wh..opq"))}, []string{"a/", "a/new = new"}},
		{"opaque at the root", [][]byte{pack(t, file("a/f")), pack(t, file(".wh..wh..opq"),
			file("b"))}, []string{"b = b"}},
		{"whiteout is no content", [][]byte{pack(t, file(".wh.f"))}, []string{}},
		{"bookkeeping of AUFS", [][]byte{pack(t, file(".wh..wh.aufs"), dir(".wh..wh.plnk"),
			file(".wh..wh.plnk/1.2"))}, []string{".wh..wh.plnk/", ".wh..wh.plnk/1.2 = 1.2"}},

		{"through a link of an earlier layer", [][]byte{pack(t, dir("usr/lib"), link("lib",
			"usr/lib")), pack(t, file("lib/f"))},
			[]string{"lib -> usr/lib", "usr/", "usr/lib/", "usr/lib/f = f"}},
		{"through an absolute link", [][]byte{pack(t, dir("usr/lib"), link("usr/lib64",
			"/usr/lib")), pack(t, file("usr/lib64/f"))},
			[]string{"usr/", "usr/lib/", "usr/lib/f = f", "usr/lib64 -> /usr/lib"}},
		{"through a link to nothing", [][]byte{pack(t, link("a", "b/c"), file("a/f"))},
			[]string{"a -> b/c", "b/", "b/c/", "b/c/f = f"}},
		{"whiteout through a link", [][]byte{pack(t, file("usr/lib/f"), link("lib", "usr/lib")),
			pack(t, file("lib/.wh.f"))},
			[]string{"lib -> usr/lib", "usr/", "usr/lib/"}},
		{"hard link through a link", [][]byte{pack(t, file("usr/f"), link("u", "usr"), hard("g",
			"u/f"))}, []string{"g = f", "u -> usr", "usr/", "usr/f == g"}},
		{"hard link to a link", [][]byte{pack(t, link("a", "/etc"), hard("b", "a"))},
			[]string{"a -> /etc", "b == a"}},
		{"a link that leads out leads to the root", [][]byte{pack(t, link("up", "../../../.."),
			file("up/etc/passwd"))},
			[]string{"etc/", "etc/passwd = passwd", "up -> ../../../.."}},
		{"devices are left out", [][]byte{pack(t, file("f")), pack(t, tar.Header{Name: "f",
			Typeflag: tar.TypeBlock}, tar.Header{Name: "dev/sda", Typeflag: tar.TypeBlock,
			Devmajor: 8})},
			[]string{"dev/"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			tree, err := apply(t, c.layers...)
			if err != nil {
				t.Fatal(err)
			}
			got := show(t, tree)
			slices.Sort(got)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("the tree (-want +got):\n%s", diff)
			}
		})
	}
}

// What a layer must not do is refused, with the entry that does it.
func TestRefused(t *testing.T) {
	long := strings.Repeat("n", 256)
	deep := strings.Repeat("d/", 2000)
	for _, c := range []struct {
		name  string
		layer []byte
		want  string
	}{
		{"upwards", pack(t, file("../../etc/passwd")), "leads upwards"},
		{"upwards inside", pack(t, file("a/../../b")), "leads upwards"},
		{"folder upwards", pack(t, dir("..")), "leads upwards"},
		{"hard link upwards", pack(t, hard("a", "../../etc/passwd")), "leads upwards"},
		{"hard link out", pack(t, hard("a", "/etc/passwd")), "does not exist"},
		{"hard link through a link out", pack(t, link("e", "/../../etc"), hard("a", "e/passwd")),
			"does not exist"},
		{"hard link to a folder", pack(t, dir("d"), hard("a", "d")), "is a folder"},
		{"hard link to the root", pack(t, hard("a", "/")), "root"},
		{"whiteout upwards", pack(t, file("a/.wh...")), "removes nothing"},
		{"whiteout of its folder", pack(t, file("a/.wh..")), "removes nothing"},
		{"whiteout of no name", pack(t, file("a/.wh.")), "removes nothing"},
		{"whiteout in a folder above", pack(t, file("../.wh.etc")), "leads upwards"},
		{"a loop of links", pack(t, link("a", "b"), link("b", "a"), file("a/f")), "symbolic links"},
		{"a link to itself", pack(t, link("a", "a/x"), file("a/f")), "symbolic links"},
		{"below a file", pack(t, file("a"), file("a/f")), "not a folder"},
		{"the root as a file", pack(t, file(".")), "root"},
		{"the root as a link", pack(t, link("/", "/etc")), "root"},
		{"long name", pack(t, file(long)), "of at most 255"},
		{"long name of a link's target", pack(t, link("a", long), file("a/f")), "of at most 255"},
		{"long path", pack(t, file(deep+deep+"f")), "of at most 4096"},
		{"long path by a link", pack(t, dir(deep), link("a", deep), dir("a/"+deep), file("f")),
			"of at most 4096"},
		{"no target", pack(t, link("a", "")), "target"},
		{"long target", pack(t, link("a", strings.Repeat("t", 5000))), "target"},
		{"no such user", pack(t, tar.Header{Name: "a", Typeflag: tar.TypeReg, Uid: 1 << 40}),
			"belongs to user"},
		{"negative user", pack(t, tar.Header{Name: "a", Typeflag: tar.TypeReg, Gid: -2,
			Format: tar.FormatGNU}), "belongs to user"},
		{"strange type", pack(t, tar.Header{Name: "a", Typeflag: 'Z'}), "type"},
		{"long attributes", pack(t, tar.Header{Name: "a", Typeflag: tar.TypeReg,
			PAXRecords: map[string]string{"SCHILY.xattr.user.a": strings.Repeat("v",
				5000)}}), "attributes"},
		{"negative size", negativeSize(t), "damaged"},
		{"truncated", pack(t, file("f"))[:400], "damaged"},
		{"no archive", bytes.Repeat([]byte("junk"), 1000), "damaged"},
		{"truncated gzip", squeeze(t, pack(t, file("f")))[:40], "damaged"},
		{"damaged gzip", append([]byte{0x1f, 0x8b}, bytes.Repeat([]byte{0xff}, 100)...), "damaged"},
		{"damaged zstd", append([]byte{0x28, 0xb5, 0x2f, 0xfd}, bytes.Repeat([]byte{0xff}, 100)...),
			"damaged"},
		{"xz", []byte{0xfd, '7', 'z', 'X', 'Z', 0, 0, 0}, "xz"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tree := newTree(t, DefaultLimits())
			err := tree.Apply(t.Context(), bytes.NewReader(c.layer), digest(c.layer))
			if sandpool.ClassOf(err) != sandpool.Invalid || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one of class invalid with %q", err, c.want)
			}
			if err != nil && len(err.Error()) > 600 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
}

// negativeSize is a layer whose file has -1 bytes, in the base-256 form of GNU tar.
func negativeSize(t testing.TB) []byte {
	b := pack(t, file("f"))
	copy(b[124:136], bytes.Repeat([]byte{0xff}, 12))
	return checksum(b)
}

// checksum mends the checksum of the first header of b.
func checksum(b []byte) []byte {
	copy(b[148:156], "        ")
	sum := 0
	for _, c := range b[:512] {
		sum += int(c)
	}
	copy(b[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

func squeeze(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// Plain, gzip and zstd layers are told apart by what they hold.
func TestCompressions(t *testing.T) {
	plain := pack(t, file("a/f"))
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	skip := append([]byte{0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0}, "skip"...)
	for name, b := range map[string][]byte{
		"plain": plain, "gzip": squeeze(t, plain), "zstd": z.EncodeAll(plain,
			nil), "zstd with a frame to skip": append(skip, z.EncodeAll(plain, nil)...),
		"two gzip members": append(squeeze(t, plain[:512]), squeeze(t, plain[512:])...),
	} {
		tree := newTree(t, DefaultLimits())
		if err := tree.Apply(t.Context(), bytes.NewReader(b), digest(plain)); err != nil {
			t.Errorf("%s: %v", name, err)
		} else if diff := cmp.Diff([]string{"a/", "a/f = f"}, show(t, tree)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// A layer that is not what its image says is refused, trailing bytes included.
func TestDigest(t *testing.T) {
	plain := pack(t, file("f"))
	for name, b := range map[string][]byte{"other content": pack(t, file("g")),
		"more after the end": append(bytes.Clone(plain), "more"...)} {
		tree := newTree(t, DefaultLimits())
		err := tree.Apply(t.Context(), bytes.NewReader(b), digest(plain))
		if sandpool.ClassOf(err) != sandpool.Invalid || !strings.Contains(err.Error(),
			"configuration says") {
			t.Errorf("%s: %v, want a digest that differs", name, err)
		}
	}
}

// Owners, modes, times and attributes are kept, those of the making machine are not.
func TestAttributes(t *testing.T) {
	when := time.Unix(1500000000, 5000)
	capability := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	tree, err := apply(t, pack(t,
		tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o711, Uid: 5},
		tar.Header{Name: "ping", Typeflag: tar.TypeReg, Mode: 0o040000 | 0o6755, Uid: 70000,
			Gid: 4294967294, ModTime: when, Format: tar.FormatPAX,
			PAXRecords: map[string]string{"SCHILY.xattr.security.capability": capability,
				"SCHILY.xattr.user.a":                 "1",
				"SCHILY.xattr.trusted.overlay.opaque": "y", "SCHILY.xattr.security.selinux": "x",
				"LIBARCHIVE.xattr.user.b": "MQ=="}},
		tar.Header{Name: "tmp", Typeflag: tar.TypeDir, Mode: 0o1777},
		tar.Header{Name: "pipe", Typeflag: tar.TypeFifo, Mode: 0o600}))
	if err != nil {
		t.Fatal(err)
	}
	type fact struct {
		Mode     fs.FileMode
		UID, GID uint32
		Xattrs   map[string]string
	}
	got := map[string]fact{}
	for _, e := range tree.Entries() {
		got[e.Path] = fact{e.Mode, e.UID, e.GID, e.Xattrs}
		if e.Path == "ping" && !e.ModTime.Equal(when) {
			t.Errorf("changed %s, want %s", e.ModTime, when)
		}
	}
	want := map[string]fact{
		".": {Mode: fs.ModeDir | 0o711, UID: 5},
		"ping": {Mode: fs.ModeSetuid | fs.ModeSetgid | 0o755, UID: 70000, GID: 4294967294,
			Xattrs: map[string]string{"security.capability": capability, "user.a": "1"}},
		"tmp":  {Mode: fs.ModeDir | fs.ModeSticky | 0o777},
		"pipe": {Mode: fs.ModeNamedPipe | 0o600},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("attributes (-want +got):\n%s", diff)
	}
}

// What was left out is told, without its length being the layer's choice.
func TestNotes(t *testing.T) {
	var headers []tar.Header
	for i := range 10 {
		headers = append(headers, tar.Header{Name: fmt.Sprintf("dev/d%d", i),
			Typeflag: tar.TypeChar})
	}
	tree, err := apply(t, pack(t, headers...))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"device nodes are left out, a sandbox has its own: dev/d0, dev/d1, dev/d2 and 7 more"}
	if diff := cmp.Diff(want, tree.Notes()); diff != "" {
		t.Errorf("notes (-want +got):\n%s", diff)
	}
}
