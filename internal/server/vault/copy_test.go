package vault_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/backup"
	"github.com/sandpool/sandpool/internal/postgres"
	"github.com/sandpool/sandpool/internal/server/vault"
	"github.com/sandpool/sandpool/internal/sqlite"
	"github.com/sandpool/sandpool/internal/store"
	"github.com/sandpool/sandpool/internal/store/storetest"
)

// All that a file says, a database says after a copy, and goes on from there.
func TestCopyWhole(t *testing.T) {
	from := openRaw(t, file(t)).(*sqlite.Store)
	storetest.Copied(t, from, func(t *testing.T) storetest.Whole {
		into := openRaw(t, shared(t)).(*postgres.Store)
		if err := into.Load(t.Context(), from); err != nil {
			t.Fatal(err)
		}
		if err := into.Load(t.Context(), from); sandpool.ClassOf(err) != sandpool.Conflict {
			t.Errorf("a second load: %v, want a conflict", err)
		}
		return into
	})
}

// A copy opens with the key of the file that it was made of, and needs it.
func TestCopy(t *testing.T) {
	o, to := file(t), shared(t)
	s := open(t, o)
	fill(t, s)
	token := sandpool.Token{ID: "token", Name: "Ann", Hash: bytes.Repeat([]byte{7}, 32),
		Grants: []sandpool.Grant{{Role: "admin"}}, CreatedAt: time.Unix(1, 2).UTC()}
	if err := s.PutToken(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	lock, err := backup.Lock(o.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := vault.Copy(t.Context(), quiet, o, to.Store); sandpool.ClassOf(err) !=
		sandpool.Conflict {
		t.Errorf("a copy while a server runs: %v, want a conflict", err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	done, err := vault.Copy(t.Context(), quiet, o, to.Store)
	if want := (vault.Copied{Pools: 2, Sandboxes: 1, Tokens: 1}); err != nil || done != want {
		t.Fatalf("Copy = %+v, %v; want %+v", done, err, want)
	}
	if _, err := vault.Open(t.Context(), quiet, to); err == nil ||
		!strings.Contains(err.Error(), "key") {
		t.Errorf("the copy opens without its key: %v", err)
	}
	to.DataDir = o.DataDir
	copied := open(t, to)
	want(t, copied)
	wantSealed(t, to)
	tokens, err := copied.Tokens(t.Context())
	if diff := cmp.Diff([]sandpool.Token{token}, tokens); err != nil || diff != "" {
		t.Errorf("%v, -want +got tokens\n%s", err, diff)
	}
	if _, err := vault.Copy(t.Context(), quiet, o, to.Store); sandpool.ClassOf(err) !=
		sandpool.Conflict {
		t.Errorf("a copy over what is there: %v, want a conflict", err)
	}
	if _, err := vault.Copy(t.Context(), quiet, to, to.Store); sandpool.ClassOf(err) !=
		sandpool.Invalid {
		t.Errorf("a copy of a database: %v, want it refused", err)
	}
	empty := file(t)
	if _, err := vault.Copy(t.Context(), quiet, empty, to.Store); sandpool.ClassOf(err) !=
		sandpool.NotFound {
		t.Errorf("a copy of nothing: %v, want it not found", err)
	}
}

// failing is a store whose dump ends early.
type failing struct{ store.Dumper }

// Dump implements store.Dumper.
func (f failing) Dump(ctx context.Context, each func(store.Row) error) error {
	return f.Dumper.Dump(ctx, func(r store.Row) error {
		if r.Table == "documents" {
			return errors.New("the disk is gone")
		}
		return each(r)
	})
}

// A copy that is cut short leaves nothing.
func TestCopyCutShort(t *testing.T) {
	o := file(t)
	fill(t, open(t, o))
	from := openRaw(t, o).(*sqlite.Store)
	into := openRaw(t, shared(t)).(*postgres.Store)
	if err := into.Load(t.Context(), failing{from}); err == nil {
		t.Fatal("a load of a dump that fails succeeds")
	}
	if pools, err := into.Pools(t.Context()); err != nil || len(pools) > 0 {
		t.Errorf("there is %v, %v", pools, err)
	}
	if err := into.Load(t.Context(), from); err != nil {
		t.Errorf("the next load: %v", err)
	}
}
