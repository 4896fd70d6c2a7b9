package describe

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
)

// comments are those of a package's types, by "Type", and of their fields, by "Type.Field".
type comments map[string]string

// readComments reads the comments of the Go files in dir.
func readComments(dir string) (comments, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("describe: no Go files in %q: %w", dir, err)
	}
	out := comments{}
	for _, name := range files {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			return nil, fmt.Errorf("describe: %w", err)
		}
		for _, d := range f.Decls {
			if gen, ok := d.(*ast.GenDecl); ok {
				out.read(gen)
			}
		}
	}
	return out, nil
}

func (c comments) read(gen *ast.GenDecl) {
	for _, spec := range gen.Specs {
		t, ok := spec.(*ast.TypeSpec)
		if !ok {
			continue
		}
		c[t.Name.Name] = plain(gen.Doc)
		s, ok := t.Type.(*ast.StructType)
		if !ok {
			continue
		}
		for _, f := range s.Fields.List {
			text := plain(f.Doc)
			if text == "" {
				text = plain(f.Comment)
			}
			for _, name := range f.Names {
				c[t.Name.Name+"."+name.Name] = text
			}
		}
	}
}

// plain is a comment's text in one line.
func plain(g *ast.CommentGroup) string { return strings.Join(strings.Fields(g.Text()), " ") }
