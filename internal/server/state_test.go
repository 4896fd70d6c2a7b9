package server

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
)

// TestStateThatCannotBeOpened: there is nothing to close then, of either kind.
func TestStateThatCannotBeOpened(t *testing.T) {
	cfg := DefaultConfig()
	cfg.DataDir = t.TempDir()
	text := make([]byte, 8192)
	copy(text, "this is no database")
	if err := os.WriteFile(filepath.Join(cfg.DataDir, "sandpool.db"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{"", "postgres:///x?host=/nonexistent"} {
		cfg.Store = address
		if s, err := openState(t.Context(), slog.New(slog.DiscardHandler),
			cfg); err == nil || s != nil {
			t.Errorf("store %q: %v, %v", address, s, err)
		}
	}
}
