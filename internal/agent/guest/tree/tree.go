// Package tree reaches files beneath one directory and nothing outside of it, whatever links a
// hostile user has made there.
package tree

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrOutside is for what a link leads to outside the tree.
var ErrOutside = errors.New("outside the data directory")

// maxLinks bounds how many links in a row are followed.
const maxLinks = 40

// Tree is a directory that nothing is reached outside of.
//
// os.Root alone does not see to that: it asks the system to open directories without
// following links, and gVisor follows those that lead to directories all the same. So
// whatever is opened is asked where it is before it is used, and everything is done in a
// directory that was asked.
type Tree struct {
	root *os.Root
	path string // where the root is, without links
}

// Open opens the tree beneath a directory.
func Open(name string) (*Tree, error) {
	root, err := os.OpenRoot(name)
	if err != nil {
		return nil, fmt.Errorf("open %q: %w", name, err)
	}
	dir, err := root.Open(".")
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	at, err := where(dir)
	if err := errors.Join(err, dir.Close()); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return &Tree{root: root, path: at}, nil
}

// Close closes the tree.
func (t *Tree) Close() error { return t.root.Close() }

// fdOf calls f with the name of the link to an open file. File.Fd would make the
// file a blocking one.
func fdOf(file *os.File, f func(name string)) error {
	conn, err := file.SyscallConn()
	if err != nil {
		return err
	}
	return conn.Control(func(fd uintptr) { f("/proc/self/fd/" + strconv.Itoa(int(fd))) })
}

// where returns the path of an open file, without links.
func where(file *os.File) (at string, err error) {
	failed := fdOf(file, func(name string) { at, err = os.Readlink(name) })
	return at, errors.Join(failed, err)
}

// check is an error unless the file is in the tree.
func (t *Tree) check(f *os.File) error {
	at, err := where(f)
	if err != nil {
		return fmt.Errorf("locate %q: %w", f.Name(), err)
	}
	if at != t.path && !strings.HasPrefix(at, strings.TrimSuffix(t.path, "/")+"/") {
		return ErrOutside
	}
	return nil
}

// Within opens a directory from another one of the tree.
func (t *Tree) Within(dir *os.Root, name string) (*os.Root, error) {
	// Not OpenRoot, which a named pipe would hold.
	file, err := dir.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if err := t.check(file); err != nil {
		return nil, err
	}
	if info, err := file.Stat(); err != nil || !info.IsDir() {
		return nil, cmp.Or(err, error(unix.ENOTDIR))
	}
	return rootOf(file)
}

// rootOf opens the directory that an open file is, wherever it is by now.
func rootOf(dir *os.File) (root *os.Root, err error) {
	failed := fdOf(dir, func(name string) { root, err = os.OpenRoot(name) })
	return root, errors.Join(failed, err)
}

// Directory opens a directory of the tree.
func (t *Tree) Directory(name string) (*os.Root, error) { return t.Within(t.root, name) }

// find follows links to what name leads to: base in dir, which the caller closes.
func (t *Tree) find(name string) (dir *os.Root, base string, info fs.FileInfo, err error) {
	for range maxLinks {
		base = path.Base(name)
		if dir, err = t.Directory(path.Dir(name)); err != nil {
			return nil, "", nil, err
		}
		if info, err = dir.Lstat(base); err == nil && info.Mode()&fs.ModeSymlink == 0 {
			return dir, base, info, nil
		}
		to := ""
		if err == nil {
			to, err = dir.Readlink(base)
		}
		if err := errors.Join(err, dir.Close()); err != nil {
			return nil, "", nil, err
		}
		name = path.Join(path.Dir(name), to)
		if path.IsAbs(to) || name == ".." || strings.HasPrefix(name, "../") {
			return nil, "", nil, ErrOutside
		}
	}
	return nil, "", nil, unix.ELOOP
}

// Stat describes what name leads to.
func (t *Tree) Stat(name string) (fs.FileInfo, error) {
	dir, _, info, err := t.find(name)
	if err != nil {
		return nil, err
	}
	return info, dir.Close()
}

// Open opens a file to read it.
func (t *Tree) Open(name string) (*os.File, error) {
	dir, base, _, err := t.find(name)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	// Without O_NONBLOCK a named pipe would hold the call until someone writes.
	file, err := dir.OpenFile(base, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if err := t.check(file); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// MkdirAll opens a directory, and makes it and those above it that do not exist.
func (t *Tree) MkdirAll(name string) (*os.Root, error) {
	dir, err := t.Directory(name)
	if name == "." || !errors.Is(err, fs.ErrNotExist) {
		return dir, err
	}
	above, err := t.MkdirAll(path.Dir(name))
	if err != nil {
		return nil, err
	}
	defer above.Close()
	if err := above.Mkdir(path.Base(name), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return t.Within(above, path.Base(name))
}
