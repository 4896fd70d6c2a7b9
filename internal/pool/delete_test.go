package pool_test

import (
	"context"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/sandbox/sandboxtest"
)

func TestDelete(t *testing.T) {
	within(t, func(w *world) {
		w.put(spec(2, 5))
		l := w.acquire("user-1", sandpool.ClaimReady) // a request is in flight
		w.fake.Order(sandboxtest.Stop, -1, sandboxtest.Fault{After: 5 * time.Second})
		for range 2 {
			if err := w.Delete(w.Context(), python); err != nil {
				w.Fatalf("Delete: %v", err)
			}
		}
		w.wantClass(context.Cause(l.Context()), sandpool.Ended)
		w.settle()
		if p := w.pool(); p.State != sandpool.Deleting || p.UpdatedBy.Name != "ann" {
			w.Errorf("the pool is %s, by %q", p.State, p.UpdatedBy.Name)
		}
		_, err := w.Acquire(w.Context(), python, "user-2")
		w.wantClass(err, sandpool.Conflict)
		_, err = w.Put(w.Context(), spec(2, 5), nil)
		w.wantClass(err, sandpool.Conflict)
		w.pass(time.Minute)
		_, err = w.Pool(w.Context(), python)
		w.wantClass(err, sandpool.NotFound)
		if ids := w.fake.Running(); len(ids) != 0 {
			w.Errorf("%v run after Delete", ids)
		}
		l.Release()
		w.put(spec(1, 5))
		w.wantCounts(1, 0, 0, 0)
	})
}

func TestDeleteWhileBusy(t *testing.T) {
	within(t, func(w *world) {
		w.fake.Order(sandboxtest.Start, -1, sandboxtest.Fault{After: 30 * time.Second})
		w.put(spec(2, 10))
		got := make(chan error, 1)
		go func() {
			_, err := w.Acquire(w.Context(), python, "user-1")
			got <- err
		}()
		w.pass(time.Second)
		w.wantCounts(0, 3, 0, 0)
		if err := w.Delete(w.Context(), python); err != nil {
			w.Fatal(err)
		}
		w.wantClass(<-got, sandpool.Ended)
		w.settle()
		_, err := w.Pool(w.Context(), python)
		w.wantClass(err, sandpool.NotFound)
	})
}

func TestDeleteWhilePreparing(t *testing.T) {
	within(t, func(w *world) {
		w.fake.Order(sandboxtest.Prepare, 1, sandboxtest.Fault{Until: make(chan struct{})})
		w.put(spec(2, 10))
		if err := w.Delete(w.Context(), python); err != nil {
			w.Fatal(err)
		}
		w.settle()
		if pools, err := w.Pools(w.Context()); err != nil || len(pools) != 0 {
			w.Errorf("Pools = %v, %v", pools, err)
		}
	})
}

func TestStopAll(t *testing.T) {
	within(t, func(w *world) {
		w.put(spec(3, 10))
		l := w.acquire("user-1", sandpool.ClaimReady)
		w.fake.Order(sandboxtest.Start, -1, sandboxtest.Fault{After: time.Minute})
		go func() {
			_, err := w.Acquire(w.Context(), python, "user-1")
			if err != nil {
				w.wantClass(err, sandpool.Unavailable)
			}
		}()
		if err := w.StopAll(w.Context()); err != nil {
			w.Fatal(err)
		}
		w.wantClass(context.Cause(l.Context()), sandpool.Ended)
		if rows, err := w.store.Sandboxes(w.Context()); err != nil || len(rows) != 0 ||
			len(w.fake.Running()) != 0 {
			w.Errorf("left: rows %v, %v, sandboxes %v", rows, err, w.fake.Running())
		}
		_, err := w.Acquire(w.Context(), python, "user-2")
		w.wantClass(err, sandpool.Unavailable)
		w.pass(time.Minute)
		w.wantCounts(0, 0, 0, 0)
		if err := w.StopAll(w.Context()); err != nil {
			w.Errorf("StopAll again: %v", err)
		}
	})
}
