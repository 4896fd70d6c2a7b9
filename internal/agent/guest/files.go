package guest

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/agent/guest/store"
	"github.com/sandpool/sandpool/internal/agent/guest/tree"
	"github.com/sandpool/sandpool/internal/agent/guest/watch"
	"golang.org/x/sys/unix"
)

const (
	// maxListed bounds a listing.
	maxListed = agent.MaxEntries
	// maxDepth bounds how far a recursive listing goes down.
	maxDepth = 100
	// uploadPrefix marks files that are still arriving; listings leave them out.
	uploadPrefix = agent.UploadPrefix
)

// files serves the files beneath Config.DataDir with the user's rights; a tree
// keeps links from leading out.
type files struct{ cfg Config }

// with calls f as the user with the data directory opened.
func (s *files) with(f func(t *tree.Tree) error) error {
	return s.store().With(f)
}

// in calls f with a directory of the data directory.
func (s *files) in(name string, f func(t *tree.Tree, dir *os.Root) error) error {
	return s.with(func(t *tree.Tree) error {
		dir, err := t.Directory(name)
		if errors.Is(err, unix.ENOTDIR) {
			return notDirectory(name)
		}
		if err != nil {
			return err
		}
		defer dir.Close()
		return f(t, dir)
	})
}

// store is what else is done with files.
func (s *files) store() *store.Store {
	return &store.Store{Dir: s.cfg.DataDir, As: s.cfg.User.do, Classify: func(err error,
		name string) error {
		if err == nil {
			return nil
		}
		return classify(err, name)
	}, Describe: describe}
}

// target returns the request's path as os.Root wants it.
func target(r *http.Request) (string, error) {
	p, err := agent.CleanPath(r.URL.Query().Get("path"))
	return cmp.Or(p, "."), err
}

func notRoot(name string) error {
	if name == "." {
		return sandpool.Errorf(sandpool.Invalid, "InvalidFilePath", "path",
			"The path names no file. Give a name.")
	}
	return nil
}

func (s *files) list(w http.ResponseWriter, r *http.Request) error {
	name, err := target(r)
	if err != nil {
		return err
	}
	depth := 0
	if r.URL.Query().Get("recursive") == "true" {
		depth = maxDepth
	}
	if r.URL.Query().Get("limit") != "" {
		return s.page(w, r, name, depth)
	}
	found := []agent.FileInfo{}
	err = s.in(name, func(t *tree.Tree, dir *os.Root) error {
		l := &lister{tree: t, found: found}
		err := l.walk(dir, name, depth)
		found = l.found
		return err
	})
	if err != nil {
		return classify(err, name)
	}
	slices.SortFunc(found, func(a, b agent.FileInfo) int { return strings.Compare(a.Path, b.Path) })
	return agent.WriteJSON(w, found)
}

// page is list of a piece, which has a limit and begins after a path.
func (s *files) page(w http.ResponseWriter, r *http.Request, name string, depth int) error {
	limit, err := strconv.Atoi(r.URL.Query().Get("limit"))
	if err != nil || limit < 1 || limit > maxListed {
		return sandpool.Errorf(sandpool.Invalid, "", "limit", "limit is 1 to %d.", maxListed)
	}
	found := []agent.FileInfo{}
	err = s.in(name, func(t *tree.Tree, dir *os.Root) error {
		pages := &tree.Pages{Tree: t, After: r.URL.Query().Get("after"), Limit: limit,
			Depth: depth, Want: told}
		entries, err := pages.List(dir, name)
		l := &lister{tree: t}
		for _, e := range entries {
			found = append(found, describe(e.Path, l.resolve(e.Path, e.Info)))
		}
		return err
	})
	if errors.Is(err, tree.ErrMany) {
		return sandpool.Errorf(sandpool.TooLarge, "TooManyFiles", "path",
			"A directory has %v. List others.", tree.ErrMany)
	}
	if err != nil {
		return classify(err, name)
	}
	return agent.WriteJSON(w, found)
}

// told reports whether listings have a name: not one that is still arriving.
func told(name string) bool { return !strings.HasPrefix(name, uploadPrefix) }

// watch sends what happens beneath a directory, as frames, until the host leaves.
func (s *Server) watch(w http.ResponseWriter, r *http.Request) error {
	name, err := target(r)
	if err != nil {
		return err
	}
	defer s.watches.Add(-1)
	if s.watches.Add(1) > agent.MaxWatches {
		return sandpool.Errorf(sandpool.Conflict, "TooManyWatches", "path",
			"The session is watched %d times already. End one of them.", agent.MaxWatches)
	}
	watched, err := watch.Open(s.cfg.DataDir, name, s.cfg.User.do, told)
	if err != nil {
		return classify(err, name)
	}
	return watch.Serve(w, r, watched)
}

// lister walks a directory tree.
type lister struct {
	tree  *tree.Tree
	found []agent.FileInfo
}

// walk adds what is in dir, whose path from the top is name, and beneath it down
// to depth levels. Every directory is opened from the one above it: resolving
// whole paths would take a hostile tree's depth squared.
func (l *lister) walk(dir *os.Root, name string, depth int) error {
	entries, err := readDir(dir, maxListed-len(l.found))
	if err != nil {
		return err
	}
	for _, info := range entries {
		if strings.HasPrefix(info.Name(), uploadPrefix) {
			continue
		}
		if len(l.found) == maxListed {
			return tooMany()
		}
		p := path.Join(name, info.Name())
		l.found = append(l.found, describe(p, l.resolve(p, info)))
		if depth == 0 || !info.IsDir() {
			continue
		}
		if err := l.descend(dir, p, depth); sandpool.ClassOf(err) == sandpool.TooLarge {
			// any other error: unreadable, or gone meanwhile; the rest is still worth listing
			return err
		}
	}
	return nil
}

func (l *lister) descend(dir *os.Root, p string, depth int) error {
	sub, err := l.tree.Within(dir, path.Base(p))
	if err != nil {
		return err
	}
	defer sub.Close()
	return l.walk(sub, p, depth-1)
}

// resolve follows a link that leads to something in the tree.
func (l *lister) resolve(p string, info fs.FileInfo) fs.FileInfo {
	if info.Mode()&fs.ModeSymlink != 0 {
		if to, err := l.tree.Stat(p); err == nil {
			return to
		}
	}
	return info
}

func readDir(root *os.Root, room int) ([]fs.FileInfo, error) {
	dir, err := root.Open(".")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	entries, err := dir.Readdir(room + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(entries) > room {
		return nil, tooMany()
	}
	return entries, nil
}

func tooMany() error {
	return sandpool.Errorf(sandpool.TooLarge, "TooManyFiles", "path",
		"The listing has more than %d entries. Ask for pages of it, or list a subdirectory.",
		maxListed)
}

func describe(p string, info fs.FileInfo) agent.FileInfo {
	out := agent.FileInfo{Name: path.Base(p), Path: p, Type: agent.Other, Size: info.Size(),
		ModTime: info.ModTime().UTC()}
	if !utf8.ValidString(p) {
		out.Raw = []byte(p)
	}
	switch {
	case info.Mode().IsRegular():
		out.Type, out.ContentType = agent.File, agent.ContentType(p)
	case info.IsDir():
		out.Type, out.Size = agent.Directory, 0
	}
	return out
}

func (s *files) stat(w http.ResponseWriter, r *http.Request) error {
	name, err := target(r)
	if err != nil {
		return err
	}
	var info fs.FileInfo
	err = s.with(func(t *tree.Tree) error {
		info, err = t.Stat(name)
		return err
	})
	if err != nil {
		return classify(err, name)
	}
	return agent.WriteJSON(w, describe(name, info))
}

func (s *files) open(w http.ResponseWriter, r *http.Request) error {
	name, err := target(r)
	if err != nil {
		return err
	}
	file, info, err := s.store().Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	w.Header().Set("Content-Type", agent.ContentType(name))
	http.ServeContent(w, r, "", info.ModTime(), file)
	return nil
}

func notRegular(name string) error {
	return sandpool.Errorf(sandpool.Conflict, "NotAFile", "path",
		"%q is not a regular file. Only regular files have content.", name)
}

func notDirectory(name string) error {
	return sandpool.Errorf(sandpool.Conflict, "NotADirectory", "path",
		"%q is not a directory. Only directories can be listed.", name)
}

func (s *files) upload(w http.ResponseWriter, r *http.Request) error {
	name, err := target(r)
	if err == nil {
		err = notRoot(name)
	}
	if err != nil {
		return err
	}
	limit, err := strconv.ParseInt(r.URL.Query().Get("limit"), 10, 64)
	if err != nil || limit < 0 {
		return sandpool.Errorf(sandpool.Invalid, "", "limit",
			"The limit is missing or not a number of bytes.")
	}
	if r.ContentLength > limit {
		return agent.TooLarge(limit)
	}
	part := uploadPrefix + rand.Text()
	dir, file, err := s.create(name, part)
	if err != nil {
		return classify(err, name)
	}
	defer dir.Close()
	body := http.MaxBytesReader(w, r.Body, limit)
	info, err := s.receive(dir, file, body, name)
	if err != nil {
		_ = s.cfg.User.do(func() error { return dir.Remove(part) })
		// A host that cannot send the rest learns that, and not why.
		_, _ = io.Copy(io.Discard, body)
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return agent.TooLarge(limit)
		}
		return classify(err, name)
	}
	return agent.WriteJSON(w, info)
}

// create makes the file that an upload fills, in the directory of its final place.
func (s *files) create(name, part string) (dir *os.Root, file *os.File, err error) {
	err = s.with(func(t *tree.Tree) error {
		if dir, err = t.MkdirAll(path.Dir(name)); err != nil {
			return err
		}
		info, err := dir.Lstat(path.Base(name))
		if err == nil && info.IsDir() {
			return errors.Join(unix.EISDIR, dir.Close())
		}
		if file, err = dir.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644); err != nil {
			return errors.Join(err, dir.Close())
		}
		return nil
	})
	return dir, file, err
}

// receive fills the file and moves it to its place.
func (s *files) receive(dir *os.Root, file *os.File, body io.Reader, name string) (agent.FileInfo,
	error) {
	_, err := io.Copy(file, body)
	if err := errors.Join(err, file.Close()); err != nil {
		return agent.FileInfo{}, err
	}
	var info fs.FileInfo
	err = s.cfg.User.do(func() error {
		if err := dir.Rename(path.Base(file.Name()), path.Base(name)); err != nil {
			return err
		}
		info, err = dir.Lstat(path.Base(name))
		return err
	})
	if err != nil {
		return agent.FileInfo{}, err
	}
	return describe(name, info), nil
}

func (s *files) remove(w http.ResponseWriter, r *http.Request) error {
	name, err := target(r)
	if err == nil {
		err = notRoot(name)
	}
	if err != nil {
		return err
	}
	err = s.with(func(t *tree.Tree) error {
		dir, err := t.Directory(path.Dir(name))
		if err != nil {
			return err
		}
		defer dir.Close()
		if _, err := dir.Lstat(path.Base(name)); err != nil {
			return err // RemoveAll is silent about what does not exist
		}
		return dir.RemoveAll(path.Base(name))
	})
	if err != nil {
		return classify(err, name)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *files) mkdir(w http.ResponseWriter, r *http.Request) error {
	name, err := target(r)
	if err != nil {
		return err
	}
	err = s.with(func(t *tree.Tree) error {
		dir, err := t.MkdirAll(name)
		if err != nil {
			return err
		}
		return dir.Close()
	})
	if err != nil {
		return classify(err, name)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// classify turns an error of the file system into one for the caller.
func classify(err error, name string) error {
	var known *sandpool.Error
	if errors.As(err, &known) {
		return err
	}
	fault := func(class sandpool.Class, code, format string) error {
		e := sandpool.Errorf(class, code, "path", format, name)
		e.Err = err
		return e
	}
	switch {
	case errors.Is(err, tree.ErrOutside), errors.Is(err, unix.ELOOP), strings.Contains(err.Error(),
		"path escapes from parent"):
		return fault(sandpool.Invalid, "InvalidFilePath",
			"%q leads out of the data directory. Only files beneath it can be reached.")
	case errors.Is(err, fs.ErrNotExist):
		return fault(sandpool.NotFound, "FileNotFound",
			"There is no file %q. List the files to see which there are.")
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return fault(sandpool.TooLarge, "DiskFull",
			"There is no room for %q: the session's disk is full. Delete files.")
	case errors.Is(err, unix.ENAMETOOLONG), errors.Is(err, unix.EINVAL):
		return fault(sandpool.Invalid, "InvalidFilePath",
			"The file system cannot hold the name %q. Use a shorter or plainer one.")
	case errors.Is(err, unix.ENXIO):
		return notRegular(name)
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.EISDIR), errors.Is(err,
		fs.ErrExist), errors.Is(err, unix.ENOTEMPTY):
		return fault(sandpool.Conflict, "FileConflict",
			"%q collides with a file or directory that exists. Use another name.")
	case errors.Is(err, fs.ErrPermission):
		return fault(sandpool.Denied, "FileDenied", "The session's user may not do this with %q.")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fault(sandpool.Invalid, "", "The upload of %q ended before its end.")
	}
	return nameless(err)
}

// nameless returns an error of the file system without the names in it: it is for the host's log.
func nameless(err error) error {
	var one *fs.PathError
	var two *os.LinkError
	switch {
	case errors.As(err, &one):
		return fmt.Errorf("%s a file: %w", one.Op, one.Err)
	case errors.As(err, &two):
		return fmt.Errorf("%s a file: %w", two.Op, two.Err)
	}
	return fmt.Errorf("a file: %w", err)
}
