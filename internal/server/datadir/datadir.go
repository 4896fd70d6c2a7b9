// Package datadir is the directory that holds all a server keeps on its machine: tokens, snapshots,
// the store. Nobody but root may get at it, and one server at a time uses it.
package datadir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/sandbox"
)

// lockWait is how long a new server waits for the lock of one that has just died: a child that one
// was starting holds it until its execve.
const lockWait = 3 * time.Second

// Lock makes the directory and takes its lock, which closing the file gives back. Two servers on
// one directory would each stop the other's sandboxes as strays.
func Lock(ctx context.Context, dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if r := Check(dir); !r.OK {
		return nil, sandpool.Errorf(sandpool.Invalid, "", "data_dir",
			"The data directory is to hold tokens and snapshots, but other users can get at %s. %s",
			r.Detail, r.Fix)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	retry := time.NewTicker(50 * time.Millisecond)
	defer retry.Stop()
	for end := time.Now().Add(lockWait); ; {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(end) {
			return nil, errors.Join(sandpool.Errorf(sandpool.Conflict, "", "data_dir",
				"The data directory %s is in use by another sandpool server. Stop it, or choose "+
					"another with --data-dir.", dir), f.Close())
		}
		select {
		case <-retry.C:
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), f.Close())
		}
	}
}

// Check looks at the directory, which may not exist yet. One that others can get at is refused, not
// changed: it may be anything that somebody named by mistake.
func Check(dir string) sandbox.Requirement {
	r := sandbox.Requirement{Name: "data directory", OK: true, Detail: dir + ", not there yet"}
	info, err := os.Stat(dir)
	switch {
	case err == nil:
		r.OK, r.Detail = info.Mode().Perm()&0o077 == 0, fmt.Sprintf("%s, mode %04o",
			dir, info.Mode().Perm())
	case !errors.Is(err, fs.ErrNotExist):
		r.OK, r.Detail = false, err.Error()
	}
	if !r.OK {
		r.Fix = "Keep it to root (chmod 700 " + dir + "), or choose another with --data-dir."
	}
	return r
}

// Write replaces the file at path, whole or not at all, readable by its owner alone.
func Write(path, text string) error {
	tmp := path + ".new"
	if err := os.WriteFile(tmp, []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
