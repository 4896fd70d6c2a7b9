package tree

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
)

// maxNames bounds the names of one directory that are sorted.
const maxNames = 1 << 20

// ErrMany is for a directory with more names than can be sorted.
var ErrMany = fmt.Errorf("more than %d names", maxNames)

// Entry is a name in a tree, with its path from the top.
type Entry struct {
	Path string
	Info fs.FileInfo
}

// Pages lists a tree a piece at a time, in the order of paths, name by name. A tree that changes
// between two pieces has nothing told twice; what is new before the place where a piece ended is
// not told.
type Pages struct {
	Tree *Tree
	// After is the last path of the piece before; "" means that there is none.
	After string
	// Limit is the most entries of a piece, Depth how many levels below the directory it goes down.
	Limit, Depth int
	// Want says of a name whether it is to be told.
	Want func(name string) bool

	found []Entry
}

// List returns the entries of dir, whose path from the top is name.
func (l *Pages) List(dir *os.Root, name string) ([]Entry, error) {
	l.found = nil
	if name == "." {
		name = ""
	}
	err := l.walk(dir, name, l.Depth)
	return l.found, err
}

func (l *Pages) walk(dir *os.Root, at string, depth int) error {
	names, err := sorted(dir)
	if err != nil {
		return err
	}
	for _, n := range names {
		if len(l.found) >= l.Limit {
			return nil
		}
		p := path.Join(at, n)
		within := strings.HasPrefix(l.After, p+"/")
		told := l.After != "" && compare(p, l.After) <= 0
		if !l.Want(n) || told && !within && p != l.After {
			continue
		}
		info, err := dir.Lstat(n)
		if err != nil {
			continue // gone meanwhile
		}
		if !told {
			l.found = append(l.found, Entry{Path: p, Info: info})
		}
		if !info.IsDir() || depth == 0 {
			continue
		}
		if err := l.descend(dir, n, p, depth); errors.Is(err, ErrMany) {
			// any other error: unreadable, or gone meanwhile; the rest is still worth listing
			return err
		}
	}
	return nil
}

func (l *Pages) descend(dir *os.Root, name, p string, depth int) error {
	sub, err := l.Tree.Within(dir, name)
	if err != nil {
		return err
	}
	defer sub.Close()
	return l.walk(sub, p, depth-1)
}

// compare compares paths name by name: a slash comes before every character that names have.
func compare(a, b string) int {
	for i := range min(len(a), len(b)) {
		x, y := a[i], b[i]
		switch {
		case x == y:
			continue
		case x == '/':
			return -1
		case y == '/':
			return 1
		case x < y:
			return -1
		}
		return 1
	}
	return len(a) - len(b)
}

// sorted returns the names in a directory.
func sorted(root *os.Root) ([]string, error) {
	dir, err := root.Open(".")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(maxNames + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(names) > maxNames {
		return nil, ErrMany
	}
	slices.Sort(names)
	return names, nil
}
