package guest

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

// errOutside is for what a link leads to outside the tree.
var errOutside = errors.New("outside the data directory")

// maxLinks bounds how many links in a row are followed.
const maxLinks = 40

// tree is a directory that nothing is reached outside of.
//
// os.Root alone does not see to that: it asks the system to open directories without
// following links, and gVisor follows those that lead to directories all the same. So
// whatever is opened is asked where it is before it is used, and everything is done in a
// directory that was asked.
type tree struct {
	root *os.Root
	path string // where the root is, without links
}

func openTree(name string) (*tree, error) {
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
	return &tree{root: root, path: at}, nil
}

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
func (t *tree) check(f *os.File) error {
	at, err := where(f)
	if err != nil {
		return fmt.Errorf("locate %q: %w", f.Name(), err)
	}
	if at != t.path && !strings.HasPrefix(at, strings.TrimSuffix(t.path, "/")+"/") {
		return errOutside
	}
	return nil
}

// within opens a directory from another one of the tree.
func (t *tree) within(dir *os.Root, name string) (*os.Root, error) {
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

func (t *tree) directory(name string) (*os.Root, error) { return t.within(t.root, name) }

// find follows links to what name leads to: base in dir, which the caller closes.
func (t *tree) find(name string) (dir *os.Root, base string, info fs.FileInfo, err error) {
	for range maxLinks {
		base = path.Base(name)
		if dir, err = t.directory(path.Dir(name)); err != nil {
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
			return nil, "", nil, errOutside
		}
	}
	return nil, "", nil, unix.ELOOP
}

func (t *tree) stat(name string) (fs.FileInfo, error) {
	dir, _, info, err := t.find(name)
	if err != nil {
		return nil, err
	}
	return info, dir.Close()
}

// open opens a file to read it.
func (t *tree) open(name string) (*os.File, error) {
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

// mkdirAll opens a directory, and makes it and those above it that do not exist.
func (t *tree) mkdirAll(name string) (*os.Root, error) {
	dir, err := t.directory(name)
	if name == "." || !errors.Is(err, fs.ErrNotExist) {
		return dir, err
	}
	above, err := t.mkdirAll(path.Dir(name))
	if err != nil {
		return nil, err
	}
	defer above.Close()
	if err := above.Mkdir(path.Base(name), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return t.within(above, path.Base(name))
}
