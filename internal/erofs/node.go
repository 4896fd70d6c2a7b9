package erofs

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"path"
	"sort"
	"strings"
)

// A node is one inode of the image that is being written. Hard links are
// several names of one node.
type node struct {
	entry    Entry
	children map[string]*node // of a folder
	parent   *node            // of a folder; the root is its own
	links    uint32

	// Set by place.
	size   int64
	inline bool // the content follows the inode
	nid    uint64
	block  int64 // of the content, if not inline
}

// grow makes a tree of entries.
func grow(entries []Entry) (*node, error) {
	root := folder(Entry{Path: ".", Mode: fs.ModeDir | 0o755})
	root.parent = root
	byPath := map[string]*node{".": root}
	given := map[string]bool{}
	for _, e := range entries {
		if e.Link != "" {
			continue
		}
		if err := check(e, given); err != nil {
			return nil, err
		}
		if have, ok := byPath[e.Path]; ok {
			// A folder that was made for something beneath it, or the root.
			if !e.Mode.IsDir() {
				return nil, fmt.Errorf("pack %q: it is a folder and something else", e.Path)
			}
			have.entry = e
			continue
		}
		n := &node{entry: e, links: 1}
		if e.Mode.IsDir() {
			n = folder(e)
		}
		if err := hang(byPath, e.Path, n); err != nil {
			return nil, err
		}
	}
	for _, e := range entries {
		if e.Link == "" {
			continue
		}
		if err := check(Entry{Path: e.Path}, given); err != nil {
			return nil, err
		}
		n, ok := byPath[e.Link]
		if !ok || n.entry.Mode.IsDir() {
			return nil, fmt.Errorf("pack %q: there is no file %q to be a second name of", e.Path,
				e.Link)
		}
		n.links++
		if err := hang(byPath, e.Path, n); err != nil {
			return nil, err
		}
	}
	return root, nil
}

// valid reports whether p names something below the root. The bytes of a name are anything but a
// slash and a zero, in no encoding.
func valid(p string) bool {
	if p == "." {
		return true
	}
	for name := range strings.SplitSeq(p, "/") {
		if name == "" || name == "." || name == ".." || len(name) > maxNameLen ||
			strings.IndexByte(name, 0) >= 0 {
			return false
		}
	}
	return true
}

// check refuses entries that an image cannot hold, and second entries of one path.
func check(e Entry, given map[string]bool) error {
	if !valid(e.Path) {
		return fmt.Errorf("pack %q: not a relative path with names of at most %d bytes", e.Path,
			maxNameLen)
	}
	if given[e.Path] {
		return fmt.Errorf("pack %q: given twice", e.Path)
	}
	given[e.Path] = true
	if e.Mode.IsRegular() && (e.Size < 0 || e.Size > 0 && e.Open == nil) {
		return fmt.Errorf("pack %q: a file of %d bytes without content", e.Path, e.Size)
	}
	return checkXattrs(e)
}

func folder(e Entry) *node { return &node{entry: e, children: map[string]*node{}, links: 2} }

// hang puts n at name, with the folders above it.
func hang(byPath map[string]*node, name string, n *node) error {
	if byPath[name] != nil {
		return fmt.Errorf("pack %q: it is a folder and something else", name)
	}
	dir := path.Dir(name)
	up, ok := byPath[dir]
	if !ok {
		up = folder(Entry{Path: dir, Mode: fs.ModeDir | 0o755})
		if err := hang(byPath, dir, up); err != nil {
			return err
		}
	}
	if up.children == nil {
		return fmt.Errorf("pack %q: %q is not a folder", name, dir)
	}
	up.children[path.Base(name)] = n
	byPath[name] = n
	if n.children != nil {
		n.parent = up
		up.links++
	}
	return nil
}

// flatten lists the nodes once each: folders before what is in them, in the
// order of their names.
func (n *node) flatten() []*node {
	var out []*node
	seen := map[*node]bool{}
	var walk func(*node)
	walk = func(n *node) {
		if seen[n] {
			return
		}
		seen[n] = true
		out = append(out, n)
		for _, name := range n.names() {
			walk(n.children[name])
		}
	}
	walk(n)
	return out
}

func (n *node) names() []string {
	names := make([]string, 0, len(n.children))
	for name := range n.children {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// groups splits a folder's names, "." and ".." among them, into what fits in
// one block each: readers search by the bytes of the names, first the blocks and then within.
func (n *node) groups() [][]string {
	names := append(n.names(), ".", "..")
	sort.Strings(names)
	var out [][]string
	room := 0
	for _, name := range names {
		need := direntSize + len(name)
		if len(out) == 0 || need > room {
			out, room = append(out, nil), blockSize
		}
		out[len(out)-1] = append(out[len(out)-1], name)
		room -= need
	}
	return out
}

// listingSize is how long listing will be.
func (n *node) listingSize() int64 {
	groups := n.groups()
	size := int64(len(groups)-1) * blockSize
	for _, name := range groups[len(groups)-1] {
		size += int64(direntSize + len(name))
	}
	return size
}

// listing renders a folder's names, when all nodes have their numbers.
func (n *node) listing() []byte {
	var out []byte
	le := binary.LittleEndian
	for _, group := range n.groups() {
		out = padded(out)
		offset := direntSize * len(group)
		var names []byte
		for _, name := range group {
			to := n.child(name)
			out = le.AppendUint64(out, to.nid)
			out = le.AppendUint16(out, uint16(offset+len(names)))
			out = append(out, fileType(to.entry.Mode), 0)
			names = append(names, name...)
		}
		out = append(out, names...)
	}
	return out
}

func (n *node) child(name string) *node {
	switch name {
	case ".":
		return n
	case "..":
		return n.parent
	}
	return n.children[name]
}

// fileType is the type of a name in a folder's listing.
func fileType(m fs.FileMode) byte {
	switch {
	case m.IsRegular():
		return 1
	case m.IsDir():
		return 2
	case m&fs.ModeCharDevice != 0:
		return 3
	case m&fs.ModeDevice != 0:
		return 4
	case m&fs.ModeNamedPipe != 0:
		return 5
	case m&fs.ModeSocket != 0:
		return 6
	case m&fs.ModeSymlink != 0:
		return 7
	}
	return 0
}

// unixMode is m as stat(2) has it.
func unixMode(m fs.FileMode) uint16 {
	types := [...]uint16{0, 0o100000, 0o040000, 0o020000, 0o060000, 0o010000, 0o140000, 0o120000}
	bits := uint16(m.Perm()) | types[fileType(m)]
	if m&fs.ModeSetuid != 0 {
		bits |= 0o4000
	}
	if m&fs.ModeSetgid != 0 {
		bits |= 0o2000
	}
	if m&fs.ModeSticky != 0 {
		bits |= 0o1000
	}
	return bits
}
