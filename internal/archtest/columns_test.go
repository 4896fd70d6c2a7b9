package archtest

import (
	"fmt"
	"go/scanner"
	"go/token"
	"io/fs"
	"path"
	"strings"
	"unicode/utf8"
)

// maxColumns is the width of lines of code and of pages, with a tab as four columns.
const maxColumns = 100

// checkColumns finds lines that are wider and could be broken. What cannot: raw strings, a string
// without a blank or on a line of its own, a word alone, and in pages tables and code.
func checkColumns(fsys fs.FS) (found []string, err error) {
	err = fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			base := path.Base(name)
			if base == "third_party" || base != "." && strings.HasPrefix(base, ".") {
				return fs.SkipDir
			}
			return nil
		}
		var lines func([]byte) []int
		switch path.Ext(name) {
		case ".go":
			lines = wideCode
		case ".md":
			lines = widePage
		default:
			return nil
		}
		text, err := fs.ReadFile(fsys, name)
		if err != nil {
			return err
		}
		for _, n := range lines(text) {
			found = append(found, fmt.Sprintf("%s:%d: more than %d columns", name, n, maxColumns))
		}
		return nil
	})
	return found, err
}

// columns is the width of a line.
func columns(line string) int {
	return utf8.RuneCountInString(line) + 3*strings.Count(line, "\t")
}

// alone reports whether a line is one word, whatever stands before it to mark a comment or an item.
func alone(line string) bool {
	return !strings.ContainsAny(strings.TrimLeft(line, " \t/*-#>"), " \t")
}

// wideCode returns the numbers of lines of Go that are too wide.
func wideCode(src []byte) (found []int) {
	files := token.NewFileSet()
	f := files.AddFile("", -1, len(src))
	var s scanner.Scanner
	s.Init(f, src, nil, scanner.ScanComments)
	fixed := map[int]bool{} // lines that cannot be broken
	first := map[int]bool{} // lines of which a token has been seen
	for {
		pos, kind, text := s.Scan()
		if kind == token.EOF {
			break
		}
		at := f.Line(pos)
		switch {
		case kind == token.STRING && text[0] == '`':
			for n := range strings.Count(text, "\n") + 1 {
				fixed[at+n] = true
			}
		case kind == token.STRING && (!first[at] || !strings.Contains(text, " ")),
			strings.HasPrefix(text, "//go:"):
			fixed[at] = true
		}
		first[at] = true
	}
	n := 0
	for line := range strings.Lines(string(src)) {
		n++
		line = strings.TrimRight(line, "\n")
		if columns(line) > maxColumns && !fixed[n] && !alone(line) {
			found = append(found, n)
		}
	}
	return found
}

// widePage returns the numbers of lines of a page that are too wide.
func widePage(text []byte) (found []int) {
	n, fenced := 0, false
	for line := range strings.Lines(string(text)) {
		n++
		line = strings.TrimRight(line, "\n")
		start := strings.TrimSpace(line)
		if strings.HasPrefix(start, "```") {
			fenced = !fenced
		}
		code := fenced || strings.HasPrefix(line, "    ")
		if columns(line) > maxColumns && !code && !strings.HasPrefix(start, "|") && !alone(line) {
			found = append(found, n)
		}
	}
	return found
}
