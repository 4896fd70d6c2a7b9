package images_test

import (
	"io/fs"
	"regexp"
	"testing"

	"github.com/sandpool/sandpool/images"
)

// TestRecipesAreWhole: whatever a recipe's scripts name is among the files of one of its variants.
// A file that is not embedded is missed only where an image is built anew.
func TestRecipesAreWhole(t *testing.T) {
	named := regexp.MustCompile(`\$recipe"?/([\w.-]+)["\s]`)
	for _, name := range images.Names() {
		wanted, have := map[string]string{}, map[string]bool{}
		for _, variant := range images.Variants(name) {
			recipe, err := images.Recipe(name, variant)
			if err != nil {
				t.Fatal(err)
			}
			all, err := fs.Glob(recipe, "*")
			if err != nil {
				t.Fatal(err)
			}
			for _, file := range all {
				have[file] = true
				text, err := fs.ReadFile(recipe, file)
				if err != nil {
					t.Fatal(err)
				}
				for _, m := range named.FindAllStringSubmatch(string(text), -1) {
					wanted[m[1]] = file
				}
			}
		}
		for file, by := range wanted {
			if !have[file] {
				t.Errorf("%s: %s names %s, which is not embedded", name, by, file)
			}
		}
		if len(wanted) < 2 || !have["setup.sh"] || !have["debian.packages"] ||
			!have["debian.lock"] {
			t.Errorf("%s: its scripts name %d files, and it has %v", name, len(wanted), have)
		}
	}
}
