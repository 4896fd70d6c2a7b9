package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/sandpool/sandpool/images"
)

// pinned is what the recipe itself takes from npm, Node.js among it: "npm:lodash==4.18.1".
func (r Recipe) pinned() ([]string, error) {
	runtime, err := r.lines("npm.lock")
	if err != nil {
		return nil, err
	}
	var out []string
	for _, line := range runtime {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			return nil, fmt.Errorf("%q of npm.lock has no version", line)
		}
		// The program is published as a package for each kind of machine.
		name, _, _ := strings.Cut(fields[0], "-linux-")
		out = append(out, npmPrefix+name+"=="+fields[1])
	}
	text, err := fs.ReadFile(r.Files, "package.json")
	if errors.Is(err, fs.ErrNotExist) {
		return out, nil
	}
	var wanted struct{ Dependencies map[string]string }
	if err == nil {
		err = json.Unmarshal(text, &wanted)
	}
	if err != nil {
		return nil, fmt.Errorf("read package.json: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(wanted.Dependencies)) {
		out = append(out, npmPrefix+name+"=="+wanted.Dependencies[name])
	}
	return out, nil
}

// Contents is the image's Packages. If it was built before they had those of npm, and its recipe is
// still the same, they come from that.
func (i Image) Contents() ([]string, error) {
	if slices.ContainsFunc(i.Packages, func(p string) bool {
		return strings.HasPrefix(p, npmPrefix)
	}) {
		return i.Packages, nil
	}
	for _, name := range images.Names() {
		r, err := BuiltIn(name, i.Variant)
		if err != nil || !i.Of(r) {
			continue // another recipe, which need not have the variant
		}
		pinned, err := r.pinned()
		return slices.Concat(i.Packages, pinned), err
	}
	return i.Packages, nil
}
