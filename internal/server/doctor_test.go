package server

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sandpool/sandpool/internal/need"
	"github.com/sandpool/sandpool/internal/sandbox"
)

// TestCheckFindsWhatServeRefuses: the doctor sees an agent that is not there and a data directory
// that others can read; an image that is not there is advice.
func TestCheckFindsWhatServeRefuses(t *testing.T) {
	dir := t.TempDir()
	cfg := DefaultConfig()
	cfg.DataDir, cfg.Agent = dir, filepath.Join(dir, "nothing")
	if err := os.Chmod(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	found := map[string]sandbox.Requirement{}
	for _, r := range Check(cfg) {
		found[r.Name] = r
	}
	for name, ok := range map[string]bool{"sandpool-agent": false, "data directory": false,
		"image python": true} {
		if r := found[name]; r.OK != ok || r.Fix == "" || !strings.Contains(r.Detail, dir) {
			t.Errorf("%s: %+v, want OK %t, a place and a fix", name, r, ok)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("the check made %v, %v", entries, err)
	}
	need.Root(t)
	srv, err := New(t.Context(), slog.New(slog.DiscardHandler), cfg)
	if err == nil || !strings.Contains(err.Error(), "chmod 700 "+dir) {
		t.Errorf("New = %v, %v; want how to close the directory", srv, err)
	}
}

// TestFiles: a limit of descriptors under which no sandbox starts is refused, a low one noted.
func TestFiles(t *testing.T) {
	for limit, want := range map[uint64]struct{ ok, advice bool }{160: {false, true},
		255: {false, true}, 256: {true, true}, 8191: {true, true}, 8192: {true, false}} {
		if r := filesWithin(limit); r.OK != want.ok || (r.Fix != "") != want.advice {
			t.Errorf("of %d descriptors: %+v", limit, r)
		}
	}
}
