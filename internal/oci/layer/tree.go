package layer

import (
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/sandpool/sandpool/internal/erofs"
)

// Tree is the merged file system of the layers that were applied so far. Its methods are for
// one goroutine.
type Tree struct {
	root    *node
	content *os.File // of all regular files, one after the other
	size    int64    // of content
	spent   spent
	layer   int // the number of the layer that is being applied

	devices []string // the first few that were left out
	dropped int      // how many there were
}

// node is a file, a folder or a link. Hard links are several names of one node.
type node struct {
	entry    erofs.Entry     // without a path
	children map[string]name // of a folder
	parent   *node           // of a folder; the root is its own
	path     int             // of a folder: how many bytes its path has
}

// name is one name in a folder.
type name struct {
	*node
	layer int // that gave it
}

// NewTree returns an empty tree, which keeps the content of files in the empty file content.
func NewTree(l Limits, content *os.File) *Tree {
	root := folder(erofs.Entry{Mode: fs.ModeDir | 0o755})
	root.parent = root
	return &Tree{root: root, content: content, spent: spent{limits: l}}
}

func folder(e erofs.Entry) *node { return &node{entry: e, children: map[string]name{}} }

func (n *node) dir() bool { return n.children != nil }

// split returns the names that a path is made of, none for the root.
func split(p string) ([]string, error) {
	if len(p) > maxPath {
		return nil, invalid("A path has %d bytes, of at most %d.", len(p), maxPath)
	}
	var names []string
	for part := range strings.SplitSeq(p, "/") {
		switch {
		case part == "" || part == ".":
		case part == "..":
			return nil, invalid("A path leads upwards.")
		case len(part) > maxName:
			return nil, invalid("A name has %d bytes, of at most %d.", len(part), maxName)
		case strings.ContainsRune(part, 0):
			return nil, invalid("A name has a zero byte.")
		default:
			names = append(names, part)
		}
	}
	return names, nil
}

// walk returns the folder that names lead to, following symbolic links within the tree. A
// missing one is made if make is set, and is nil otherwise.
func (t *Tree) walk(names []string, make bool) (*node, error) {
	at, links := t.root, 0
	for len(names) > 0 {
		if err := t.spent.step(); err != nil {
			return nil, err
		}
		part := names[0]
		names = names[1:]
		switch part {
		case "", ".":
			continue
		case "..": // from a link; above the root is the root
			at = at.parent
			continue
		}
		next, ok := at.children[part]
		switch {
		case !ok && !make:
			return nil, nil
		case !ok:
			made := folder(erofs.Entry{Mode: fs.ModeDir | 0o755})
			if err := t.hang(at, part, made); err != nil {
				return nil, err
			}
			at = made
		case next.dir():
			at = next.node
		case next.entry.Mode&fs.ModeSymlink != 0:
			if links++; links > maxLinks {
				return nil, invalid("A path goes through more than %d symbolic links.", maxLinks)
			}
			if strings.HasPrefix(next.entry.Target, "/") {
				at = t.root
			}
			names = slices.Concat(strings.Split(next.entry.Target, "/"), names)
		default:
			return nil, invalid("A path goes through %q, which is not a folder.", short(part))
		}
	}
	return at, nil
}

// hang gives n a name in the folder dir, in place of what has it.
func (t *Tree) hang(dir *node, base string, n *node) error {
	if len(base) > maxName || strings.ContainsRune(base, 0) {
		return invalid("A link leads through a name of %d bytes, of at most %d.",
			len(base), maxName)
	}
	length := dir.path + 1 + len(base)
	if length > maxPath {
		return invalid("A path has %d bytes, of at most %d.", length, maxPath)
	}
	if err := t.spent.addEntry(length, len(n.entry.Target)+xattrBytes(n.entry)); err != nil {
		return err
	}
	if n.dir() {
		n.parent, n.path = dir, length
	}
	dir.children[base] = name{n, t.layer}
	return nil
}

// removeEarlier removes what earlier layers have at base in dir. Folders stay as far as this
// layer has put something into them.
func (t *Tree) removeEarlier(dir *node, base string) error {
	n, ok := dir.children[base]
	if !ok {
		return nil
	}
	if n.dir() {
		if err := t.removeAllEarlier(n.node); err != nil {
			return err
		}
	}
	if n.layer < t.layer && len(n.children) == 0 {
		delete(dir.children, base)
	}
	return t.spent.step()
}

// removeAllEarlier removes all that earlier layers have in dir.
func (t *Tree) removeAllEarlier(dir *node) error {
	for base := range dir.children {
		if err := t.removeEarlier(dir, base); err != nil {
			return err
		}
	}
	return nil
}

// Entries returns the tree as package erofs wants it. The contents are read from the
// tree's file, which must stay open as long.
func (t *Tree) Entries() []erofs.Entry {
	var out []erofs.Entry
	first := map[*node]string{}
	var visit func(string, *node)
	visit = func(at string, n *node) {
		e := n.entry
		e.Path = at
		if earlier, ok := first[n]; ok {
			e = erofs.Entry{Path: at, Link: earlier}
		}
		first[n] = at
		out = append(out, e)
		for _, base := range slices.Sorted(maps.Keys(n.children)) {
			visit(path.Join(at, base), n.children[base].node)
		}
	}
	visit(".", t.root)
	return out
}

// Notes say what was left out of the image, for people.
func (t *Tree) Notes() []string {
	if t.dropped == 0 {
		return nil
	}
	note := "device nodes are left out, a sandbox has its own: " + strings.Join(t.devices, ", ")
	if more := t.dropped - len(t.devices); more > 0 {
		note += fmt.Sprintf(" and %d more", more)
	}
	return []string{note}
}

// Size is how many bytes of content the layers have, what later ones replace included.
func (t *Tree) Size() int64 { return t.size }

// opener returns how a file's content is read back.
func (t *Tree) opener(at, size int64) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) {
		return io.NopCloser(io.NewSectionReader(t.content, at, size)), nil
	}
}
