package passwd

import (
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/sandpool/sandpool"
)

const (
	users = "root:x:0:0:root:/root:/bin/sh\n# comment\n+nis\nbroken:x\nhuge:x:4294967295:1::/:\n" +
		"app:x:1234:1235:An app:/srv/app:/bin/sh\nhomeless:x:7:7::relative:\n123:x:9:9::/nine:\n"
	groups = "root:x:0:\nextra:x:77:app,other\nbare:x:78\nalso:x:79:app\nminus:x:-1:app\n"
)

func TestLookup(t *testing.T) {
	root := fstest.MapFS{"etc/passwd": {Data: []byte(users)}, "etc/group": {Data: []byte(groups)}}
	for _, c := range []struct {
		user   string
		groups []string
		want   Identity
		err    string
	}{
		{"", nil, Identity{Home: "/root"}, ""},
		{"root", nil, Identity{Home: "/root"}, ""},
		{"app", nil, Identity{1234, 1235, []uint32{77, 79}, "/srv/app"}, ""},
		{"1234", []string{"root", "5", "extra"}, Identity{1234, 1235, []uint32{0, 5, 77, 79},
			"/srv/app"}, ""},
		{"app:extra", nil, Identity{1234, 77, nil, "/srv/app"}, ""},
		{"app:9", []string{"bare"}, Identity{1234, 9, []uint32{78}, "/srv/app"}, ""},
		{"5000", nil, Identity{UID: 5000, Home: "/"}, ""},
		{"5000:6000", nil, Identity{UID: 5000, GID: 6000, Home: "/"}, ""},
		{"homeless", nil, Identity{UID: 7, GID: 7, Home: "/"}, ""},
		{"123", nil, Identity{UID: 9, GID: 9, Home: "/nine"}, ""}, // a name goes before a number
		{"nobody", nil, Identity{}, `no user "nobody"`},
		{"broken", nil, Identity{}, "no user"},
		{"huge", nil, Identity{}, "no user"},
		{"4294967295", nil, Identity{}, "no user"},
		{"-1", nil, Identity{}, "no user"},
		{"app:none", nil, Identity{}, `no group "none"`},
		{"app", []string{"none"}, Identity{}, "no group"},
	} {
		got, err := Lookup(root, c.user, c.groups)
		if c.err != "" {
			if sandpool.ClassOf(err) != sandpool.Invalid || !strings.Contains(err.Error(), c.err) {
				t.Errorf("Lookup(%q): %v, want %q", c.user, err, c.err)
			}
			continue
		}
		if diff := cmp.Diff(c.want, got); err != nil || diff != "" {
			t.Errorf("Lookup(%q, %q): %v\n%s", c.user, c.groups, err, diff)
		}
	}
}

// An image may have no users at all, or files that are made to hurt.
func TestLookupOfOddImages(t *testing.T) {
	link := func(target string) *fstest.MapFile {
		return &fstest.MapFile{Data: []byte(target), Mode: fs.ModeSymlink | 0o777}
	}
	for name, c := range map[string]struct {
		root fstest.MapFS
		want uint32
		err  string
	}{
		"no files": {fstest.MapFS{}, 0, "no user"},
		"a link": {fstest.MapFS{"etc/passwd": link("../usr/passwd"),
			"usr/passwd": {Data: []byte(users)}}, 1234, ""},
		"an absolute one": {fstest.MapFS{"etc/passwd": link("/usr/passwd"),
			"usr/passwd": {Data: []byte(users)}}, 1234, ""},
		"out of it": {fstest.MapFS{"etc/passwd": link("../../../../usr/passwd"),
			"usr/passwd": {Data: []byte(users)}}, 1234, ""},
		"a circle":        {fstest.MapFS{"etc/passwd": link("passwd")}, 0, "chain of more than"},
		"a dangling link": {fstest.MapFS{"etc/passwd": link("/none")}, 0, "no user"},
		"a directory":     {fstest.MapFS{"etc/passwd": {Mode: fs.ModeDir}}, 0, "no regular file"},
		"a device": {fstest.MapFS{"etc/passwd": {Mode: fs.ModeDevice | fs.ModeCharDevice}},
			0, "no regular file"},
		"too large": {fstest.MapFS{"etc/passwd": {Data: make([]byte, maxFile+1)}}, 0,
			"more than"},
		"one long line": {fstest.MapFS{"etc/passwd": {
			Data: []byte(strings.Repeat(":", maxFile))}}, 0, "no user"},
	} {
		got, err := Lookup(c.root, "app", nil)
		switch {
		case c.err == "" && (err != nil || got.UID != c.want):
			t.Errorf("%s: %+v, %v", name, got, err)
		case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
			t.Errorf("%s: %+v, %v; want %q", name, got, err, c.err)
		}
	}
}

func FuzzLookup(f *testing.F) {
	f.Add(users, groups, "app:extra")
	f.Fuzz(func(t *testing.T, users, groups, user string) {
		root := fstest.MapFS{"etc/passwd": {Data: []byte(users)},
			"etc/group": {Data: []byte(groups)}}
		id, err := Lookup(root, user, nil)
		if err != nil && sandpool.ClassOf(err) != sandpool.Invalid {
			t.Fatal(err)
		}
		if err == nil && (id.Home == "" || id.Home[0] != '/') {
			t.Fatalf("home %q", id.Home)
		}
	})
}
