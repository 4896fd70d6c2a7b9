// Package images holds the recipes of the images that sandpool builds.
// Package image reads and carries out a recipe; a recipe's
// Containerfile makes the same image with other tools.
package images

import (
	"embed"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Only what builders read is embedded; documents, Containerfiles and the sources of locks are not.
//
//go:embed */*.sh */*.py */*.mjs */*.json */debian.* */locales */*/*.sh */*/*.py */*/*.lock */*/debian.* */*/locales
var files embed.FS

// Slim is the variant of a recipe with few packages.
const Slim = "slim"

// A recipe is the files of some folders. A file of a later folder hides its namesakes.
type recipe struct {
	name    string
	variant string
	folders []string
}

// table lists the recipes.
func table() []recipe {
	return []recipe{
		{"python", "", []string{"common", "python", "python/full"}},
		{"python", Slim, []string{"common", "python", "python/slim"}},
		{"node", "", []string{"common", "node/runtime", "node"}},
		{"shell", "", []string{"common", "node/runtime", "shell"}},
	}
}

// Names lists the recipes, in order.
func Names() []string {
	var names []string
	for _, r := range table() {
		if !slices.Contains(names, r.name) {
			names = append(names, r.name)
		}
	}
	return names
}

// Variants lists what there is of the named recipe; the one called "" is meant if none is named.
func Variants(name string) []string {
	var variants []string
	for _, r := range table() {
		if r.name == name {
			variants = append(variants, r.variant)
		}
	}
	return variants
}

// Recipe returns the files of a variant of the named recipe, in one folder:
//
//   - debian.packages: what to install, a package a line
//   - debian.exclude: patterns of paths that are left out of these packages; may be missing
//   - debian.lock: the versions that this came to when the recipe was last checked
//   - setup.sh: run as root in the new root filesystem, with these files beside it
//   - what setup.sh reads, such as requirements.lock: Python wheels with their hashes
//
// There being none is an error that is fs.ErrNotExist.
func Recipe(name, variant string) (fs.FS, error) {
	for _, r := range table() {
		if r.name == name && r.variant == variant {
			return layers(r.folders), nil
		}
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

// layers is the regular files of several folders as one folder.
type layers []string

// Open implements fs.FS.
func (l layers) Open(name string) (fs.File, error) {
	if name == "." {
		return files.Open(l[len(l)-1])
	}
	if path.Base(name) != name {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	for _, folder := range slices.Backward(l) {
		f, err := files.Open(path.Join(folder, name))
		if !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

// ReadDir implements fs.ReadDirFS.
func (l layers) ReadDir(name string) ([]fs.DirEntry, error) {
	if name != "." {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrNotExist}
	}
	found := map[string]fs.DirEntry{}
	for _, folder := range l {
		entries, err := fs.ReadDir(files, folder)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if !e.IsDir() {
				found[e.Name()] = e
			}
		}
	}
	var out []fs.DirEntry
	for _, e := range found {
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return out, nil
}
