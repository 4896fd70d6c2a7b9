package sqlite_test

import (
	"bytes"
	"database/sql"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/sandpool/sandpool/internal/sqlite"
	"github.com/sandpool/sandpool/internal/store"
)

// TestScrubBesideAReader: while another process reads an earlier state of the file, such as a
// backup, earlier values stay in its log. That is said, and they are overwritten at the next start.
func TestScrubBesideAReader(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s, err := sqlite.Open(t.Context(), slog.New(slog.DiscardHandler), path)
	if err != nil {
		t.Fatal(err)
	}
	put := func(text string) {
		if err := s.PutDocument(t.Context(), store.Document{Kind: store.ServerSecret, Key: "k",
			Text: text}); err != nil {
			t.Fatal(err)
		}
	}
	put("hush-1")
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	tx, err := db.BeginTx(t.Context(), &sql.TxOptions{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if err := tx.QueryRow("SELECT count(*) FROM documents").Scan(&n); err != nil || n != 1 {
		t.Fatalf("%d documents, %v", n, err)
	}
	put("hush-2")
	has := func() (where string) {
		for _, name := range []string{path, path + "-wal"} {
			text, err := os.ReadFile(name)
			if err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
			if bytes.Contains(text, []byte("hush")) {
				where += " " + filepath.Base(name)
			}
		}
		return where
	}
	seal := func(store.Secret) (string, error) { return "sealed", nil }
	if err := s.Reseal(t.Context(), "", "key", seal); err == nil && has() != "" {
		t.Errorf("plain values are left in%s, and nobody is told", has())
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, path)
	if where := has(); where != "" {
		t.Errorf("after a start plain values are in%s", where)
	}
}
