package pool_test

import (
	"errors"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/sandboxtest"
)

func TestStats(t *testing.T) {
	within(t, func(w *world) {
		w.put(spec(2, 5))
		w.pass(time.Second)
		l := w.acquire("user-1", sandpool.ClaimReady)
		defer l.Release()
		w.settle()
		sandboxes, err := w.Sandboxes(w.Context(), python)
		if err != nil || len(sandboxes) != 3 {
			w.Fatalf("Sandboxes = %v, %v; want 3", sandboxes, err)
		}
		for i, b := range sandboxes {
			if stats, err := w.Stats(w.Context(), b); err != nil || stats.Memory == 0 {
				w.Errorf("Stats(%s) = %+v, %v", b.ID, stats, err)
			}
			if i > 0 && b.CreatedAt.Before(sandboxes[i-1].CreatedAt) {
				w.Errorf("%s comes after a younger one", b.ID)
			}
		}
		if _, err := w.Stats(w.Context(), sandpool.Sandbox{ID: "unknown"}); err == nil {
			w.Error("Stats of an unknown sandbox: no error")
		}
	})
}

// An engine that cannot say for a while how a sandbox is must be asked again.
func TestWatchIsRepeated(t *testing.T) {
	within(t, func(w *world) {
		w.fake.Order(sandboxtest.Wait, 3, sandboxtest.Fault{Err: errors.New("no answer")})
		w.put(spec(1, 1))
		l := w.acquire("user-1", sandpool.ClaimReady)
		w.pass(10 * time.Second)
		w.fake.End(l.Sandbox().ID, sandbox.Exit{Reason: sandbox.OutOfMemory})
		w.settle()
		if l.Context().Err() == nil {
			w.Error("nobody saw the sandbox end")
		}
		l.Release()
	})
}

// What a pool has become is written down when the store works again.
func TestStateIsSavedLater(t *testing.T) {
	within(t, func(w *world) {
		w.fake.Order(sandboxtest.Prepare, 1, sandboxtest.Fault{After: time.Second})
		w.put(spec(1, 1))
		w.store.failPut(errors.New("disk on fire"))
		w.pass(5 * time.Second)
		if p := w.pool(); p.State != sandpool.Succeeded {
			w.Errorf("the pool is %s", p.State)
		}
		if _, err := w.Put(w.Context(), spec(2, 5), nil); err == nil {
			w.Error("Put with a broken store: no error")
		}
		w.store.failPut(nil)
		w.pass(2 * time.Second)
		rows, err := w.store.Pools(w.Context())
		if err != nil || len(rows) != 1 || rows[0].State != sandpool.Succeeded ||
			rows[0].Template == "" {
			w.Errorf("the store has %+v, %v", rows, err)
		}
		if pools, err := w.Pools(w.Context()); err != nil || len(pools) != 1 ||
			pools[0].MaxSessions != 1 {
			w.Errorf("Pools = %+v, %v; the refused change must not show", pools, err)
		}
	})
}
