package image

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"
)

// Put makes an image of entries and gives it name. If the store has an
// image of the same content, that one is used.
func (s *Store) Put(ctx context.Context, name string, entries []Entry) (i Image, err error) {
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
func (s *Store) pack(ctx context.Context, work *work, entries []Entry, note func(int64)) (Image, error) {
	file := filepath.Join(work.dir, "image.erofs")
	digest, size, err := packFile(ctx, file, entries, note)
	if err != nil {
		return Image{}, err
	}
	path := s.blob(digest)
	if err := os.Rename(file, path); err != nil {
		return Image{}, err
	}
	return Image{Digest: digest, Path: path, Size: size, Created: time.Now().UTC().Truncate(time.Second)}, syncDir(s.blobs())
}

// packFile writes an image of entries to file, which must not exist, through to
// the disk.
func packFile(ctx context.Context, file string, entries []Entry, note func(int64)) (digest string, size int64, err error) {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o444)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	sum := sha256.New()
	out := bufio.NewWriterSize(io.MultiWriter(f, sum), 1<<20)
	if err := writeEROFS(ctx, out, entries, note); err != nil {
		return "", 0, err
	}
	if err := out.Flush(); err != nil {
		return "", 0, err
	}
	if err := f.Sync(); err != nil {
		return "", 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return "", 0, err
	}
	return digestPrefix + hex.EncodeToString(sum.Sum(nil)), info.Size(), f.Close()
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
