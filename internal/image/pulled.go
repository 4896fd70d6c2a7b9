package image

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/erofs"
)

// Workspace is a folder of the store for one pull or push. What a killed process leaves in it is
// removed by the next Open.
type Workspace struct {
	store *Store
	work  *work
}

// Workspace makes an empty folder; Close removes it with everything in it.
func (s *Store) Workspace() (*Workspace, error) {
	w, err := s.newWork()
	if err != nil {
		return nil, err
	}
	return &Workspace{store: s, work: w}, nil
}

// Dir is the folder, on the disk of the images.
func (w *Workspace) Dir() string { return w.work.dir }

// Close removes the folder.
func (w *Workspace) Close() error { return w.work.remove() }

// Claim says what an image is called and by whom it is used.
type Claim struct {
	// Reference is what the image was asked for by; from now on it means this image and no
	// other. Empty means that nothing leads to it but its digest.
	Reference string
	// User, if not empty, uses the image from now on, beside those that it uses already, until
	// it says otherwise by Use.
	User string
}

// Put makes an image of entries, which is the container image i.Manifest as i describes it, and
// claims it. note, if not nil, is told how many bytes are written so far.
func (w *Workspace) Put(ctx context.Context, i Image, entries []erofs.Entry, c Claim,
	note func(int64)) (Image, error) {
	if !isDigest(i.Manifest) {
		return Image{}, sandpool.Errorf(sandpool.Invalid, "InvalidDigest", "digest",
			"%q is not a digest of the form sha256:….", i.Manifest)
	}
	packed, err := w.store.pack(ctx, w.work, entries, note)
	if err != nil {
		return Image{}, err
	}
	i.Name, i.Digest, i.Path, i.Size, i.Created = "", packed.Digest, packed.Path, packed.Size,
		packed.Created
	err = w.store.locked(func() error {
		if err := w.store.place(packed, w.work); err != nil {
			return err
		}
		i, err = w.store.claim(i, c)
		return err
	})
	return i, err
}

// Claim returns the image that was unpacked from the container image with the given digest, and
// claims it. If there is none, the error is of class NotFound.
func (s *Store) Claim(manifest string, c Claim) (i Image, err error) {
	if !isDigest(manifest) {
		return Image{}, sandpool.Errorf(sandpool.Invalid, "InvalidDigest", "digest",
			"%q is not a digest of the form sha256:….", manifest)
	}
	missing := sandpool.Errorf(sandpool.NotFound, "ImageNotFound", "image",
		"The image %s is not on this machine.", manifest)
	if _, err := os.Stat(s.pulledFile(manifest)); errors.Is(err, fs.ErrNotExist) {
		return Image{}, missing // a store that does not exist need not be made for this
	}
	err = s.locked(func() error {
		i, err = s.read(s.pulledFile(manifest))
		if err == nil {
			_, err = os.Stat(i.Path) // it may have been deleted by hand
		}
		if errors.Is(err, fs.ErrNotExist) {
			return missing
		}
		if err == nil {
			i, err = s.claim(i, c)
		}
		return err
	})
	return i, err
}

func (s *Store) pulledFile(manifest string) string {
	return filepath.Join(s.pulled(), strings.TrimPrefix(manifest, digestPrefix)+".json")
}

// claim records i, with the lock held.
func (s *Store) claim(i Image, c Claim) (Image, error) {
	if c.Reference != "" {
		if err := s.takeReference(c.Reference, i.Manifest); err != nil {
			return Image{}, err
		}
		if !slices.Contains(i.References, c.Reference) {
			i.References = append(slices.Clone(i.References), c.Reference)
		}
	}
	// The user first: an image that nobody has called yet may be used, but one that is there
	// without its user may be pruned.
	if c.User != "" {
		used, err := s.usedBy(c.User)
		if err != nil {
			return Image{}, err
		}
		if err := s.setUse(c.User, append(used, i.Manifest)); err != nil {
			return Image{}, err
		}
	}
	if err := s.record(s.pulledFile(i.Manifest), i); err != nil {
		return Image{}, err
	}
	i.Used = time.Now()
	return i, nil
}

// takeReference takes reference from every image but that of manifest.
func (s *Store) takeReference(reference, manifest string) error {
	all, err := s.known()
	if err != nil {
		return err
	}
	for _, i := range all {
		at := slices.Index(i.References, reference)
		if i.Manifest == "" || i.Manifest == manifest || at < 0 {
			continue
		}
		i.References = slices.Delete(slices.Clone(i.References), at, at+1)
		if err := s.record(s.pulledFile(i.Manifest), i); err != nil {
			return err
		}
		// Losing a reference is no use of the image.
		if err := os.Chtimes(s.pulledFile(i.Manifest), i.Used, i.Used); err != nil {
			return err
		}
	}
	return nil
}
