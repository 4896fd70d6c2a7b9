package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool"
)

// work is a folder for one build. The builder holds a lock on it, which the
// kernel lets go when the builder dies, so whoever can take the lock may remove
// the folder.
type work struct {
	dir  string
	lock *os.File
}

// image is the file that is being packed.
func (w *work) image() string { return filepath.Join(w.dir, "image.erofs") }

// newWork makes a folder for a build. Another process that sweeps between the
// making and the locking may take it for remains; then the next one is tried.
func (s *Store) newWork() (*work, error) {
	if err := s.makeDirs(); err != nil {
		return nil, err
	}
	var last error
	for range 10 {
		dir, err := os.MkdirTemp(s.tmp(), "build-")
		if err != nil {
			return nil, err
		}
		lock, err := os.Open(dir)
		if errors.Is(err, fs.ErrNotExist) {
			last = err
			continue
		}
		if err != nil {
			return nil, err
		}
		last = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if _, err := os.Stat(dir); last == nil && err == nil {
			return &work{dir: dir, lock: lock}, nil
		}
		lock.Close()
	}
	return nil, fmt.Errorf("lock a folder in %q: %w", s.tmp(), last)
}

// remove deletes the folder with everything in it and lets the lock go.
func (w *work) remove() error {
	defer w.lock.Close()
	if err := unmounted(w.dir); err != nil {
		return err
	}
	return os.RemoveAll(w.dir)
}

// unmounted refuses a folder in which something is mounted: removing it would
// empty what is mounted. Builds mount in a namespace of their own, so this is not to happen.
func unmounted(dir string) error {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(table)) {
		fields := strings.Fields(line)
		if len(fields) > 4 && strings.HasPrefix(fields[4], dir+"/") {
			return fmt.Errorf("remove %q: %q is mounted there; unmount it first", dir, fields[4])
		}
	}
	return nil
}

// sweep removes the remains of killed builds.
func (s *Store) sweep() error {
	entries, err := os.ReadDir(s.tmp())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	errs := []error{s.sweepFiles(entries)}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		lock, err := os.Open(filepath.Join(s.tmp(), e.Name()))
		if err != nil {
			continue // its builder has just removed it
		}
		if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
			lock.Close() // alive
			continue
		}
		errs = append(errs, (&work{dir: lock.Name(), lock: lock}).remove())
	}
	return errors.Join(errs...)
}

// sweepFiles removes files that were to become names. They are written with the lock held, so
// who has the lock may take those that are left.
func (s *Store) sweepFiles(entries []fs.DirEntry) error {
	entries = slices.DeleteFunc(slices.Clone(entries), fs.DirEntry.IsDir)
	if len(entries) == 0 {
		return nil
	}
	return s.locked(func() error {
		for _, e := range entries {
			err := os.Remove(filepath.Join(s.tmp(), e.Name()))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		return nil
	})
}

// lockBuild lets one build run at a time: two of them would do the same work and
// compete for the same machine.
func (s *Store) lockBuild() (*os.File, error) {
	if err := s.makeDirs(); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(s.dir, "build.lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, sandpool.Errorf(sandpool.Conflict, "ImageBuildRunning", "image",
			"Another process builds an image in %q; wait for it to end.", s.dir)
	}
	return f, nil
}
