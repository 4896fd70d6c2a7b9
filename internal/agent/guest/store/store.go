// Package store is what the agent does with files besides reading, listing and replacing them:
// moving, copying, writing parts of them, digests, whole directories as archives, and news of what
// changes. All of it happens with the user's rights and beneath one directory.
package store

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/agent/guest/tree"
	"golang.org/x/sys/unix"
)

// Store serves the files beneath Dir.
type Store struct {
	Dir string
	// As calls a function with the user's rights.
	As func(func() error) error
	// Classify turns an error of the file system into one for the caller.
	Classify func(err error, name string) error
	// Describe describes a file.
	Describe func(name string, info fs.FileInfo) agent.FileInfo
}

// maxDepth bounds how far down a copy or an archive goes, and maxFiles how much it may hold.
const (
	maxDepth = 100
	maxFiles = 200_000
)

// Register adds the store's part of the protocol.
func (s *Store) Register(handle func(string, func(http.ResponseWriter, *http.Request) error)) {
	handle("POST /file/move", s.move)
	handle("POST /file/copy", s.copy)
	handle("PATCH /file", s.patch)
	handle("GET /file/digest", s.digest)
	handle("GET /archive", s.pack)
	handle("PUT /archive", s.unpack)
}

// With calls f with the user's rights and the tree opened.
func (s *Store) With(f func(t *tree.Tree) error) error {
	return s.As(func() error {
		t, err := tree.Open(s.Dir)
		if err != nil {
			return err
		}
		defer t.Close()
		return f(t)
	})
}

// named returns a path of the request, which must name something beneath the top.
func named(r *http.Request, parameter string) (string, error) {
	p, err := agent.CleanPathOf(parameter, r.URL.Query().Get(parameter))
	if err == nil && p == "" {
		err = sandpool.Errorf(sandpool.Invalid, "InvalidFilePath", parameter,
			"The path names no file. Give a name.")
	}
	return p, err
}

// directory returns a path of the request, which may be the top itself.
func directory(r *http.Request) (string, error) {
	p, err := agent.CleanPath(r.URL.Query().Get("path"))
	if p == "" {
		p = "."
	}
	return p, err
}

// fromTo reads the two paths of a request and whether the second may be there already.
func fromTo(r *http.Request) (from, to string, overwrite bool, err error) {
	if from, err = named(r, "path"); err != nil {
		return "", "", false, err
	}
	if to, err = named(r, "to"); err != nil {
		return "", "", false, err
	}
	if strings.HasPrefix(to, from+"/") {
		return "", "", false, sandpool.Errorf(sandpool.Invalid, "InvalidFilePath", "to",
			"%q is within %q, and no directory can be in itself. Choose another name.", to, from)
	}
	return from, to, r.URL.Query().Get("overwrite") == "true", nil
}

// move renames a file or a directory. Directories on the way to its new place are made.
func (s *Store) move(w http.ResponseWriter, r *http.Request) error {
	from, to, overwrite, err := fromTo(r)
	if err != nil {
		return err
	}
	var moved fs.FileInfo
	there := false // what is wrong is at the new place
	err = s.With(func(t *tree.Tree) error {
		source, err := t.Directory(path.Dir(from))
		if err != nil {
			return err
		}
		defer source.Close()
		if _, err := source.Lstat(path.Base(from)); err != nil {
			return err
		}
		there = true
		target, err := place(t, to, overwrite)
		if err != nil {
			return err
		}
		defer target.Close()
		if err := rename(source, path.Base(from), target, path.Base(to)); err != nil {
			return err
		}
		moved, err = target.Lstat(path.Base(to))
		return err
	})
	if err != nil {
		return s.fault(err, from, to, there)
	}
	return agent.WriteJSON(w, s.Describe(to, moved))
}

// fault is what err means to the caller of a move or a copy; there says that it is about the new
// place.
func (s *Store) fault(err error, from, to string, there bool) error {
	if !there {
		return s.Classify(err, from)
	}
	err = s.Classify(err, to)
	var known *sandpool.Error
	if errors.As(err, &known) {
		about := *known
		about.Target = "to"
		return &about
	}
	return err
}

// place returns the directory that a new name is in, which is made, once nothing is there that may
// not be replaced.
func place(t *tree.Tree, name string, overwrite bool) (*os.Root, error) {
	dir, err := t.MkdirAll(path.Dir(name))
	if err != nil {
		return nil, err
	}
	if err := free(dir, name, overwrite); err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return dir, nil
}

// free is an error if something is there that may not be replaced. A directory never is. dir is
// the one that the name is in.
func free(dir *os.Root, name string, overwrite bool) error {
	info, err := dir.Lstat(path.Base(name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.IsDir():
		return sandpool.Errorf(sandpool.Conflict, "FileConflict", "to",
			"%q is a directory that exists, which nothing replaces. Choose another name.", name)
	case !overwrite:
		return sandpool.Errorf(sandpool.Conflict, "FileConflict", "to",
			"%q exists. Choose another name, or say overwrite=true to replace it.", name)
	}
	return nil
}

// rename moves a name from one open directory into another.
func rename(from *os.Root, name string, to *os.Root, as string) error {
	return fdsOf(from, to, func(a, b int) error { return unix.Renameat(a, name, b, as) })
}

// fdsOf calls f with the descriptors of two directories.
func fdsOf(a, b *os.Root, f func(a, b int) error) error {
	first, err := a.Open(".")
	if err != nil {
		return err
	}
	defer first.Close()
	second, err := b.Open(".")
	if err != nil {
		return err
	}
	defer second.Close()
	return f(int(first.Fd()), int(second.Fd()))
}

// patch writes the body at an offset: at the end of what is there, or at the beginning of a file
// that is new or begun again. What has arrived of an upload that broke off stays.
func (s *Store) patch(w http.ResponseWriter, r *http.Request) error {
	name, err := named(r, "path")
	if err != nil {
		return err
	}
	limit, err1 := strconv.ParseInt(r.URL.Query().Get("limit"), 10, 64)
	offset, err2 := strconv.ParseInt(r.URL.Query().Get("offset"), 10, 64)
	if err1 != nil || err2 != nil || limit < 0 {
		return sandpool.Errorf(sandpool.Invalid, "", "offset",
			"The limit or the offset is missing or not a number of bytes.")
	}
	file, err := s.part(name, offset)
	if err != nil {
		return s.Classify(err, name)
	}
	_, err = io.Copy(file, http.MaxBytesReader(w, r.Body, limit))
	info, err2 := file.Stat()
	if err := errors.Join(err, err2, file.Close()); err != nil {
		_, _ = io.Copy(io.Discard, r.Body)
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			return agent.TooLarge(limit)
		}
		return s.Classify(err, name)
	}
	return agent.WriteJSON(w, s.Describe(name, info))
}

// part opens a file to write at an offset; a negative one is its end.
func (s *Store) part(name string, offset int64) (file *os.File, err error) {
	err = s.With(func(t *tree.Tree) error {
		dir, err := t.MkdirAll(path.Dir(name))
		if err != nil {
			return err
		}
		defer dir.Close()
		flags := os.O_WRONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK
		if offset <= 0 {
			flags |= os.O_CREATE
		}
		if offset == 0 {
			flags |= os.O_TRUNC
		}
		if file, err = dir.OpenFile(path.Base(name), flags, 0o644); err != nil {
			return err
		}
		info, err := file.Stat()
		switch {
		case err != nil:
		case !info.Mode().IsRegular():
			err = unix.EISDIR
		case offset >= 0 && info.Size() != offset:
			err = sandpool.Errorf(sandpool.Conflict, "OffsetMismatch", "offset",
				"The file has %d bytes, and the offset is %d. Go on at its end.", info.Size(), offset)
		default:
			_, err = file.Seek(0, io.SeekEnd)
		}
		if err != nil {
			return errors.Join(err, file.Close())
		}
		return nil
	})
	return file, err
}

// Open opens a regular file to be read. Its errors are for the caller.
func (s *Store) Open(name string) (file *os.File, info fs.FileInfo, err error) {
	err = s.With(func(t *tree.Tree) error {
		if file, err = t.Open(name); err != nil {
			return err
		}
		if info, err = file.Stat(); err == nil && !info.Mode().IsRegular() {
			err = unix.ENXIO
		}
		if err != nil {
			err = errors.Join(err, file.Close())
		}
		return err
	})
	return file, info, s.Classify(err, name)
}

// digest hashes a file.
func (s *Store) digest(w http.ResponseWriter, r *http.Request) error {
	name, err := named(r, "path")
	if err != nil {
		return err
	}
	file, info, err := s.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	sum := sha256.New()
	if _, err := copyUntil(r.Context(), sum, file); err != nil {
		return s.Classify(err, name)
	}
	d := s.Describe(name, info)
	d.SHA256 = hex.EncodeToString(sum.Sum(nil))
	return agent.WriteJSON(w, d)
}

// copyUntil is io.Copy until ctx ends.
func copyUntil(ctx context.Context, w io.Writer, r io.Reader) (int64, error) {
	return io.Copy(w, readerFunc(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return r.Read(p)
	}))
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// copy copies a file or a directory with all that is in it. Links are copied as links.
func (s *Store) copy(w http.ResponseWriter, r *http.Request) error {
	from, to, overwrite, err := fromTo(r)
	if err != nil {
		return err
	}
	if to == from {
		return sandpool.Errorf(sandpool.Invalid, "InvalidFilePath", "to",
			"The copy has the name of what is copied. Choose another one.")
	}
	var copied fs.FileInfo
	there := false
	err = s.With(func(t *tree.Tree) error {
		if _, err := t.Stat(from); err != nil {
			return err
		}
		there = true
		target, err := place(t, to, overwrite)
		if err != nil {
			return err
		}
		defer target.Close()
		out := &unpacker{tree: t, top: path.Dir(to), context: r.Context()}
		err = walk(r.Context(), t, from, path.Base(to), func(h *tar.Header, body io.Reader) error {
			return out.entry(h, body)
		})
		if err != nil {
			return err
		}
		copied, err = target.Lstat(path.Base(to))
		if errors.Is(err, fs.ErrNotExist) { // what cannot be opened is left out
			there, err = false, fs.ErrPermission
		}
		return err
	})
	if err != nil {
		return s.fault(err, from, to, there)
	}
	return agent.WriteJSON(w, s.Describe(to, copied))
}
