package image

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sandpool/sandpool/images"
	"github.com/sandpool/sandpool/internal/image"
	"github.com/sandpool/sandpool/internal/need"
)

var pages = map[string]string{
	"python": "python-packages.md", "node": "node-packages.md", "shell": "shell-packages.md",
}

// page reads the page of a language's image.
func page(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("../../../docs/languages/" + pages[name])
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestPagesSayWhatRecipesSay: the page of each image has all that its recipe locks, in that
// version. If it does not, build the image and write the page anew, as it says.
func TestPagesSayWhatRecipesSay(t *testing.T) {
	locked := map[string]*regexp.Regexp{
		"debian.lock":       regexp.MustCompile(`(?m)^([\w.+-]+)=([^=\s]+)$`),
		"requirements.lock": regexp.MustCompile(`(?m)^([\w.-]+)(?:\[[\w,]+\])?==(\S+)`),
		"package.json":      regexp.MustCompile(`(?m)^    "([^"]+)": "([^"]+)"`),
		"npm.lock":          regexp.MustCompile(`(?m)^(\w+)(?:-linux-x64)? (\S+)`),
	}
	normal := func(name string) string {
		return strings.NewReplacer("_", "-", ".", "-").Replace(strings.ToLower(name))
	}
	for _, name := range images.Names() {
		versions := map[string][]string{}
		item := regexp.MustCompile("`(\\S+)` ([^\\s,]+)")
		for _, m := range item.FindAllStringSubmatch(page(t, name), -1) {
			versions[normal(m[1])] = append(versions[normal(m[1])], m[2])
		}
		recipe, err := images.Recipe(name, "")
		if err != nil {
			t.Fatal(err)
		}
		seen := 0
		for file, pattern := range locked {
			text, err := fs.ReadFile(recipe, file)
			if err != nil {
				continue // not each has each
			}
			for _, m := range pattern.FindAllStringSubmatch(string(text), -1) {
				seen++
				if !strings.Contains(strings.Join(versions[normal(m[1])], " ")+" ", m[2]+" ") {
					t.Errorf("%s: %s has %s %s, the page %v", name, file, m[1], m[2],
						versions[normal(m[1])])
				}
			}
		}
		if seen < 100 {
			t.Errorf("%s: the recipe locks %d packages; there are more", name, seen)
		}
	}
}

// TestPagesSayWhatImagesHave: the page of each image is what it would be written as now. Where
// Debian has released something since the lock, the image may have that.
func TestPagesSayWhatImagesHave(t *testing.T) {
	store, err := image.Open(filepath.Join(need.Data(t), "images"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range images.Names() {
		i, err := store.Resolve(name)
		if err != nil {
			need.Lack(t, "no image %q in SANDPOOL_TEST_DATA: %v", name, err)
		}
		var b strings.Builder
		if err := writePage(&b, i); err != nil {
			t.Fatal(err)
		}
		got, want := b.String(), page(t, name)
		if len(i.Drift) > 0 {
			got, _, _ = strings.Cut(got, "\n## Debian")
			want, _, _ = strings.Cut(want, "\n## Debian")
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-page +image):\n%.2000s", name, d)
		}
	}
}
