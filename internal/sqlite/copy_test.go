package sqlite_test

import (
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sandpool/sandpool/internal/sqlite"
)

// A new table is copied, too. Which servers there are is nobody's but theirs.
func TestDumpLeavesNoTable(t *testing.T) {
	s, err := sqlite.Open(t.Context(), slog.New(slog.DiscardHandler),
		filepath.Join(t.TempDir(), "db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	got, err := s.Undumped(t.Context())
	if diff := cmp.Diff([]string{"servers"}, got); err != nil || diff != "" {
		t.Errorf("%v, -want +not dumped\n%s", err, diff)
	}
}
