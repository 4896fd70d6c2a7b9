package backup_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/backup"
	"github.com/sandpool/sandpool/internal/sqlite"
	"github.com/sandpool/sandpool/internal/store"
)

func open(t *testing.T, dir string) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), slog.New(slog.DiscardHandler),
		filepath.Join(dir, "sandpool.db"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func create(t *testing.T, s *sqlite.Store, name string) {
	t.Helper()
	if _, err := s.CreatePool(t.Context(), sandpool.Pool{ID: sandpool.PoolID{Subscription: "s",
		ResourceGroup: "g", Name: name}, State: sandpool.InProgress}, nil,
		"me"); err != nil {
		t.Fatal(err)
	}
}

// TestBackup: a store that is written meanwhile comes back as it was at one moment, with the files
// beside it, and what was there is kept.
func TestBackup(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	create(t, s, "first")
	if err := os.WriteFile(filepath.Join(dir, "admin-token"), []byte("sp_x"), 0o600); err != nil {
		t.Fatal(err)
	}
	var copied bytes.Buffer
	if _, err := backup.Write(t.Context(), dir, &copied); err != nil {
		t.Fatal(err)
	}
	create(t, s, "second") // the store goes on
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := backup.Restore(t.Context(), dir, bytes.NewReader(copied.Bytes()),
		false, anyKey); sandpool.ClassOf(err) != sandpool.Conflict {
		t.Errorf("over a store that is there: %v", err)
	}
	kept, err := backup.Restore(t.Context(), dir, bytes.NewReader(copied.Bytes()), true, anyKey)
	if err != nil {
		t.Fatal(err)
	}
	for at, want := range map[string]int{dir: 1, kept: 2} {
		s := open(t, at)
		pools, err := s.Pools(t.Context())
		if err != nil || len(pools) != want {
			t.Errorf("%s has %d pools, want %d: %v", at, len(pools), want, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"sandpool.db", "admin-token"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", name, info, err)
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, "*-[0-9]*"))
	if err != nil || len(left) != 1 { // the one that was kept
		t.Errorf("left behind: %v %v", left, err)
	}
}

// TestRestoreRefuses: a server that runs, and archives that are no backups.
func TestRestoreRefuses(t *testing.T) {
	dir := t.TempDir()
	lock, err := os.Create(filepath.Join(dir, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if _, err := backup.Restore(t.Context(), dir, strings.NewReader(""),
		false, anyKey); sandpool.ClassOf(err) != sandpool.Conflict {
		t.Errorf("beside a server that runs: %v", err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := backup.Write(t.Context(), dir,
		new(bytes.Buffer)); sandpool.ClassOf(err) != sandpool.NotFound {
		t.Errorf("a backup of nothing: %v", err)
	}
	for what, heads := range map[string][]tar.Header{
		"a path":      {{Name: "../evil", Typeflag: tar.TypeReg}},
		"a link":      {{Name: "admin-token", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}},
		"too large":   {{Name: "admin-token", Typeflag: tar.TypeReg, Size: 2 << 20}},
		"no store":    {{Name: "admin-token", Typeflag: tar.TypeReg}},
		"no database": {{Name: "sandpool.db", Typeflag: tar.TypeReg, Size: 4}},
		"it twice": {{Name: "admin-token", Typeflag: tar.TypeReg},
			{Name: "admin-token", Typeflag: tar.TypeReg}},
	} {
		var text bytes.Buffer
		zip := gzip.NewWriter(&text)
		out := tar.NewWriter(zip)
		for _, h := range heads {
			if err := out.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
			if _, err := out.Write(bytes.Repeat([]byte("x"), int(h.Size))); err != nil {
				t.Fatal(err)
			}
		}
		if err := out.Close(); err != nil {
			t.Fatal(err)
		}
		if err := zip.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := backup.Restore(t.Context(), dir, &text, false, anyKey); err == nil {
			t.Errorf("%s is restored", what)
		}
	}
	names, err := os.ReadDir(dir)
	if err != nil || len(names) != 1 {
		t.Errorf("after refusals there are %v: %v", names, err)
	}
}

// TestRestoreKeepsKeys: a directory without a store may have keys, which nobody can make again.
func TestRestoreKeepsKeys(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	if err := open(t, from).Close(); err != nil {
		t.Fatal(err)
	}
	for dir, text := range map[string]string{from: "new", to: "old"} {
		if err := os.WriteFile(filepath.Join(dir, "ca-key.pem"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(to, "sandpool.db-wal"), []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	var copied bytes.Buffer
	if _, err := backup.Write(t.Context(), from, &copied); err != nil {
		t.Fatal(err)
	}
	if _, err := backup.Restore(t.Context(), to, bytes.NewReader(copied.Bytes()),
		false, anyKey); sandpool.ClassOf(err) != sandpool.Conflict {
		t.Errorf("over a key that is there: %v", err)
	}
	kept, err := backup.Restore(t.Context(), to, bytes.NewReader(copied.Bytes()), true, anyKey)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{filepath.Join(to, "ca-key.pem"): "new",
		filepath.Join(kept, "ca-key.pem"): "old", filepath.Join(kept, "sandpool.db-wal"): "old"} {
		if text, err := os.ReadFile(path); err != nil || string(text) != want {
			t.Errorf("%s is %q: %v", path, text, err)
		}
	}
	if _, err := os.Stat(filepath.Join(to, "sandpool.db-wal")); err == nil {
		t.Error("the log of the old store is beside the new one")
	}

	// A copy that is not what was written is found before anything is replaced.
	bad := copied.Bytes()
	bad[len(bad)-8] ^= 1 // of the checksum
	if _, err := backup.Restore(t.Context(), t.TempDir(), bytes.NewReader(bad), false,
		anyKey); err == nil {
		t.Error("a copy is restored whose checksum is wrong")
	}
}

// anyKey is a machine that has every key.
func anyKey(context.Context, string) error { return nil }

// TestRestoreNeedsItsKey: a backup says which key it needs, and is not restored without it.
func TestRestoreNeedsItsKey(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	s := open(t, from)
	create(t, s, "first")
	if err := s.Reseal(t.Context(), "", "key-7", func(s store.Secret) (string, error) {
		return s.Value, nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var copied bytes.Buffer
	key, err := backup.Write(t.Context(), from, &copied)
	if err != nil || key != "key-7" {
		t.Fatalf("Write = %q, %v", key, err)
	}
	none := errors.New("there is no such key")
	_, err = backup.Restore(t.Context(), to, bytes.NewReader(copied.Bytes()), false,
		func(_ context.Context, key string) error {
			if key != "key-7" {
				t.Errorf("the backup needs %q", key)
			}
			return none
		})
	if left, _ := os.ReadDir(to); !errors.Is(err, none) || len(left) != 1 { // the lock
		t.Errorf("restored without its key: %v, %v", err, left)
	}
}
