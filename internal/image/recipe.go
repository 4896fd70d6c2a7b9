package image

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/images"
)

// Slim is the variant of a recipe with few packages.
const Slim = images.Slim

// Recipe says how an image is built. Files are described at images.Recipe.
type Recipe struct {
	Name    string
	Variant string // "" is the whole one
	Files   fs.FS
}

// Recipes lists the names that BuiltIn knows.
func Recipes() []string { return images.Names() }

// BuiltIn returns a variant of a recipe that comes with sandpool; the error for an unknown one is
// of class NotFound.
func BuiltIn(name, variant string) (Recipe, error) {
	files, err := images.Recipe(name, variant)
	if errors.Is(err, fs.ErrNotExist) && slices.Contains(images.Names(), name) {
		return Recipe{}, sandpool.Errorf(sandpool.NotFound, "RecipeNotFound", "variant",
			"There is no variant %q of the recipe %q.", variant, name)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return Recipe{}, sandpool.Errorf(sandpool.NotFound, "RecipeNotFound", "recipe",
			"There is no recipe %q; there are: %s.", name, strings.Join(images.Names(), ", "))
	}
	return Recipe{Name: name, Variant: variant, Files: files}, err
}

// digest tells whether two images are of one recipe: it covers the names and contents of its files.
func (r Recipe) digest() (string, error) {
	entries, err := fs.ReadDir(r.Files, ".")
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	for _, e := range entries {
		text, err := fs.ReadFile(r.Files, e.Name())
		if err != nil {
			return "", err
		}
		fmt.Fprintf(sum, "%s %d\n", e.Name(), len(text))
		sum.Write(text)
	}
	return digestPrefix + hex.EncodeToString(sum.Sum(nil)), nil
}

// The files of a recipe that the builder reads itself.
const (
	packagesFile = "debian.packages"
	excludeFile  = "debian.exclude"
	lockFile     = "debian.lock"
	setupFile    = "setup.sh"
	stepPrefix   = "step "
)

// lines returns the lines of a recipe's file without comments and blanks; none if the file does not
// exist.
func (r Recipe) lines(name string) ([]string, error) {
	text, err := fs.ReadFile(r.Files, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			out = append(out, line)
		}
	}
	return out, nil
}

// packages is what the recipe wants of Debian.
func (r Recipe) packages() ([]string, error) {
	list, err := r.lines(packagesFile)
	if err != nil {
		return nil, err
	}
	for _, p := range list {
		if strings.ContainsAny(p, ", \t'\"") {
			return nil, sandpool.Errorf(sandpool.Invalid, "InvalidRecipe", packagesFile,
				"Line %q of %s is not one package's name.", p, packagesFile)
		}
	}
	return list, nil
}

// excluded is what the recipe leaves out of Debian's packages: patterns of absolute paths.
func (r Recipe) excluded() ([]string, error) {
	list, err := r.lines(excludeFile)
	if err != nil {
		return nil, err
	}
	for _, p := range list {
		if p[0] != '/' || strings.ContainsAny(p, " \t'\"") {
			return nil, sandpool.Errorf(sandpool.Invalid, "InvalidRecipe", excludeFile,
				"Line %q of %s is not one absolute path.", p, excludeFile)
		}
	}
	return list, nil
}

// setupSteps counts the steps that the recipe's setup announces.
func (r Recipe) setupSteps() (int, error) {
	list, err := r.lines(setupFile)
	if err != nil {
		return 0, err
	}
	if len(list) == 0 {
		return 0, sandpool.Errorf(sandpool.Invalid, "InvalidRecipe", setupFile,
			"The recipe %q has no %s.", r.Name, setupFile)
	}
	n := 0
	for _, line := range list {
		if strings.HasPrefix(line, stepPrefix) {
			n++
		}
	}
	return n, nil
}

// drift compares the Debian packages of an image with the recipe's lock.
func (r Recipe) drift(packages []string) ([]string, error) {
	lock, err := r.lines(lockFile)
	if err != nil || len(lock) == 0 {
		return nil, err
	}
	locked, have := map[string]string{}, map[string]string{}
	for _, p := range lock {
		name, version, _ := strings.Cut(p, "=")
		locked[name] = version
	}
	var out []string
	for _, p := range packages {
		p, ok := strings.CutPrefix(p, debianPrefix)
		if !ok {
			continue
		}
		name, version, _ := strings.Cut(p, "=")
		have[name] = version
		switch was, ok := locked[name]; {
		case !ok:
			out = append(out, name+": "+version+" is not in the lock")
		case was != version:
			out = append(out, name+": "+version+", not "+was)
		}
	}
	for _, p := range lock {
		if name, version, _ := strings.Cut(p, "="); have[name] == "" {
			out = append(out, name+": "+version+" is in the lock only")
		}
	}
	return out, nil
}
