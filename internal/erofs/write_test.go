package erofs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	goerofs "github.com/erofs/go-erofs"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/sandpool/sandpool/internal/erofs/erofstest"
)

func pack(t testing.TB, entries []Entry) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "image.erofs")
	if _, _, err := WriteFile(context.Background(), file, entries, nil); err != nil {
		t.Fatal(err)
	}
	return file
}

// What is packed is read back, by gVisor's reader and by another.
func TestPackReadBack(t *testing.T) {
	big := strings.Repeat("0123456789abcdef", 3*blockSize/16) // ends with a block
	entries := []Entry{
		{Path: ".", Mode: fs.ModeDir | 0o711, UID: 3, GID: 4},
		File("opt/sandpool/sandpool-agent", 0o755, []byte("agent")),
		File("empty", 0o600, nil),
		File("caf\xe9", 0o600, nil), // in Latin-1
		File("big", 0o644, []byte(big)),
		File("bigger", 0o644, []byte(big+"x")),
		{Path: "home/me", Mode: fs.ModeDir | fs.ModeSticky | 0o700, UID: 1000, GID: 1001},
		{Path: "link", Mode: fs.ModeSymlink | 0o777, Target: "opt/sandpool"},
		{Path: "second", Link: "big"},
		{Path: "null", Mode: fs.ModeDevice | fs.ModeCharDevice | 0o666, Device: 0x103},
		{Path: "pipe", Mode: fs.ModeNamedPipe | 0o620},
		{Path: "su", Mode: fs.ModeSetuid | fs.ModeSetgid | 0o755},
	}
	file := pack(t, entries)
	dir := func(mode uint16, uid, gid, links uint32) erofstest.Fact {
		return erofstest.Fact{Mode: syscall.S_IFDIR | mode, UID: uid, GID: gid, Links: links,
			Mtime: Stamp}
	}
	plain := func(mode uint16, links uint32, content string) erofstest.Fact {
		return erofstest.Fact{Mode: mode, Links: links, Mtime: Stamp,
			Content: erofstest.Content(content)}
	}
	want := map[string]erofstest.Fact{
		".":                           dir(0o711, 3, 4, 4),
		"opt":                         dir(0o755, 0, 0, 3),
		"opt/sandpool":                dir(0o755, 0, 0, 2),
		"opt/sandpool/sandpool-agent": plain(syscall.S_IFREG|0o755, 1, "agent"),
		"empty":                       plain(syscall.S_IFREG|0o600, 1, ""),
		"caf\xe9":                     plain(syscall.S_IFREG|0o600, 1, ""),
		"big":                         plain(syscall.S_IFREG|0o644, 2, big),
		"second":                      plain(syscall.S_IFREG|0o644, 2, big),
		"bigger":                      plain(syscall.S_IFREG|0o644, 1, big+"x"),
		"home":                        dir(0o755, 0, 0, 3),
		"home/me":                     dir(syscall.S_ISVTX|0o700, 1000, 1001, 2),
		"link":                        plain(syscall.S_IFLNK|0o777, 1, "opt/sandpool"),
		"null":                        plain(syscall.S_IFCHR|0o666, 1, ""),
		"pipe":                        plain(syscall.S_IFIFO|0o620, 1, ""),
		"su": plain(syscall.S_IFREG|syscall.S_ISUID|syscall.S_ISGID|0o755,
			1, ""),
	}
	if diff := cmp.Diff(want, erofstest.Read(t, file)); diff != "" {
		t.Errorf("gVisor reads (-want +got):\n%s", diff)
	}
	checkOther(t, file, map[string]string{"big": big, "second": big, "bigger": big + "x",
		"opt/sandpool/sandpool-agent": "agent"})
	if fsck, err := exec.LookPath("fsck.erofs"); err == nil {
		if out, err := exec.Command(fsck, file).CombinedOutput(); err != nil {
			t.Errorf("fsck.erofs: %v\n%s", err, out)
		}
	}
}

// checkOther reads files with an independent implementation of the format.
func checkOther(t *testing.T, file string, want map[string]string) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, err := goerofs.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range want {
		got, err := fs.ReadFile(img, name)
		if err != nil || string(got) != content {
			t.Errorf("go-erofs reads %q: %d bytes, %v; want %d bytes", name, len(got), err,
				len(content))
		}
	}
}

// A folder whose listing takes many blocks is listed and searched whole.
func TestPackWideFolder(t *testing.T) {
	var entries []Entry
	for i := range 3000 {
		entries = append(entries, File(fmt.Sprintf("wide/%s%d", strings.Repeat("n", i%200), i),
			0o644, []byte{byte(i)}))
	}
	got := erofstest.Read(t, pack(t, entries))
	if len(got) != len(entries)+2 {
		t.Errorf("read %d names, want %d", len(got), len(entries)+2)
	}
}

// Any tree comes back as it was, and the same tree gives the same image in any order.
func TestPackAnyTree(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		entries, want := drawTree(rt)
		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			rt.Fatal(err)
		}
		file := filepath.Join(dir, "a")
		digest, _, err := WriteFile(t.Context(), file, entries, nil)
		if err != nil {
			rt.Fatal(err)
		}
		got := erofstest.Read(t, file)
		for name, f := range want {
			if got[name] != f {
				rt.Errorf("%q: read %+v, want %+v", name, got[name], f)
			}
		}
		slices.Reverse(entries)
		again, _, err := WriteFile(t.Context(), filepath.Join(dir, "b"), entries, nil)
		if err != nil || again != digest {
			rt.Errorf("packed the other way round: %s, %v; want %s", again, err, digest)
		}
	})
}

// drawTree draws files and links in folders that may nest.
func drawTree(rt *rapid.T) ([]Entry, map[string]erofstest.Fact) {
	var entries []Entry
	want := map[string]erofstest.Fact{}
	names := rapid.SliceOfNDistinct(rapid.StringMatching(
		`[a-c]{1,2}(/[a-c]{1,40}){0,2}/f[a-z]{0,60}`), 0, 60, rapid.ID[string]).Draw(rt, "names")
	for _, name := range names {
		if rapid.Bool().Draw(rt, "link") {
			target := rapid.StringMatching(`[a-z/]{1,300}`).Draw(rt, "target")
			entries = append(entries, Entry{Path: name, Mode: fs.ModeSymlink | 0o777,
				Target: target})
			want[name] = erofstest.Fact{Mode: syscall.S_IFLNK | 0o777, Links: 1, Mtime: Stamp,
				Content: erofstest.Content(target)}
			continue
		}
		content := strings.Repeat("x", rapid.SampledFrom([]int{0, 1, 63, 4031, 4032, 4033, 4095,
			4096, 4097, 9000}).Draw(rt, "size"))
		mode := fs.FileMode(rapid.IntRange(0, 0o777).Draw(rt, "mode"))
		entries = append(entries, File(name, mode, []byte(content)))
		want[name] = erofstest.Fact{Mode: syscall.S_IFREG | uint16(mode), Links: 1, Mtime: Stamp,
			Content: erofstest.Content(content)}
	}
	return entries, want
}

// Entries that an image cannot hold are refused, by name.
func TestPackRefuses(t *testing.T) {
	short := File("short", 0o644, []byte("abc"))
	short.Size = 4
	long := File("long", 0o644, []byte("abc"))
	long.Size = 2
	for _, c := range []struct {
		name    string
		entries []Entry
		want    string
	}{
		{"absolute", []Entry{File("/etc/passwd", 0o644, nil)}, "/etc/passwd"},
		{"upwards", []Entry{File("a/../../b", 0o644, nil)}, "a/../../b"},
		{"twice", []Entry{File("a", 0o644, nil), File("a", 0o644, nil)}, "given twice"},
		{"beneath a file", []Entry{File("a", 0o644, nil), File("a/b", 0o644, nil)}, "not a folder"},
		{"file over a folder", []Entry{File("a/b", 0o644, nil), File("a", 0o644, nil)},
			"folder and something else"},
		{"link to nothing", []Entry{{Path: "a", Link: "b"}}, `no file "b"`},
		{"link to a folder", []Entry{{Path: "b", Mode: fs.ModeDir}, {Path: "a", Link: "b"}},
			`no file "b"`},
		{"long name", []Entry{File(strings.Repeat("n", 256), 0o644, nil)}, "255 bytes"},
		{"long target", []Entry{{Path: "a", Mode: fs.ModeSymlink, Target: strings.Repeat("t",
			4096)}}, "target"},
		{"empty target", []Entry{{Path: "a", Mode: fs.ModeSymlink}}, "target"},
		{"strange attribute", []Entry{{Path: "a",
			Xattrs: map[string]string{"trusted.overlay.opaque": "y"}}}, "trusted.overlay.opaque"},
		{"attribute without a name", []Entry{{Path: "a", Xattrs: map[string]string{"user.": "y"}}},
			`"user."`},
		{"long attributes", []Entry{{Path: "a",
			Xattrs: map[string]string{"user.a": strings.Repeat("v", 4020)}}}, "of at most 4032"},
		{"attribute of a link", []Entry{{Path: "a", Mode: fs.ModeSymlink, Target: "b",
			Xattrs: map[string]string{"user.a": ""}}}, "only files and folders"},
		{"no content", []Entry{{Path: "a", Mode: 0o644, Size: 1}}, "without content"},
		{"shorter", []Entry{short}, "shorter"},
		{"longer", []Entry{long}, "longer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := Write(t.Context(), io.Discard, c.entries, nil)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

// Packing ends when its context does.
func TestPackCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	e := File("b", 0o644, []byte("x"))
	e.Open = func() (io.ReadCloser, error) {
		cancel()
		return io.NopCloser(bytes.NewReader([]byte("x"))), nil
	}
	err := Write(ctx, io.Discard, []Entry{e, File("c", 0o644, []byte("y"))}, nil)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want the context's", err)
	}
}

// A file of the host is packed with its content; what is no file is refused.
func TestHostFile(t *testing.T) {
	host := filepath.Join(t.TempDir(), "agent")
	if err := os.WriteFile(host, []byte("program"), 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := HostFile("opt/agent", 0o755, host)
	if err != nil {
		t.Fatal(err)
	}
	want := erofstest.Fact{Mode: syscall.S_IFREG | 0o755, Links: 1, Mtime: Stamp,
		Content: "program"}
	if got := erofstest.Read(t, pack(t, []Entry{e}))["opt/agent"]; got != want {
		t.Errorf("read %+v, want %+v", got, want)
	}
	for _, bad := range []string{filepath.Dir(host), host + "x"} {
		if _, err := HostFile("opt/agent", 0o755, bad); err == nil || !strings.Contains(err.Error(),
			bad) {
			t.Errorf("%q: error %v, want one that names it", bad, err)
		}
	}
}

// A folder of the host is packed with owners, links and modes, without what
// lies beneath mount points.
func TestScan(t *testing.T) {
	root := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(filepath.Join(root, "proc/1"), 0o755))
	must(os.MkdirAll(filepath.Join(root, "a/proc"), 0o755))
	must(os.WriteFile(filepath.Join(root, "proc/1/stat"), []byte("1"), 0o644))
	must(os.WriteFile(filepath.Join(root, "a/f"), []byte("content"), 0o640))
	must(os.Link(filepath.Join(root, "a/f"), filepath.Join(root, "a/g")))
	must(os.Symlink("f", filepath.Join(root, "a/l")))
	must(os.Chmod(filepath.Join(root, "a"), 0o2750|os.ModeSetgid))
	entries, err := Scan(t.Context(), root, []string{"proc"})
	must(err)
	uid, gid := uint32(os.Getuid()), uint32(os.Getgid())
	got := erofstest.Read(t, pack(t, entries))
	delete(got, ".")
	want := map[string]erofstest.Fact{
		"proc": {Mode: syscall.S_IFDIR | 0o755, UID: uid, GID: gid, Links: 2, Mtime: Stamp},
		"a": {Mode: syscall.S_IFDIR | syscall.S_ISGID | 0o750, UID: uid, GID: gid, Links: 3,
			Mtime: Stamp},
		"a/proc": {Mode: syscall.S_IFDIR | 0o755, UID: uid, GID: gid, Links: 2, Mtime: Stamp},
		"a/f": {Mode: syscall.S_IFREG | 0o640, UID: uid, GID: gid, Links: 2, Mtime: Stamp,
			Content: "content"},
		"a/g": {Mode: syscall.S_IFREG | 0o640, UID: uid, GID: gid, Links: 2, Mtime: Stamp,
			Content: "content"},
		"a/l": {Mode: syscall.S_IFLNK | 0o777, UID: uid, GID: gid, Links: 1, Mtime: Stamp,
			Content: "f"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}
}

// Times and extended attributes come back; the same attributes make the same image.
func TestPackXattrs(t *testing.T) {
	capability := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	changed := time.Date(2020, 1, 2, 3, 4, 5, 6, time.UTC)
	ping := File("bin/ping", 0o755, []byte("ping"))
	ping.Xattrs = map[string]string{"security.capability": capability, "user.a": "",
		"user.long": strings.Repeat("v", 3000)}
	ping.ModTime = changed
	// Between the attributes and the block's end there is no room for the listing.
	folder := Entry{Path: "full", Mode: fs.ModeDir | 0o755,
		Xattrs: map[string]string{"user.x": strings.Repeat("v", 4000)}}
	old := File("old", 0o644, nil)
	old.ModTime = time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC)
	file := pack(t, []Entry{ping, folder, old, File("full/one", 0o644, []byte("1")), File("plain",
		0o644, []byte("2"))})
	for name, want := range map[string]map[string]string{"bin/ping": ping.Xattrs,
		"full": folder.Xattrs, "plain": nil} {
		if diff := cmp.Diff(want, erofstest.Xattrs(t, file, name),
			cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%q (-want +got):\n%s", name, diff)
		}
	}
	checkOther(t, file, map[string]string{"bin/ping": "ping", "full/one": "1", "plain": "2"})
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, err := goerofs.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]time.Time{"bin/ping": changed, "old": time.Unix(0, 0),
		"plain": time.Unix(Stamp, 0)} {
		if info, err := fs.Stat(img, name); err != nil || !info.ModTime().Equal(want) {
			t.Errorf("%q: %v, %v; want the time %s", name, info, err, want)
		}
	}
}
