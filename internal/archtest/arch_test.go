package archtest

import (
	"io/fs"
	"os"
	"testing"
	"testing/fstest"
)

// A rule finds what it forbids.
type rule struct {
	name  string
	check func(*tree) []string
}

func rules() []rule {
	return []rule{
		{"imports", checkImports},
		{"sizes", checkSizes},
		{"package comments", checkPackageComments},
		{"comments", checkComments},
		{"state", checkState},
		{"processes", checkProcesses},
		{"contexts", checkContexts},
		{"sleeps", checkSleeps},
		{"skips", checkSkips},
	}
}

// The repository keeps every rule.
func TestRepository(t *testing.T) {
	fsys := os.DirFS("../..")
	tree, err := parseTree(fsys)
	if err != nil {
		t.Fatal(err)
	}
	if len(tree.pkgs) < 3 {
		t.Fatalf("found %d packages: the module is not where this test looks", len(tree.pkgs))
	}
	for _, r := range rules() {
		t.Run(r.name, func(t *testing.T) {
			for _, finding := range r.check(tree) {
				t.Error(finding)
			}
		})
	}
	t.Run("nolint", func(t *testing.T) {
		enabled, err := linters(fsys)
		if err != nil || len(enabled) < 3 {
			t.Fatalf("linters %q, %v: .golangci.yml is not what this test reads", enabled, err)
		}
		for _, finding := range checkNolint(tree, enabled) {
			t.Error(finding)
		}
	})
	for name, check := range map[string]func(fs.FS) ([]string, error){
		"text": checkText, "skipped scripts": checkScripts, "columns": checkColumns, "rooms": checkRooms,
	} {
		t.Run(name, func(t *testing.T) {
			found, err := check(fsys)
			if err != nil {
				t.Fatal(err)
			}
			for _, finding := range found {
				t.Error(finding)
			}
		})
	}
}

// inMemory parses files of a module m.
func inMemory(t *testing.T, files map[string]string) *tree {
	t.Helper()
	fsys := fstest.MapFS{"go.mod": {Data: []byte("module m\n")}}
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	tree, err := parseTree(fsys)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}
