package archtest

import (
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
)

// checkText finds what ties the repository to one machine: a path that exists
// only where somebody works, or a package index named in something that is run. An
// index is chosen by whoever builds, in the environment.
func checkText(fsys fs.FS) (found []string, err error) {
	workplace := regexp.MustCompile(`(^|[\s"'=(:])/` + `work/`)
	index := regexp.MustCompile(`--(extra-)?index-url|--find-links|--trusted-host|GOPROXY=`)
	err = fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if err == nil && (name == ".git" || name == ".sandpool") {
				return fs.SkipDir
			}
			return err
		}
		if !textual(name) {
			return nil
		}
		text, err := fs.ReadFile(fsys, name)
		if err != nil {
			return err
		}
		n := 0
		for line := range strings.Lines(string(text)) {
			n++
			if workplace.MatchString(line) {
				found = append(found, fmt.Sprintf("%s:%d: a path of one machine", name, n))
			}
			if path.Ext(name) != ".go" && path.Ext(name) != ".md" && index.MatchString(line) {
				found = append(found, fmt.Sprintf(
					"%s:%d: a package index, which the environment chooses", name, n))
			}
		}
		return nil
	})
	return found, err
}

// checkRooms finds folders of packages that the list of rooms in docs/architecture.md leaves out:
// each has a row, and what is beneath it is named there.
func checkRooms(fsys fs.FS) (found []string, err error) {
	page, err := fs.ReadFile(fsys, "docs/architecture.md")
	if err != nil {
		return nil, err
	}
	rows := map[string]string{} // by the folder's name below internal/
	for _, row := range strings.Split(string(page), "\n    internal/")[1:] {
		name, text, _ := strings.Cut(row, "/")
		row, _, _ := strings.Cut(text, "\n\n")
		rows[name] = row
	}
	err = fs.WalkDir(fsys, "internal", func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		if d.Name() == "testdata" {
			return fs.SkipDir
		}
		code, err := fs.Glob(fsys, name+"/*.go")
		if err != nil || len(code) == 0 {
			return err
		}
		room, _, below := strings.Cut(strings.TrimPrefix(name, "internal/"), "/")
		row, ok := rows[room]
		if !ok || below && !slices.Contains(strings.FieldsFunc(row, notInName), path.Base(name)) {
			found = append(found, "docs/architecture.md does not say what "+name+"/ is")
		}
		return nil
	})
	return found, err
}

// notInName separates words in a text, of which names of packages are some.
func notInName(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' }

func textual(name string) bool {
	switch path.Ext(name) {
	case ".go", ".md", ".sh", ".py", ".js", ".yml", ".yaml", ".json", ".txt", ".txtar", ".sql",
		".html", ".in", ".lock", ".packages":
		return true
	}
	switch path.Base(name) {
	case "Makefile", "Containerfile":
		return true
	}
	dir := path.Dir(name)
	return dir == "scripts" || dir == ".ci"
}
