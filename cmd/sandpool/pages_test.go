package main

import (
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"
	"testing"

	"github.com/sandpool/sandpool/cmd/sandpool/pool"
)

// TestPages: every command line of sandpool that a page tells its reader to run is one that the
// program understands: in blocks of code, and within a line where it has flags.
func TestPages(t *testing.T) {
	root := os.DirFS("../..")
	seen := 0
	for _, pattern := range []string{"README.md", "docs/*.md", "docs/*/*.md", "examples/*.md",
		"examples/*/README.md", "clients/*/README.md", "images/*/README.md"} {
		names, err := fs.Glob(root, pattern)
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: %q, %v", pattern, names, err)
		}
		for _, name := range names {
			text, err := fs.ReadFile(root, name)
			if err != nil {
				t.Fatal(err)
			}
			for _, line := range commandLines(string(text)) {
				seen++
				args := words(strings.ReplaceAll(line, "FILE", "cli.go")) // some have to exist
				parser, err := newParser(&grammar{})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := parser.Parse(pool.SpreadLists(args)); err != nil {
					t.Errorf("%s: sandpool %s: %v", path.Clean(name), line, err)
				}
			}
		}
	}
	if seen < 50 {
		t.Errorf("%d command lines were found; there are more", seen)
	}
}

// commandLines are what stands behind the program's name in the command lines of a page.
func commandLines(page string) (found []string) {
	page = strings.ReplaceAll(page, "\\\n", " ")
	block := regexp.MustCompile(`(?m)^    +(?:bin/)?sandpool (.+)$`)
	inside := regexp.MustCompile(`\$\((?:bin/)?sandpool ([^)]+)\)`)
	inLine := regexp.MustCompile("`(?:bin/)?sandpool ([^`]*--[^`]+)`")
	for _, pattern := range []*regexp.Regexp{block, inside, inLine} {
		for _, m := range pattern.FindAllStringSubmatch(page, -1) {
			line, _, _ := strings.Cut(m[1], " | ")
			found = append(found, strings.Join(strings.Fields(line), " "))
		}
	}
	return found
}

// words splits a command line as a shell does, as far as the pages need it: at spaces, with
// quotes, up to a comment.
func words(line string) (found []string) {
	var word strings.Builder
	quote, began := rune(0), false
	for _, r := range line + " " {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, began = r, true
		case r == '#' && !began:
			return found
		case r == ' ' || r == '\n':
			if began {
				found = append(found, word.String())
			}
			word.Reset()
			began = false
		default:
			word.WriteRune(r)
			began = true
		}
	}
	return found
}
