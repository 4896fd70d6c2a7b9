// Package images holds the recipes of the images that sandpool builds, one
// folder each. Package image reads and carries out a recipe; a recipe's
// Containerfile makes the same image with other tools.
package images

import (
	"embed"
	"io/fs"
	"path"
)

//go:embed */debian.packages */*.lock */*.sh */*.py
var recipes embed.FS

// Names lists the recipes, in order.
func Names() []string {
	entries, err := fs.ReadDir(recipes, ".")
	if err != nil {
		return nil // an embedded root cannot be unreadable
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// Recipe returns the files of the named recipe:
//
//   - debian.packages: what to install, a package a line
//   - debian.lock: the versions that this came to when the recipe was last checked
//   - requirements.lock: Python wheels with their hashes
//   - setup.sh: run as root in the new root filesystem, with these files beside it
func Recipe(name string) (fs.FS, error) {
	if !fs.ValidPath(name) || path.Base(name) != name {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	if _, err := fs.Stat(recipes, name); err != nil {
		return nil, err
	}
	return fs.Sub(recipes, name)
}
