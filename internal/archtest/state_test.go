package archtest

import (
	"go/ast"
	"go/token"
	"strings"
)

// checkState finds init functions and package variables that can change. A
// package variable may be: blank (a proof at compile time), embedded, made as maker
// allows, set by the linker, or a table (a composite literal, or a function called
// on the spot) that its package never writes to, takes the address of or exports.
func checkState(t *tree) (found []string) {
	for _, p := range t.pkgs {
		written := writtenNames(p)
		for _, f := range p.shipped() {
			for _, d := range f.ast.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
					found = append(found, t.at(fn, "func init: do it in main or in a constructor"))
				}
				gen, ok := d.(*ast.GenDecl)
				if !ok || gen.Tok != token.VAR {
					continue
				}
				for _, spec := range gen.Specs {
					if why, at := mutable(f, gen, spec.(*ast.ValueSpec), written); why != "" {
						found = append(found, t.at(at, "package variable %s %s", at.Name, why))
					}
				}
			}
		}
	}
	return found
}

// mutable says why a declared variable can change, or "".
func mutable(f source, gen *ast.GenDecl, spec *ast.ValueSpec, written map[string]bool) (string,
	*ast.Ident) {
	for i, id := range spec.Names {
		switch {
		case id.Name == "_" || embedded(gen.Doc) || embedded(spec.Doc):
			continue
		case written[id.Name]:
			return "is written to", id
		case setByLinker(f, gen, spec):
			continue
		case i >= len(spec.Values):
			return "has no value of its own", id
		}
		switch v := spec.Values[i].(type) {
		case *ast.CompositeLit:
			if id.IsExported() {
				return "is a literal that others can write to: export a function", id
			}
		case *ast.CallExpr:
			if _, table := v.Fun.(*ast.FuncLit); table && id.IsExported() {
				return "is a table that others can write to: export a function", id
			}
			if !maker(f, v) {
				return "is made by a call that is not known to yield something immutable", id
			}
		default:
			return "should be a constant, a literal table or a field", id
		}
	}
	return "", nil
}

// setByLinker says whether spec is a string of a main package that, as its
// comment says, the linker sets: there is no other way to give a program its version.
func setByLinker(f source, gen *ast.GenDecl, spec *ast.ValueSpec) bool {
	typ, ok := spec.Type.(*ast.Ident)
	return ok && typ.Name == "string" && len(spec.Values) == 0 && f.ast.Name.Name == "main" &&
		strings.Contains(gen.Doc.Text()+spec.Doc.Text(), "linker")
}

func embedded(doc *ast.CommentGroup) bool {
	if doc == nil {
		return false
	}
	for _, c := range doc.List {
		// A linkname'd variable is another package's; it is not this one's state.
		if strings.HasPrefix(c.Text, "//go:embed ") || strings.HasPrefix(c.Text, "//go:linkname ") {
			return true
		}
	}
	return false
}

// maker says whether call yields a value that nobody can change, or is a
// literal table spelt as a function called on the spot.
func maker(f source, call *ast.CallExpr) bool {
	if _, ok := call.Fun.(*ast.FuncLit); ok {
		return true
	}
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	x, ok := sel.X.(*ast.Ident)
	if !ok {
		return false
	}
	switch imports(f)[x.Name] + "." + sel.Sel.Name {
	case "errors.New", "fmt.Errorf", "strings.NewReplacer", "hash/crc32.MakeTable",
		"net/netip.MustParsePrefix", "net/netip.MustParseAddr",
		// Not regexp.MustCompile: each start of a sandbox would compile it.
		"github.com/sandpool/sandpool/internal/pattern.Lazy":
		return true
	}
	return false
}

// writtenNames are the package variables that p writes to, wholly or in part, or
// whose address it takes. A local variable of the same name does not count.
func writtenNames(p *pkg) map[string]bool {
	out := map[string]bool{}
	for _, f := range p.shipped() {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.AssignStmt:
				if n.Tok != token.DEFINE {
					for _, lhs := range n.Lhs {
						mark(f, out, lhs)
					}
				}
			case *ast.IncDecStmt:
				mark(f, out, n.X)
			case *ast.RangeStmt:
				if n.Tok == token.ASSIGN {
					mark(f, out, n.Key)
					mark(f, out, n.Value)
				}
			case *ast.UnaryExpr:
				if n.Op == token.AND {
					mark(f, out, n.X)
				}
			case *ast.CallExpr:
				if fn, ok := n.Fun.(*ast.Ident); ok &&
					(fn.Name == "delete" || fn.Name == "clear") && len(n.Args) > 0 {
					mark(f, out, n.Args[0])
				}
			}
			return true
		})
	}
	return out
}

// mark notes the package variable that x is, or is part of. The parser resolves
// the names that a file declares and leaves those of other files unresolved.
func mark(f source, out map[string]bool, x ast.Expr) {
	switch x := x.(type) {
	case *ast.Ident:
		if x.Obj == nil || f.ast.Scope.Lookup(x.Name) == x.Obj {
			out[x.Name] = true
		}
	case *ast.IndexExpr:
		mark(f, out, x.X)
	case *ast.SelectorExpr:
		mark(f, out, x.X)
	case *ast.StarExpr:
		mark(f, out, x.X)
	case *ast.ParenExpr:
		mark(f, out, x.X)
	}
}
