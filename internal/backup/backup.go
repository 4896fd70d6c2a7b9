// Package backup copies what a server cannot make again: its store, the administrator's token and
// its keys. What it writes is as secret as they are.
package backup

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/sqlite"
)

// database is the store's file; the others are small files beside it, of which some may be absent.
const database = "sandpool.db"

func small() []string {
	return []string{"admin-token", "issuer-key.pem", "mcp-session-key", "usage-key", "ca.pem", "ca-key.pem"}
}

// The bounds of a restore.
const (
	maxDatabase = 64 << 30
	maxSmall    = 1 << 20
)

// Write writes a backup of a data directory, which a server may be using. It returns the id of the
// key that the store's secrets are sealed with, which is not in it; empty if they are plain.
func Write(ctx context.Context, dir string, w io.Writer) (key string, err error) {
	if _, err := os.Stat(filepath.Join(dir, database)); err != nil {
		return "", sandpool.Errorf(sandpool.NotFound, "", "data_dir",
			"There is no store in %s; name the server's data directory with --data-dir.", dir)
	}
	beside, err := os.MkdirTemp(dir, "backup-")
	if err != nil {
		return "", fmt.Errorf("backup: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(beside)) }()
	copied := filepath.Join(beside, database)
	if err := sqlite.Copy(ctx, filepath.Join(dir, database), copied); err != nil {
		return "", err
	}
	if key, err = sealedBy(ctx, copied); err != nil {
		return "", fmt.Errorf("backup: %w", err)
	}
	zip := gzip.NewWriter(w)
	out := tar.NewWriter(zip)
	if err := add(out, database, copied); err != nil {
		return "", err
	}
	for _, name := range small() {
		if err := add(out, name, filepath.Join(dir, name)); err != nil &&
			!errors.Is(err, os.ErrNotExist) {
			return "", err
		}
	}
	return key, errors.Join(out.Close(), zip.Close())
}

// sealedBy is the id of the key of a copy of a store, which it checks, too.
func sealedBy(ctx context.Context, path string) (key string, err error) {
	s, err := sqlite.Open(ctx, slog.New(slog.DiscardHandler), path)
	if err != nil {
		return "", err
	}
	key, err = s.SealedBy(ctx)
	return key, errors.Join(err, s.Close())
}

// add adds a file to an archive.
func add(out *tar.Writer, name, path string) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := out.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: info.Size(),
		ModTime: time.Now()}); err != nil {
		return err
	}
	_, err = io.CopyN(out, f, info.Size())
	return err
}

// Restore makes a data directory what a backup says. No server may be using it. A store or a key
// that is there is an error unless replace is true; then all that was there is kept in a folder of
// the directory, whose path Restore returns. has is asked whether there is the key of an id, which
// the backup's secrets are sealed with (empty if with none), and its error ends the restore before
// anything is changed.
func Restore(ctx context.Context, dir string, r io.Reader, replace bool,
	has func(ctx context.Context, key string) error) (kept string, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("restore: %w", err)
	}
	lock, err := Lock(dir)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	old, err := inWay(dir)
	if err != nil {
		return "", err
	}
	if len(old) > 0 && !replace {
		return "", sandpool.Errorf(sandpool.Conflict, "", "data_dir",
			"There is a %s in %s; give --force to replace what is there, or another --data-dir.",
			old[0], dir)
	}
	beside, err := os.MkdirTemp(dir, "restore-")
	if err != nil {
		return "", fmt.Errorf("restore: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(beside)) }()
	names, err := unpack(beside, r)
	if err != nil {
		return "", err
	}
	// A store that cannot be opened is found now, and not when the old one is gone.
	key, err := sealedBy(ctx, filepath.Join(beside, database))
	if err != nil {
		return "", fmt.Errorf("the backup's store: %w", err)
	}
	if err := has(ctx, key); err != nil {
		return "", fmt.Errorf("the backup's key: %w", err)
	}
	if kept, err = putAside(dir, old); err != nil {
		return kept, err
	}
	for _, name := range names {
		if err := os.Rename(filepath.Join(beside, name), filepath.Join(dir, name)); err != nil {
			return kept, fmt.Errorf("restore: %w", err)
		}
	}
	return kept, nil
}

// inWay names what is there of what a restore replaces, the store first. What SQLite has beside the
// store is of that store alone.
func inWay(dir string) (there []string, err error) {
	for _, name := range append([]string{database, database + "-wal", database + "-shm"},
		small()...) {
		_, err := os.Lstat(filepath.Join(dir, name))
		if err == nil {
			there = append(there, name)
		} else if !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("restore: %w", err)
		}
	}
	return there, nil
}

// putAside moves files to a folder of their own, whose path it returns; "" if there are none.
func putAside(dir string, names []string) (string, error) {
	if len(names) == 0 {
		return "", nil
	}
	kept, err := os.MkdirTemp(dir, "before-restore-")
	if err != nil {
		return "", fmt.Errorf("restore: %w", err)
	}
	for _, name := range names {
		if err := os.Rename(filepath.Join(dir, name), filepath.Join(kept, name)); err != nil {
			return kept, fmt.Errorf("restore: %w", err)
		}
	}
	return kept, nil
}

// unpack writes the files of a backup to a folder, and refuses everything that is none.
func unpack(dir string, r io.Reader) (names []string, err error) {
	zip, err := gzip.NewReader(r)
	if err != nil {
		return nil, fmt.Errorf("this is no backup: %w", err)
	}
	in := tar.NewReader(zip)
	for {
		head, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("this is no whole backup: %w", err)
		}
		most := int64(maxSmall)
		if head.Name == database {
			most = maxDatabase
		}
		if head.Name != database && !slices.Contains(small(), head.Name) ||
			head.Typeflag != tar.TypeReg || head.Size > most ||
			slices.Contains(names, head.Name) {
			return nil, fmt.Errorf("this is no backup: it holds %q", head.Name)
		}
		if err := write(filepath.Join(dir, head.Name), in); err != nil {
			return nil, err
		}
		names = append(names, head.Name)
	}
	if _, err := io.Copy(io.Discard, zip); err != nil { // its checksum is behind the archive
		return nil, fmt.Errorf("this is no whole backup: %w", err)
	}
	if !slices.Contains(names, database) {
		return nil, fmt.Errorf("this is no backup: it holds no %s", database)
	}
	return names, nil
}

func write(path string, r io.Reader) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	if _, err = io.Copy(f, r); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	return nil
}

// ErrInUse is in the error of a directory that a server uses.
var ErrInUse = errors.New("a server uses the directory")

// Lock takes the lock of a data directory, which a server holds while it runs. A server that has it
// is an error of class Conflict.
func Lock(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the data directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(&sandpool.Error{Class: sandpool.Conflict, Target: "data_dir",
			Message: fmt.Sprintf("A server uses %s; stop it first.", dir), Err: ErrInUse},
			f.Close())
	}
	return f, nil
}
