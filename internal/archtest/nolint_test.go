package archtest

import (
	"io/fs"
	"regexp"
	"slices"
	"strings"
)

// linters are those that .golangci.yml enables.
func linters(fsys fs.FS) ([]string, error) {
	text, err := fs.ReadFile(fsys, ".golangci.yml")
	if err != nil {
		return nil, err
	}
	var names []string
	_, list, _ := strings.Cut(string(text), "enable:\n")
	for line := range strings.Lines(list) {
		name, ok := strings.CutPrefix(strings.TrimSpace(line), "- ")
		if !ok {
			break
		}
		names = append(names, name)
	}
	return names, nil
}

// checkNolint finds nolint comments without a reason, or without effect because none of the
// linters that run is meant.
func checkNolint(t *tree, enabled []string) (found []string) {
	form := regexp.MustCompile(`^//nolint:([a-z]+) // .`)
	for _, p := range t.pkgs {
		for _, f := range p.files {
			for _, group := range f.ast.Comments {
				for _, c := range group.List {
					if !strings.HasPrefix(c.Text, "//nolint") {
						continue
					}
					m := form.FindStringSubmatch(c.Text)
					switch {
					case m == nil:
						found = append(found, t.at(c, "write //nolint:LINTER // REASON"))
					case !slices.Contains(enabled, m[1]):
						found = append(found, t.at(c, "nolint of %s, which does not run", m[1]))
					}
				}
			}
		}
	}
	return found
}
