package cgroup

import (
	"errors"
	"io/fs"
	"math"
	"path/filepath"
	"strconv"

	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/gvisor/kernfile"
)

// bound is what limits a group in one resource, and all groups above it.
type bound struct {
	dir          string
	max, current string   // files: the limit, and what the group and those beneath it use
	cache        []string // fields of memory.stat that the kernel takes back when it needs them
}

// Left returns what all groups of the tree together may take, by the limits of the groups above
// them: of several that limit a resource, the one that leaves least of it.
func (t *Tree) Left() (sandbox.Room, error) {
	memory, threads := t.version.bounds(t.parents)
	m, err := memory.left()
	p, err2 := threads.left()
	return sandbox.Room{Memory: m, Threads: p}, errors.Join(err, err2)
}

// left goes up to the root of the hierarchy, which has no such file, or none that says anything.
func (b bound) left() (sandbox.Bound, error) {
	least := sandbox.Bound{Limit: math.MaxInt64, Left: math.MaxInt64}
	for dir := b.dir; ; dir = filepath.Dir(dir) {
		text, err := kernfile.Text(filepath.Join(dir, b.max))
		if errors.Is(err, fs.ErrNotExist) {
			return least, nil
		}
		if err != nil {
			return least, err
		}
		most, err := strconv.ParseInt(text, 10, 64)
		if err != nil || most >= unlimited {
			continue // "max"
		}
		used, err := kernfile.Int(filepath.Join(dir, b.current))
		if err != nil {
			return least, err
		}
		if len(b.cache) > 0 {
			cache, err := kernfile.Fields(filepath.Join(dir, "memory.stat"), b.cache...)
			if err != nil {
				return least, err
			}
			used -= cache
		}
		if most-used < least.Left {
			least = sandbox.Bound{Limit: most, Left: most - used}
		}
	}
}

// unlimited is beyond all memory: version 1 writes "no limit" as the largest number of whole pages.
const unlimited = math.MaxInt64 / 2
