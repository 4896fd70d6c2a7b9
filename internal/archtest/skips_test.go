package archtest

import (
	"fmt"
	"go/ast"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
)

// skipHome is the one package that skips tests.
const skipHome = "internal/need"

// checkSkips finds ways in which a test stays away without being missed: a skip of its own, the
// short mode, a build constraint. What a test lacks is told to package need, which fails it
// under make test.
func checkSkips(t *tree) (found []string) {
	skips := []string{"Skip", "Skipf", "SkipNow"}
	for _, p := range t.pkgs {
		if p.dir == skipHome {
			continue
		}
		for _, f := range p.files {
			if !f.test && !p.kit() {
				continue
			}
			ast.Inspect(f.ast, func(n ast.Node) bool {
				if sel, ok := n.(*ast.SelectorExpr); ok && slices.Contains(skips, sel.Sel.Name) {
					found = append(found, t.at(sel,
						"%s in a test: say what is missing by package need", sel.Sel.Name))
				}
				return true
			})
			uses(f, func(n ast.Node, name string) {
				if name == "testing.Short" {
					found = append(found, t.at(n, "testing.Short: all tests run, always"))
				}
			})
			found = append(found, constraints(t, f)...)
		}
	}
	return found
}

// constraints finds what keeps a file out of some builds.
func constraints(t *tree, f source) (found []string) {
	for _, group := range f.ast.Comments {
		for _, c := range group.List {
			if strings.HasPrefix(c.Text, "//go:build ") || strings.HasPrefix(c.Text, "// +build ") {
				found = append(found, t.at(c,
					"a build constraint on a test: it is left out in silence"))
			}
		}
	}
	if regexp.MustCompile(`_(linux|darwin|windows|freebsd|amd64|arm64)(_test)?\.go$`).MatchString(
		f.name) {
		found = append(found, f.name+": a build constraint on a test: it is left out in silence")
	}
	return found
}

// checkScripts finds scripts of what users see that skip, or end early.
func checkScripts(fsys fs.FS) (found []string, err error) {
	away := regexp.MustCompile(`^(\[[^\]]*\] *)*(skip|stop)\b|^\[!?short\]`)
	err = fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && name != "." && path.Base(name)[0] == '.' {
			return fs.SkipDir
		}
		if d.IsDir() || path.Ext(name) != ".txtar" {
			return nil
		}
		text, err := fs.ReadFile(fsys, name)
		if err != nil {
			return err
		}
		script, _, _ := strings.Cut(string(text), "\n-- ")
		n := 0
		for line := range strings.Lines(script) {
			if n++; away.MatchString(line) {
				found = append(found, fmt.Sprintf("%s:%d: a script that stays away", name, n))
			}
		}
		return nil
	})
	return found, err
}
