package archtest

import (
	"fmt"
	"maps"
	"path"
	"strings"
	"testing"
	"testing/fstest"
)

// Every rule finds what it forbids, and only that.
func TestRules(t *testing.T) {
	many := map[string]string{}
	for i := range maxFilesAPackage + 1 {
		many[fmt.Sprintf("a/f%d.go", i)] = "package a"
	}
	full := maps.Clone(many)
	delete(full, "a/f0.go")
	reasoned := map[string]string{}
	for name, text := range full {
		reasoned["internal/pool/"+path.Base(name)] = strings.Replace(text, " a", " pool", 1)
	}
	methods := strings.Repeat("M%d()\n", maxMethods+1)
	for i := range maxMethods + 1 {
		methods = strings.Replace(methods, "%d", fmt.Sprint(i), 1)
	}
	long := "package a\nfunc f() {" + strings.Repeat("\n", maxFunctionLines) + "}\n"

	for _, c := range []struct {
		name  string
		check func(*tree) []string
		files map[string]string
		want  string // part of the one finding; "" for none
	}{
		{"pool imports agent", checkImports, one("internal/pool/a.go",
			`package pool; import _ "m/internal/agent"`), "may not import internal/agent"},
		{"pool imports contract", checkImports, one("internal/pool/a.go",
			`package pool; import _ "m/internal/sandbox"`), ""},
		{"gateway imports control", checkImports, one("internal/gateway/a.go",
			`package gateway; import _ "m/internal/control"`), "may not import internal/control"},
		{"test imports anything", checkImports, one("internal/pool/a_test.go",
			`package pool; import _ "m/internal/sqlite"`), ""},
		{"child inherits", checkImports, one("internal/gateway/files/a.go",
			`package files; import _ "m/internal/sqlite"`), "may not import internal/sqlite"},
		{"own child", checkImports, one("internal/gateway/a.go",
			`package gateway; import _ "m/internal/gateway/files"`), ""},
		{"api imports a library", checkImports,
			one("api/a.go", `package api; import _ "example.org/x"`), "std only"},
		{"library outside its home", checkImports, one("internal/pool/a.go",
			`package pool; import _ "modernc.org/sqlite"`), "belongs to internal/sqlite"},
		{"library at home", checkImports, one("internal/sqlite/a.go",
			`package sqlite; import _ "modernc.org/sqlite"`), ""},
		{"unknown package", checkImports, one("internal/new/a.go", `package new`), "no entry"},

		{"long file", checkSizes, one("a/a.go", "package a"+strings.Repeat("\n", maxFileLines+1)),
			"lines, of at most 500"},
		{"long function", checkSizes, one("a/a.go", long), "func f has 101 lines"},
		{"long test", checkSizes, one("a/a_test.go", long), ""},
		{"wide interface", checkSizes, one("a/a.go", "package a\ntype I interface {\n"+methods+"}"),
			"interface with 9 methods"},
		{"many files", checkSizes, many, "16 files"},
		{"as many files as may be", checkSizes, full, "find the part"},
		{"as many, with a reason", checkSizes, reasoned, ""},
		{"a reason without need", checkSizes, one("internal/pool/a.go", "package pool"),
			"need not name it"},

		{"no package comment", checkPackageComments, one("a/a.go", "package a"), `"Package a"`},
		{"empty package comment", checkPackageComments, one("a/a.go", "// A thing.\npackage a"),
			`"Package a"`},
		{"package comment", checkPackageComments, one("a/a.go", "// Package a is one.\npackage a"),
			""},
		{"main comment", checkPackageComments, one("a/a.go", "// A does it.\npackage main"), ""},

		{"bare function", checkComments, one("a/a.go", "package a\nfunc F() {}"),
			"F has no comment"},
		{"bare method", checkComments, one("a/a.go",
			"package a\n// T is.\ntype T int\nfunc (t *T) M() {}"), "M has no comment"},
		{"method of a hidden type", checkComments,
			one("a/a.go", "package a\ntype t int\nfunc (t) M() {}"), ""},
		{"comment of a group", checkComments, one("a/a.go", "package a\n// Them.\nconst (\nA = "+
			"1\nB = 2\n)"), ""},

		{"init", checkState, one("a/a.go", "package a\nfunc init() {}"), "func init"},
		{"method init", checkState, one("a/a.go", "package a\ntype t int\nfunc (t) init() {}"), ""},
		{"variable", checkState, one("a/a.go", "package a\nvar n int"), "no value"},
		{"tuned variable", checkState, one("a/a.go", "package a\nvar n = 5"),
			"should be a constant"},
		{"mutex", checkState, one("a/a.go", "package a\nimport \"sync\"\nvar mu sync.Mutex"),
			"no value"},
		{"table", checkState, one("a/a.go", "package a\nvar t = map[int]int{1: 2}\nfunc f() int "+
			"{ t := []int{0}; t[0] = 1; return t[0] }"), ""},
		{"table written", checkState, one("a/a.go",
			"package a\nvar t = map[int]int{1: 2}\nfunc f() { t[1] = 3 }"), "is written to"},
		{"table deleted from", checkState, one("a/a.go",
			"package a\nvar t = map[int]int{1: 2}\nfunc f() { delete(t, 1) }"), "is written to"},
		{"table written elsewhere", checkState, map[string]string{
			"a/a.go": "package a\nvar t = []int{1, 2}", "a/b.go": "package a\nfunc f() { t[1]++ }"},
			"is written to"},
		{"table exported", checkState, one("a/a.go", "package a\nvar T = []int{1, 2}"),
			"others can write"},
		{"sentinel", checkState, one("a/a.go",
			"package a\nimport \"errors\"\nvar ErrX = errors.New(\"x\")"), ""},
		{"computed table", checkState, one("a/a.go",
			"package a\nvar t = func() []int { return nil }()"), ""},
		{"computed table exported", checkState,
			one("a/a.go", "package a\nvar T = func() []int { return nil }()"), "others can write"},
		{"version", checkState, one("a/a.go",
			"package main\n// version is set by the linker.\nvar version string"), ""},
		{"version of a library", checkState, one("a/a.go",
			"package a\n// version is set by the linker.\nvar version string"), "no value"},
		{"other call", checkState, one("a/a.go",
			"package a\nimport \"os\"\nvar home = os.Getenv(\"HOME\")"), "made by a call"},
		{"proof", checkState, one("a/a.go", "package a\nvar _ error = (*t)(nil)"), ""},
		{"embedded", checkState, one("a/a.go",
			"package a\nimport _ \"embed\"\n//go:embed a.go\nvar text string"), ""},

		{"command", checkProcesses, one("internal/pool/a.go",
			"package pool\nimport \"os/exec\"\nvar _ = exec.Command(\"ls\")"), "os/exec.Command"},
		{"renamed", checkProcesses, one("internal/pool/a.go",
			"package pool\nimport x \"syscall\"\nfunc f() { x.ForkExec(\"\", nil, nil) }"),
			"syscall.ForkExec"},
		{"command at home", checkProcesses, one("internal/image/a.go",
			"package image\nimport \"os/exec\"\nvar _ = exec.Command(\"ls\")"), ""},
		{"command in a test", checkProcesses, one("internal/pool/a_test.go",
			"package pool\nimport \"os/exec\"\nvar _ = exec.Command(\"ls\")"), ""},

		{"background", checkContexts, one("a/a.go",
			"package a\nimport \"context\"\nvar _ = context.Background()"), "context.Background"},
		{"background in main", checkContexts, one("a/a.go", "package main\nimport \"context\"\n"+
			"var _ = context.Background()"), ""},
		{"without cancel", checkContexts, one("a/a.go",
			"package a\nimport \"context\"\nvar _ = context.WithoutCancel"), ""},

		{"sleep in a test", checkSleeps, one("a/a_test.go",
			"package a\nimport \"time\"\nfunc f() { time.Sleep(1) }"), "time.Sleep"},
		{"sleep in a kit", checkSleeps, one("a/a.go",
			"package atest\nimport \"time\"\nfunc f() { time.Sleep(1) }"), "time.Sleep"},
		{"sleep in the product", checkSleeps, one("a/a.go", "package a\nimport \"time\"\nfunc "+
			"f() { time.Sleep(1) }"), ""},

		{"skip", checkSkips, one("a/a_test.go",
			"package a\nimport \"testing\"\nfunc TestA(t *testing.T) { t.Skip() }"),
			"Skip in a test"},
		{"skip of something embedded", checkSkips,
			one("a/a.go", "package atest\nfunc f(s *suite) { s.T.Skipf(\"no\") }"),
			"Skipf in a test"},
		{"skip as a value", checkSkips, one("a/a_test.go",
			"package a\nimport \"testing\"\nfunc f(t *testing.T) { defer t.SkipNow() }"),
			"SkipNow in a test"},
		{"skip at home", checkSkips, one("internal/need/a.go",
			"package need\nimport \"testing\"\nfunc f(t testing.TB) { t.Skip() }"), ""},
		{"skip of the product", checkSkips, one("a/a.go",
			"package a\nfunc f(r *reader) { r.Skip() }"), ""},
		{"short", checkSkips, one("a/a_test.go",
			"package a\nimport \"testing\"\nvar _ = testing.Short()"), "testing.Short"},
		{"constraint", checkSkips, one("a/a_test.go", "//go:build slow\n\npackage a"),
			"build constraint"},
		{"constraint in a name", checkSkips, one("a/a_arm64_test.go", "package a"),
			"build constraint"},
		{"constraint of the product", checkSkips, one("a/a.go", "//go:build linux\n\npackage a"),
			""},
	} {
		t.Run(c.name, func(t *testing.T) {
			found := c.check(inMemory(t, c.files))
			switch {
			case c.want == "" && len(found) > 0:
				t.Errorf("found %q where nothing is wrong", found)
			case c.want != "" && (len(found) != 1 || !strings.Contains(found[0], c.want)):
				t.Errorf("found %q, want one finding with %q", found, c.want)
			}
		})
	}
}

func one(name, text string) map[string]string { return map[string]string{name: text} }

// Comments may miss from few names, not from many.
func TestCommentsRatio(t *testing.T) {
	text := "package a\n" + strings.Repeat("// F is.\nfunc F() {}\n", 19) + "func G() {}\n"
	if found := checkComments(inMemory(t, one("a/a.go", text))); len(found) > 0 {
		t.Errorf("19 of 20 commented: found %q", found)
	}
	if found := checkComments(inMemory(t, one("a/a.go", text+"func H() {}\n"))); len(found) != 2 {
		t.Errorf("19 of 21 commented: found %q, want 2 findings", found)
	}
}

// Nested modules and folders that the go command ignores are none of ours.
func TestForeignFolders(t *testing.T) {
	tree := inMemory(t, map[string]string{
		"a/a.go": "package a", "tools/go.mod": "module tools", "tools/t.go": "package tools",
		"a/testdata/x.go": "package x", ".hidden/x.go": "package x", "_old/x.go": "package x",
	})
	if len(tree.pkgs) != 1 || tree.pkgs[0].dir != "a" {
		t.Errorf("parsed %d packages, want a alone", len(tree.pkgs))
	}
}

func TestNolint(t *testing.T) {
	for comment, want := range map[string]string{
		"//nolint:errcheck // it ends": "",
		"//nolint:errcheck":            "REASON",
		"//nolint // all of it":        "REASON",
		"//nolint:gosec // bounded":    "gosec, which does not run",
		"// nolint is a word":          "",
	} {
		tree := inMemory(t, one("a/a.go", "package a\n\nvar _ = 1 "+comment+"\n"))
		found := checkNolint(tree, []string{"errcheck"})
		if want == "" && len(found) > 0 ||
			want != "" && (len(found) != 1 || !strings.Contains(found[0], want)) {
			t.Errorf("%s: found %q, want %q", comment, found, want)
		}
	}
}

// Lines that are too wide are found, and those that cannot be broken are not.
func TestColumns(t *testing.T) {
	wide := strings.Repeat("wide ", 21)
	for _, c := range []struct {
		name, text string
		findings   int
	}{
		{"a.go", "package a // " + wide, 1},
		{"a.go", "package a\n// " + strings.Repeat("x", 120), 0},
		{"a.go", "package a\n\nvar _ = f(a, \"" + wide + "\")", 1},
		{"a.go", "package a\n\nvar _ = f(a,\n\t\"" + wide + "\")", 0},
		{"a.go", "package a\n\nvar _ = `" + wide + "\n" + wide + "`", 0},
		{"a.go", "package a\n" + strings.Repeat("\t", 24) + "var a", 1},
		{"a.md", wide, 1},
		{"a.md", "| " + wide + " |", 0},
		{"a.md", "    " + wide, 0},
		{"a.md", "```\n" + wide + "\n```\n" + wide, 1},
		{"third_party/a.md", wide, 0},
	} {
		found, err := checkColumns(fstest.MapFS{c.name: {Data: []byte(c.text)}})
		if err != nil || len(found) != c.findings {
			t.Errorf("%s %q: found %q, %v; want %d", c.name, c.text, found, err, c.findings)
		}
	}
}

func TestText(t *testing.T) {
	machine := "see /" + "work/main"
	for _, c := range []struct {
		name, text string
		findings   int
	}{
		{"a.md", machine, 1},
		{"a.md", "https://example.org/" + "work/x", 0},
		{"images/x/requirements.lock", "--index-url https://example.org", 1},
		{"docs/a.md", "pip install --index-url …", 0},
		{"a.png", machine, 0},
	} {
		found, err := checkText(fstest.MapFS{c.name: {Data: []byte(c.text)}})
		if err != nil || len(found) != c.findings {
			t.Errorf("%s %q: found %q, %v; want %d findings", c.name, c.text, found, err,
				c.findings)
		}
	}
}

func TestScripts(t *testing.T) {
	for text, findings := range map[string]int{
		"exec true\n":                       0,
		"[!exec:curl] skip 'none'\n":        1,
		"exec true\nskip\n":                 1,
		"[unix] [amd64] stop\n":             1,
		"[short] exec true\n":               1,
		"exec true\n-- a.txt --\nskip it\n": 0,
		"# skip nothing\nexec skip\n":       0,
	} {
		found, err := checkScripts(fstest.MapFS{"a/a.txtar": {Data: []byte(text)}})
		if err != nil || len(found) != findings {
			t.Errorf("%q: found %q, %v; want %d findings", text, found, err, findings)
		}
	}
}

func TestRooms(t *testing.T) {
	found, err := checkRooms(fstest.MapFS{
		"docs/architecture.md": {Data: []byte("# The house\n\n    internal/a/  is there, with x\n")},
		"internal/a/a.go":      {}, "internal/b/b.go": {}, "internal/a/x/x.go": {},
		"internal/a/y/y.go": {}, "internal/a/testdata/z/z.go": {}})
	if err != nil || len(found) != 2 || !strings.Contains(found[0], "internal/a/y/") ||
		!strings.Contains(found[1], "internal/b/") {
		t.Errorf("found %q, %v; want a/y and b alone", found, err)
	}
}
