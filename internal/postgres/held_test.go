package postgres_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/postgres"
)

// The sessions of a database from before they were counted are counted when its schema is brought
// up to date, and the maximum of sessions holds.
func TestSessionsAreCounted(t *testing.T) {
	address := database(t)
	cfg, err := pgxpool.ParseConfig(address)
	if err != nil {
		t.Fatal(err)
	}
	cfg.ConnConfig.RuntimeParams["search_path"] = "sandpool"
	old, err := pgxpool.NewWithConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	if err := postgres.MigrateTo(t.Context(), old, 6); err != nil {
		t.Fatal(err)
	}
	id := sandpool.PoolID{Subscription: "s", ResourceGroup: "g", Name: "p"}
	if _, err := old.Exec(t.Context(), `INSERT INTO pools
		VALUES ($1, 's', 'g', 'p', '', 'null', '{}', 2, 0, 0, 1, '', '', 'Succeeded', '', 0, 0, 'owner', 1)`, id.Key()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b"} {
		if _, err := old.Exec(t.Context(),
			`SELECT claim($1, 1, $2, 1, 2, 7, $2, 'secret', false, '')`, id.Key(),
			name); err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, address)
	claim := func(name string) sandpool.ClaimOutcome {
		_, outcome, err := s.Claim(t.Context(), sandpool.ClaimRequest{Pool: id, Epoch: 1,
			Revision: 1, Identifier: sandpool.Identifier(name), Max: 2, Now: time.Now(),
			NewID: sandpool.SandboxID(name), NewSecret: "secret"})
		if err != nil {
			t.Fatal(err)
		}
		return outcome
	}
	counted := func(when string) {
		if n, err := s.Miscounted(t.Context()); err != nil || n > 0 {
			t.Errorf("%s %d pools have another number of sessions, %v", when, n, err)
		}
	}
	counted("after the migration")
	if got := claim("c"); got != sandpool.ClaimFull {
		t.Errorf("a claim beyond the maximum is answered %s", got)
	}
	for i := range 3 { // over and over, so that a count that is off by one shows
		if err := s.Stopping(t.Context(), "a", "over", 1); err != nil {
			t.Fatal(err)
		}
		if err := s.Stopping(t.Context(), "a", "again", 1); err != nil {
			t.Fatal(err)
		}
		counted("after a stop")
		name := fmt.Sprint("d", i)
		if got := claim(name); got != sandpool.ClaimNew {
			t.Errorf("with a session fewer, a claim is answered %s", got)
		}
		_, err := s.Started(t.Context(), sandpool.SandboxID(name), nil, time.Now(), 1)
		if err != nil {
			t.Fatal(err)
		}
		counted("after a start")
		if got := claim("e"); got != sandpool.ClaimFull {
			t.Errorf("a claim beyond the maximum is answered %s", got)
		}
		for _, gone := range []string{"a", name} {
			if err := s.Remove(t.Context(), sandpool.SandboxID(gone), 1); err != nil {
				t.Fatal(err)
			}
		}
		counted("after the removal of a session that runs")
		if got := claim("a"); got != sandpool.ClaimNew {
			t.Errorf("with a session fewer, a claim is answered %s", got)
		}
	}
}
