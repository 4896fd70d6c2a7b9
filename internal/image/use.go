package image

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool"
)

// usage is what one user, such as a pool, uses.
type usage struct {
	User   string   `json:"user"`
	Images []string `json:"images"` // digests of container images
}

// locked runs do while no other process and no other goroutine changes what images are
// called or who uses them, or removes any. It is held for milliseconds.
func (s *Store) locked(do func() error) error {
	if err := s.makeDirs(); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(s.dir, "store.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX); err != unix.EINTR {
			break
		}
	}
	if err != nil {
		return err
	}
	return do()
}

// Use says which images a user uses from now on, by the digests of the container images; none
// means that it uses no image any more. An image that is used is not removed. It lasts until the
// next Use of the same user, whatever becomes of the process.
func (s *Store) Use(user string, manifests ...string) error {
	return s.locked(func() error { return s.setUse(user, manifests) })
}

func (s *Store) setUse(user string, manifests []string) error {
	file := s.useFile(user)
	if len(manifests) == 0 {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	slices.Sort(manifests)
	return s.record(file, usage{User: user, Images: slices.Compact(manifests)})
}

func (s *Store) useFile(user string) string {
	sum := sha256.Sum256([]byte(user))
	return filepath.Join(s.uses(), hex.EncodeToString(sum[:])+".json")
}

func (s *Store) usedBy(user string) ([]string, error) {
	all, err := s.usages()
	if err != nil {
		return nil, err
	}
	for _, u := range all {
		if u.User == user {
			return u.Images, nil
		}
	}
	return nil, nil
}

func (s *Store) usages() ([]usage, error) {
	files, err := filepath.Glob(filepath.Join(s.uses(), "*.json"))
	if err != nil {
		return nil, err
	}
	var out []usage
	for _, file := range files {
		text, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue // ended meanwhile
		}
		if err != nil {
			return nil, err
		}
		var u usage
		if err := json.Unmarshal(text, &u); err != nil {
			return nil, fmt.Errorf("read who uses images, %q: %w", file, err)
		}
		out = append(out, u)
	}
	return out, nil
}

// UseLife is how long a server that shares a store may be away until what its pools use is given
// up. It is long because the price of an error is an image that is pulled again, or one from a
// file, which nobody can pull.
const UseLife = 30 * 24 * time.Hour

// EndUses ends the uses that nobody has stated since the given time, those of a server that was
// removed without deleting its pools, and returns whose they were, sorted. Servers that live state
// theirs again every hour.
func (s *Store) EndUses(since time.Time) (users []string, err error) {
	if _, err := os.Stat(s.uses()); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	err = s.locked(func() error {
		all, err := s.usages()
		if err != nil {
			return err
		}
		for _, u := range all {
			info, err := os.Stat(s.useFile(u.User))
			if err != nil {
				return err
			}
			if info.ModTime().After(since) {
				continue
			}
			if err := s.setUse(u.User, nil); err != nil {
				return err
			}
			users = append(users, u.User)
		}
		return nil
	})
	slices.Sort(users)
	return users, err
}

// Users returns all users that Use and Claim have named and that use an image still, sorted.
func (s *Store) Users() ([]string, error) {
	all, err := s.usages()
	var out []string
	for _, u := range all {
		out = append(out, u.User)
	}
	slices.Sort(out)
	return out, err
}

// UsersOf returns who uses i. A sandbox that runs from it counts as one, without a name of
// its own.
func (s *Store) UsersOf(i Image) ([]string, error) {
	all, err := s.usages()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, u := range all {
		if i.Manifest != "" && slices.Contains(u.Images, i.Manifest) {
			out = append(out, u.User)
		}
	}
	slices.Sort(out)
	open, err := isOpen(i.Path)
	if open {
		out = append(out, "running sandboxes")
	}
	return out, err
}

// isOpen says whether a sandbox has the file open: each holds a shared lock on the images that
// it is made of, as its descriptors do, so the kernel ends it with the sandbox.
func isOpen(path string) (bool, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}

// Remove forgets the image with the given name, reference or digest, and deletes its file unless
// something else leads to it. An unknown image is an error of class NotFound, one in use of
// class Conflict.
func (s *Store) Remove(ref string) error {
	i, err := s.Resolve(ref)
	if err != nil {
		return err
	}
	return s.locked(func() error {
		users, err := s.UsersOf(i)
		if err != nil {
			return err
		}
		if len(users) > 0 {
			return sandpool.Errorf(sandpool.Conflict, "ImageInUse", "image",
				"The image %q is used by: %s. Delete or change what uses it first.", ref,
				strings.Join(users, ", "))
		}
		return s.forget(i)
	})
}

// forget removes what leads to i, and its file if nothing else does; with the lock held.
func (s *Store) forget(i Image) error {
	for _, file := range i.records(s) {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	known, err := s.known()
	if err != nil {
		return err
	}
	if slices.ContainsFunc(known, func(o Image) bool { return o.Digest == i.Digest }) {
		return nil
	}
	if err := os.Remove(i.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// records are the files that lead to i.
func (i Image) records(s *Store) (files []string) {
	if i.Name != "" {
		files = append(files, filepath.Join(s.names(), i.Name+".json"))
	}
	if i.Manifest != "" {
		files = append(files, s.pulledFile(i.Manifest))
	}
	return files
}

// Prune removes the images that have no name, that nobody uses and that keep, which may be nil,
// does not want, and returns them. A build that takes over a name leaves the earlier
// image to be pruned.
func (s *Store) Prune(keep func(Image) bool) (removed []Image, err error) {
	if _, err := os.Stat(s.dir); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	err = s.locked(func() error {
		all, err := s.List()
		if err != nil {
			return err
		}
		for _, i := range all {
			if i.Name != "" || keep != nil && keep(i) {
				continue
			}
			users, err := s.UsersOf(i)
			if err != nil {
				return err
			}
			if len(users) > 0 {
				continue
			}
			if err := s.forget(i); err != nil {
				return err
			}
			removed = append(removed, i)
		}
		return nil
	})
	return removed, err
}
