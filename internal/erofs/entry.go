package erofs

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// Entry is one name in an image.
type Entry struct {
	// Path is relative and slash-separated; "." is the root. Folders above it that
	// have no entry of their own belong to user 0, with mode 0755.
	Path string
	// Mode is the type with the permission bits. Regular files, folders, symbolic
	// links, devices, pipes and sockets can be kept.
	Mode fs.FileMode
	UID  uint32
	GID  uint32
	// Size and Open are the content of a regular file; Open must yield Size bytes.
	Size int64
	Open func() (io.ReadCloser, error)
	// Target is where a symbolic link points.
	Target string
	// Link, if set, is the Path of another entry of which this is a second name (a
	// hard link); the rest of the entry is then ignored.
	Link string
	// Device is the number of a device.
	Device uint32
	// ModTime is when the content was last changed; zero means Stamp.
	ModTime time.Time
	// Xattrs are extended attributes of a file or a folder, by their whole names
	// ("security.capability"). Those of the namespaces user and security can be kept.
	Xattrs map[string]string
}

// File is an entry of a regular file of user 0.
func File(name string, perm fs.FileMode, data []byte) Entry {
	return Entry{
		Path: name, Mode: perm.Perm(), Size: int64(len(data)),
		Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil },
	}
}

// HostFile is an entry, of user 0, with the content of a file on the host.
func HostFile(name string, perm fs.FileMode, host string) (Entry, error) {
	info, err := os.Stat(host)
	if err != nil {
		return Entry{}, err
	}
	if !info.Mode().IsRegular() {
		return Entry{}, fmt.Errorf("%q is not a regular file", host)
	}
	return Entry{
		Path: name, Mode: perm.Perm(), Size: info.Size(),
		Open: func() (io.ReadCloser, error) { return os.Open(host) },
	}, nil
}

// Scan returns the entries of the folder root, links to the same file included.
// What lies beneath the folders named in hollow is left out: they
// are mount points.
func Scan(ctx context.Context, root string, hollow []string) ([]Entry, error) {
	type inode struct{ dev, ino uint64 }
	first := map[inode]string{}
	var out []Entry
	err := filepath.WalkDir(root, func(host string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, host)
		if err != nil {
			return err
		}
		if slices.Contains(hollow, path.Dir(filepath.ToSlash(rel))) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		e, err := hostEntry(filepath.ToSlash(rel), host, info)
		if err != nil {
			return err
		}
		if st := info.Sys().(*syscall.Stat_t); st.Nlink > 1 && !info.IsDir() {
			id := inode{uint64(st.Dev), st.Ino}
			if earlier, ok := first[id]; ok {
				e.Link = earlier
			} else {
				first[id] = e.Path
			}
		}
		out = append(out, e)
		return nil
	})
	return out, err
}

// hostEntry describes the file at host as the entry named name.
func hostEntry(name, host string, info fs.FileInfo) (Entry, error) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return Entry{}, fmt.Errorf("%q: the file system tells no owner", host)
	}
	e := Entry{Path: name, Mode: info.Mode(), UID: st.Uid, GID: st.Gid, Device: uint32(st.Rdev)}
	var err error
	switch {
	case info.Mode().IsRegular():
		e.Size = info.Size()
		e.Open = func() (io.ReadCloser, error) { return os.Open(host) }
	case info.Mode()&fs.ModeSymlink != 0:
		e.Target, err = os.Readlink(host)
	}
	return e, err
}
