package sqlite_test

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/sqlite"
	"github.com/sandpool/sandpool/internal/store"
	"github.com/sandpool/sandpool/internal/store/storetest"
)

var _ store.Store = (*sqlite.Store)(nil)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t testing.TB, path string) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), slog.New(slog.DiscardHandler), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Target {
		path := filepath.Join(t.TempDir(), "state.db")
		return storetest.Target{
			Store:  open(t, path),
			Reopen: func(t *testing.T) store.Store { return open(t, path) },
		}
	})
}

func TestTokens(t *testing.T) {
	s, ctx := open(t, filepath.Join(t.TempDir(), "state.db")), t.Context()
	one := sandpool.Token{ID: "one", Name: "Ann's", Hash: []byte(strings.Repeat("x", 32)),
		Grants:    []sandpool.Grant{{Role: "admin"}},
		CreatedAt: time.Unix(1, 2).UTC()}
	two := sandpool.Token{ID: "two", Name: "Bob's", Hash: []byte(strings.Repeat("y", 32)),
		Grants: []sandpool.Grant{{Role: "executor", Scope: sandpool.PoolID{Subscription: "S",
			ResourceGroup: "G", Name: "N"}.Scope()},
			{Role: "reader", Scope: sandpool.Scope{Subscription: "S", ResourceGroup: "G", Pool: "N",
				Identifier: "a/b*", Prefix: true}, Expires: time.Unix(7, 0).UTC()}},
		CreatedAt: time.Unix(3, 4).UTC(), ExpiresAt: time.Unix(5, 6).UTC()}
	for _, token := range []sandpool.Token{two, one, one} {
		if err := s.PutToken(ctx, token); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := s.Tokens(ctx); err != nil || !cmp.Equal(got, []sandpool.Token{one, two}) {
		t.Errorf("Tokens = %+v, %v", got, err)
	}
	if got, err := s.Token(ctx, "two"); err != nil || !cmp.Equal(got, two) {
		t.Errorf("Token = %+v, %v", got, err)
	}
	for range 2 {
		if err := s.DeleteToken(ctx, "two"); err != nil {
			t.Errorf("DeleteToken: %v", err)
		}
	}
	if _, err := s.Token(ctx, "two"); sandpool.ClassOf(err) != sandpool.NotFound {
		t.Errorf("Token after DeleteToken: %v", err)
	}
	if err := s.PutToken(ctx, sandpool.Token{ID: "three"}); sandpool.ClassOf(
		err) != sandpool.Invalid {
		t.Errorf("PutToken without a hash: %v", err)
	}
}

// TestMigrationsAreNumbered: the schema's version counts migrations, so two of one number
// would run in an order that nobody chose.
func TestMigrationsAreNumbered(t *testing.T) {
	files, err := os.ReadDir("migrations")
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range files {
		if want := fmt.Sprintf("%04d_", i+1); !strings.HasPrefix(f.Name(), want) {
			t.Errorf("migration %s does not begin with %s", f.Name(), want)
		}
	}
}

// TestTokensOfTheFirstSchema: tokens that were made before they had grants go on to allow
// what they did.
func TestTokensOfTheFirstSchema(t *testing.T) {
	path, ctx := filepath.Join(t.TempDir(), "state.db"), t.Context()
	for _, name := range []string{"migrations/0001_pools_sandboxes_tokens.sql",
		"migrations/0002_pool_template.sql"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := run(ctx, path, string(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := run(ctx, path, `INSERT INTO tokens VALUES
		('one', 'all', zeroblob(32), 'admin', '', '', '', 1, 0),
		('two', 'one pool', zeroblob(32), 'session-executor', 'S', 'G', 'N', 2, 3);
		PRAGMA user_version=2; PRAGMA application_id=0x736e6470`); err != nil {
		t.Fatal(err)
	}
	want := []sandpool.Token{
		{ID: "one", Name: "all", Hash: make([]byte, 32), Grants: []sandpool.Grant{{Role: "admin"}},
			CreatedAt: time.Unix(0, 1).UTC()},
		{ID: "two", Name: "one pool", Hash: make([]byte, 32), CreatedAt: time.Unix(0, 2).UTC(),
			ExpiresAt: time.Unix(0, 3).UTC(),
			Grants: []sandpool.Grant{{Role: "session-executor",
				Scope: sandpool.PoolID{Subscription: "S", ResourceGroup: "G", Name: "N"}.Scope()}}},
	}
	if got, err := open(t, path).Tokens(ctx); err != nil || !cmp.Equal(got, want) {
		t.Errorf("Tokens = %+v, %v", got, err)
	}
}

// TestForeignGrant: a grant that this program does not understand allows nothing.
func TestForeignGrant(t *testing.T) {
	path, ctx := filepath.Join(t.TempDir(), "state.db"), t.Context()
	s := open(t, path)
	if err := s.PutToken(ctx, sandpool.Token{ID: "one", Hash: make([]byte, 32),
		Grants: []sandpool.Grant{{Role: "admin"}}}); err != nil {
		t.Fatal(err)
	}
	for _, grants := range []string{`[{"role":"admin"}]`, `[{"role":"admin","scope":""}]`,
		`[{"role":"admin","scope":"/x"}]`, `[1]`} {
		if err := run(ctx, path, "UPDATE tokens SET grants = '"+grants+"'"); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Token(ctx, "one"); err == nil {
			t.Errorf("%s is read as %+v", grants, got.Grants)
		}
	}
}

func TestFileMode(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a b?c#d%20.db")
	if err := os.WriteFile(path, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	s := open(t, path)
	if err := s.PutToken(t.Context(), sandpool.Token{ID: "one", Hash: make([]byte, 32)}); err !=
		nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 3 {
		t.Fatalf("the directory holds %v, %v; want the file, its log and its index", files, err)
	}
	for _, file := range files {
		info, err := file.Info()
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, %v; want 0600", file.Name(), info.Mode(), err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	ctx, log := t.Context(), slog.New(slog.DiscardHandler)
	foreign := func(path string) error { return run(ctx, path, "CREATE TABLE theirs (x)") }
	for name, test := range map[string]struct {
		make func(path string) error
		want string
	}{
		"no directory": {func(path string) error {
			return os.Remove(filepath.Dir(path))
		}, "no such file or directory"},
		"no database": {func(path string) error {
			return os.WriteFile(path, []byte(strings.Repeat("this is not a database ", 99)), 0o600)
		}, "the file is damaged"},
		"another program's": {foreign, "another program"},
		"a newer version's": {func(path string) error {
			s, err := sqlite.Open(ctx, log, path)
			if err != nil {
				return err
			}
			if err := s.Close(); err != nil {
				return err
			}
			return run(ctx, path, "PRAGMA user_version=99")
		}, "run the newer sandpool"},
		"damaged": {func(path string) error {
			s, err := sqlite.Open(ctx, log, path)
			if err != nil {
				return err
			}
			if err := s.Close(); err != nil {
				return err
			}
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for i := 4096; i < len(data); i++ {
				data[i] = 0x5a
			}
			return os.WriteFile(path, data, 0o600)
		}, "the file is damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "sub", "state.db")
			if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := test.make(path); err != nil {
				t.Fatal(err)
			}
			s, err := sqlite.Open(ctx, log, path)
			if err == nil {
				t.Fatal("no error", s.Close())
			}
			if !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("error %q, want %q in it and the path", err, test.want)
			}
		})
	}
	if _, err := sqlite.Open(ctx, nil, filepath.Join(t.TempDir(), "state.db")); err == nil {
		t.Error("Open without a logger: no error")
	}
}

func run(ctx context.Context, path, text string) error {
	db, err := sql.Open("sqlite", path)
	if err != nil {
		return err
	}
	defer db.Close()
	_, err = db.ExecContext(ctx, text)
	return err
}

// A database that may not grow answers like one on a full disk.
func TestDiskFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s := open(t, path)
	if err := s.LimitPages(t.Context(), 20); err != nil {
		t.Fatal(err)
	}
	var err error
	for i := 0; err == nil && i < 1000; i++ {
		err = s.PutToken(t.Context(), sandpool.Token{ID: "t" + strings.Repeat("x", i),
			Name: strings.Repeat("n", 1000), Hash: make([]byte, 32)})
	}
	if sandpool.ClassOf(err) != sandpool.Unavailable || !strings.Contains(err.Error(), "full") {
		t.Fatalf("write to a full disk: %v", err)
	}
	if err := s.DeleteToken(t.Context(), "t"); err != nil {
		t.Errorf("delete after a full disk: %v", err)
	}
}
