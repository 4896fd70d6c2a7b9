package archtest

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"sort"
	"strconv"
	"strings"
)

// A source is one parsed Go file.
type source struct {
	name string // path from the module's root
	test bool   // a _test.go file
	ast  *ast.File
}

// A pkg is the files of one folder.
type pkg struct {
	dir   string // path from the module's root, "." for the root
	files []source
}

// A tree is every package of the module, ordered by folder.
type tree struct {
	module string
	fset   *token.FileSet
	pkgs   []*pkg
}

// parseTree reads the module in fsys. Folders that the go command ignores and
// nested modules are left out.
func parseTree(fsys fs.FS) (*tree, error) {
	module, err := moduleName(fsys)
	if err != nil {
		return nil, err
	}
	t := &tree{module: module, fset: token.NewFileSet()}
	byDir := map[string]*pkg{}
	err = fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return skipDir(fsys, name)
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		f, err := t.parse(fsys, name)
		if err != nil {
			return err
		}
		dir := path.Dir(name)
		if byDir[dir] == nil {
			byDir[dir] = &pkg{dir: dir}
			t.pkgs = append(t.pkgs, byDir[dir])
		}
		byDir[dir].files = append(byDir[dir].files, f)
		return nil
	})
	sort.Slice(t.pkgs, func(i, j int) bool { return t.pkgs[i].dir < t.pkgs[j].dir })
	return t, err
}

func moduleName(fsys fs.FS) (string, error) {
	mod, err := fs.ReadFile(fsys, "go.mod")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(mod)) {
		if name, ok := strings.CutPrefix(line, "module "); ok {
			return strings.TrimSpace(name), nil
		}
	}
	return "", fmt.Errorf("go.mod has no module line")
}

func skipDir(fsys fs.FS, name string) error {
	base := path.Base(name)
	if name == "." {
		return nil
	}
	if base == "testdata" || base == "vendor" || base[0] == '.' || base[0] == '_' {
		return fs.SkipDir
	}
	if _, err := fs.Stat(fsys, path.Join(name, "go.mod")); err == nil {
		return fs.SkipDir
	}
	return nil
}

func (t *tree) parse(fsys fs.FS, name string) (source, error) {
	text, err := fs.ReadFile(fsys, name)
	if err != nil {
		return source{}, err
	}
	f, err := parser.ParseFile(t.fset, name, bytes.NewReader(text), parser.ParseComments)
	return source{name: name, test: strings.HasSuffix(name, "_test.go"), ast: f}, err
}

// at prefixes a finding with the place of n.
func (t *tree) at(n ast.Node, format string, args ...any) string {
	p := t.fset.Position(n.Pos())
	return fmt.Sprintf("%s:%d: ", p.Filename, p.Line) + fmt.Sprintf(format, args...)
}

// lines is how many lines n spans.
func (t *tree) lines(n ast.Node) int {
	return t.fset.Position(n.End()).Line - t.fset.Position(n.Pos()).Line + 1
}

// shipped are the files that go into the product.
func (p *pkg) shipped() []source {
	var out []source
	for _, f := range p.files {
		if !f.test {
			out = append(out, f)
		}
	}
	return out
}

// name is the package's name, of its shipped files if it has any.
func (p *pkg) name() string {
	for _, f := range p.shipped() {
		return f.ast.Name.Name
	}
	return strings.TrimSuffix(p.files[0].ast.Name.Name, "_test")
}

// kit says whether p exists for tests only, like sandboxtest.
func (p *pkg) kit() bool { return strings.HasSuffix(p.name(), "test") }

// imports maps the local name of each import of f to its path.
func imports(f source) map[string]string {
	out := map[string]string{}
	for _, spec := range f.ast.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue
		}
		name := path.Base(p)
		if spec.Name != nil {
			name = spec.Name.Name
		}
		out[name] = p
	}
	return out
}

// uses calls found for every mention of a name of another package, "os.Exit".
func uses(f source, found func(n ast.Node, name string)) {
	known := imports(f)
	ast.Inspect(f.ast, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		x, ok := sel.X.(*ast.Ident)
		if !ok || x.Obj != nil {
			return true
		}
		if p, ok := known[x.Name]; ok {
			found(sel, p+"."+sel.Sel.Name)
		}
		return true
	})
}
