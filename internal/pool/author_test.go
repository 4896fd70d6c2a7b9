package pool_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sandpool/sandpool"
)

// TestAuthors: a pool keeps who made it; who changed it last, and when, stays as it is when
// somebody writes what is there, and through a restart.
func TestAuthors(t *testing.T) {
	within(t, func(w *world) {
		ann := sandpool.Author{Name: "ann@example.com", Kind: sandpool.User}
		bot := sandpool.Author{Name: "bot", Kind: sandpool.Application}
		put := func(cooldown time.Duration, by sandpool.Author) {
			t.Helper()
			p := spec(1, 5)
			p.Cooldown, p.UpdatedBy = cooldown, by
			if _, err := w.Put(w.Context(), p, nil); err != nil {
				t.Fatal(err)
			}
			w.pass(time.Minute)
		}
		made := time.Now()
		want := func(changed time.Time, by sandpool.Author) {
			t.Helper()
			got, err := w.Pool(w.Context(), python)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff([]any{made, changed, ann, by}, []any{got.CreatedAt, got.UpdatedAt,
				got.CreatedBy, got.UpdatedBy}); d != "" {
				t.Error(d)
			}
		}
		put(time.Hour, ann)
		want(made, ann)
		put(time.Hour, bot)
		want(made, ann)
		w.restart()
		put(time.Hour, bot)
		want(made, ann)
		changed := time.Now()
		put(2*time.Hour, bot)
		want(changed, bot)
		w.restart()
		put(2*time.Hour, ann)
		want(changed, bot)
	})
}
