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
	return i, s.publish(i, work)
}

// pack writes entries to a file of work and describes the image that publish makes of it.
func (s *Store) pack(ctx context.Context, w *work, entries []erofs.Entry, note func(int64)) (Image,
	error) {
	digest, size, err := erofs.WriteFile(ctx, w.image(), entries, note)
	if err != nil {
		return Image{}, err
	}
	return Image{Digest: digest, Path: s.blob(digest), Size: size,
		Created: time.Now().UTC().Truncate(time.Second)}, nil
}

// publish puts the packed file of w where i says that it is, and makes i.Name mean it. Nobody
// prunes between the two.
func (s *Store) publish(i Image, w *work) error {
	return s.locked(func() error {
		if err := s.place(i, w); err != nil {
			return err
		}
		return s.call(i)
	})
}

// place puts the packed file of w where i says that it is.
func (s *Store) place(i Image, w *work) error {
	if err := os.Rename(w.image(), i.Path); err != nil {
		return err
	}
	return syncDir(s.blobs())
}

// call makes i.Name mean i, from one moment to the next.
func (s *Store) call(i Image) error { return s.record(filepath.Join(s.names(), i.Name+".json"), i) }

// record writes v to file, whole or not at all.
func (s *Store) record(file string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
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
	if err := os.Rename(f.Name(), file); err != nil {
		return err
	}
	return syncDir(filepath.Dir(file))
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
