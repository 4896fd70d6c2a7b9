package postgres_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/internal/postgres"
	"github.com/sandpool/sandpool/internal/postgres/pgtest"
	"github.com/sandpool/sandpool/internal/store"
	"github.com/sandpool/sandpool/internal/store/storetest"
)

var (
	_ store.Store     = (*postgres.Store)(nil)
	_ auth.TokenStore = (*postgres.Store)(nil)
)

var server = sync.OnceValues(func() (*pgtest.Server, error) {
	return pgtest.Start(context.Background())
})

func TestMain(m *testing.M) {
	code := m.Run()
	s, err := server()
	if err == nil {
		err = s.Stop()
	}
	if err == nil {
		err = goleak.Find()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func running(t testing.TB) *pgtest.Server {
	t.Helper()
	s, err := server()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func database(t testing.TB) string {
	t.Helper()
	address, err := running(t).Database(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return address
}

func open(t testing.TB, address string) *postgres.Store {
	t.Helper()
	s, err := postgres.Open(t.Context(), slog.New(slog.DiscardHandler), address)
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
		address := database(t)
		return storetest.Target{
			Store:  open(t, address),
			Reopen: func(t *testing.T) store.Store { return open(t, address) },
		}
	})
}

func TestTokens(t *testing.T) {
	s, ctx := open(t, database(t)), t.Context()
	one := sandpool.Token{ID: "one", Name: "Ann's", Hash: []byte(strings.Repeat("x", 32)),
		Grants: []sandpool.Grant{{Role: "admin"}}, CreatedAt: time.Unix(1, 2).UTC()}
	two := sandpool.Token{ID: "two", Name: "Bob's", Hash: []byte(strings.Repeat("y", 32)),
		Grants: []sandpool.Grant{{Role: "reader",
			Scope: sandpool.Scope{Subscription: "S", ResourceGroup: "G", Pool: "N",
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
	for _, id := range []string{"two", "\x00", "\xff"} {
		if _, err := s.Token(ctx, id); sandpool.ClassOf(err) != sandpool.NotFound {
			t.Errorf("Token %q that does not exist: %v", id, err)
		}
	}
	if err := s.PutToken(ctx, sandpool.Token{ID: "three"}); sandpool.ClassOf(
		err) != sandpool.Invalid {
		t.Errorf("PutToken without a hash: %v", err)
	}
}

// TestAgree: servers that offer different documents at the same time all have one of them.
func TestAgree(t *testing.T) {
	address := database(t)
	var wait sync.WaitGroup
	got := make([]string, 6)
	for i := range got {
		s := open(t, address)
		wait.Go(func() {
			d, err := s.Agree(t.Context(), store.Document{Kind: "secret", Key: "key",
				Text: fmt.Sprint("offer ", i)})
			if err != nil {
				t.Error(err)
			}
			got[i] = d.Text
		})
	}
	wait.Wait()
	for _, text := range got {
		if text != got[0] || !strings.HasPrefix(text, "offer ") {
			t.Errorf("the servers have %q", got)
		}
	}
}

// TestHostileReason: what a guest makes the server write does not make the write fail.
func TestHostileReason(t *testing.T) {
	s, ctx := open(t, database(t)), t.Context()
	p := sandpool.Pool{ID: sandpool.PoolID{Subscription: "s", ResourceGroup: "g", Name: "p"},
		State: sandpool.Succeeded}
	if _, err := s.CreatePool(ctx, p, nil, "me"); err != nil {
		t.Fatal(err)
	}
	if err := s.Insert(ctx, sandpool.Sandbox{ID: "one", Pool: p.ID, State: sandpool.Starting},
		1); err != nil {
		t.Fatal(err)
	}
	if err := s.Stopping(ctx, "one", "a\x00b\xffc", 1); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Sandboxes(ctx); err != nil || len(got) != 1 ||
		got[0].Reason != "a\uFFFDb\uFFFDc" {
		t.Errorf("Sandboxes = %+v, %v", got, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	newer := database(t)
	if err := open(t, newer).Close(); err != nil {
		t.Fatal(err)
	}
	s := running(t)
	name := strings.TrimPrefix(strings.SplitN(newer, "?", 2)[0], "postgres:///")
	if err := s.ExecIn(t.Context(), name,
		"INSERT INTO sandpool.schema_version VALUES (99)"); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ address, want string }{
		"not an address": {"postgres://%zz", "address"},
		"no such server": {"postgres:///x?host=/nonexistent", "cannot be reached"},
		"no such user": {strings.Replace(newer, "user=sandpool", "user=nobody", 1),
			"user or password"},
		"no such name":    {s.Address("none"), "none"},
		"a newer version": {newer, "run the newer sandpool"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := postgres.Open(t.Context(), slog.New(slog.DiscardHandler), test.address)
			if err == nil {
				t.Fatal("no error", s.Close())
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %q, want %q in it", err, test.want)
			}
		})
	}
	if _, err := postgres.Open(t.Context(), nil, newer); err == nil {
		t.Error("Open without a logger: no error")
	}
}

// TestServersThatStartTogether: the schema is made once.
func TestServersThatStartTogether(t *testing.T) {
	address := database(t)
	var wait sync.WaitGroup
	for range 5 {
		wait.Go(func() {
			s, err := postgres.Open(t.Context(), slog.New(slog.DiscardHandler), address)
			if err != nil {
				t.Error(err)
				return
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
}

// TestQuotaByIndex: to count one principal's sessions no others' are read.
func TestQuotaByIndex(t *testing.T) {
	plan, err := open(t, database(t)).PlanOfQuota(t.Context())
	if err != nil || !strings.Contains(plan, "sandboxes_principal") {
		t.Errorf("the plan is %q, %v", plan, err)
	}
}
