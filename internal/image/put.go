package image

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/sandpool/sandpool/internal/erofs"
)

// Put makes an image of entries and gives it name. If the store has an
// image of the same content, that one is used.
func (s *Store) Put(ctx context.Context, name string, entries []erofs.Entry) (i Image, err error) {
	if err := checkName(name); err != nil {
		return Image{}, err
	}
	work, err := s.newWork()
	if err != nil {
		return Image{}, err
	}
	defer func() { err = errors.Join(err, work.remove()) }()
	i, err = s.pack(ctx, work, entries, nil)
	if err != nil {
		return Image{}, err
	}
	i.Name = name
	return i, s.call(i)
}

// pack writes entries to a file of the store and returns it, as yet without a name.
func (s *Store) pack(ctx context.Context, work *work, entries []erofs.Entry, note func(int64)) (Image, error) {
	file := filepath.Join(work.dir, "image.erofs")
	digest, size, err := erofs.WriteFile(ctx, file, entries, note)
	if err != nil {
		return Image{}, err
	}
	path := s.blob(digest)
	if err := os.Rename(file, path); err != nil {
		return Image{}, err
	}
	return Image{Digest: digest, Path: path, Size: size, Created: time.Now().UTC().Truncate(time.Second)}, syncDir(s.blobs())
}

// call makes i.Name mean i, from one moment to the next.
func (s *Store) call(i Image) error {
	text, err := json.MarshalIndent(i, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(s.tmp(), "name-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := f.Write(append(text, '\n')); err != nil {
		return err
	}
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), filepath.Join(s.names(), i.Name+".json")); err != nil {
		return err
	}
	return syncDir(s.names())
}

// syncDir makes the names in dir last through a power cut.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
