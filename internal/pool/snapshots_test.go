package pool_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/sandbox/sandboxtest"
)

// revised is the pool with another image, and so another snapshot.
func revised(p sandpool.Pool, n int) sandpool.Pool {
	p.Spec.Image = fmt.Sprint("image-", n)
	return p
}

// A pool that is changed again and again has one snapshot, and none when it is gone.
func TestSnapshotsGo(t *testing.T) {
	within(t, func(w *world) {
		for n := range 8 {
			w.put(revised(spec(1, 5), n))
			if keys := w.fake.Prepared(); len(keys) != 1 {
				t.Errorf("after change %d there are %d snapshots", n, len(keys))
			}
			if s := w.status(); s.Snapshot.Bytes != 1<<20 || s.Snapshot.Made.IsZero() {
				t.Errorf("the pool's snapshot is %+v", s.Snapshot)
			}
			if s := w.status(); s.Refills != int64(n+1) {
				t.Errorf("after change %d there were %d refills", n, s.Refills)
			}
		}
		w.acquire("user-1", sandpool.ClaimReady).Release()
		w.must(w.Delete(w.Context(), python))
		w.pass(5 * time.Second)
		if keys := w.fake.Prepared(); len(keys) != 0 {
			t.Errorf("of a pool that is gone %v are left", keys)
		}
	})
}

// Changes that come while a preparation runs leave none of what was half-made.
func TestSnapshotsOfHastyChanges(t *testing.T) {
	within(t, func(w *world) {
		w.fake.Order(sandboxtest.Prepare, -1, sandboxtest.Fault{After: time.Second})
		for n := range 8 {
			_, err := w.Put(w.Context(), revised(spec(1, 5), n), nil)
			w.must(err)
			w.pass(time.Duration(n) * 300 * time.Millisecond)
		}
		w.pass(10 * time.Second)
		if keys := w.fake.Prepared(); len(keys) != 1 {
			t.Errorf("there are %d snapshots", len(keys))
		}
		w.acquire("user-1", sandpool.ClaimReady).Release()
	})
}

// What another pool needs stays: one that has the same snapshot, one that is just being prepared
// from it, and one whose sandbox is just being started from it.
func TestSnapshotsInUseStay(t *testing.T) {
	within(t, func(w *world) {
		one, two := spec(1, 5), spec(1, 5)
		two.ID.Name = "two"
		w.put(one)
		_, err := w.Put(w.Context(), two, nil)
		w.must(err)
		w.settle()
		w.must(w.Delete(w.Context(), python))
		w.pass(5 * time.Second)
		if keys := w.fake.Prepared(); len(keys) != 1 {
			t.Fatalf("there are %d snapshots", len(keys))
		}
		// While a third pool finds the snapshot there, the second lets go of it.
		w.fake.Order(sandboxtest.Prepare, 1, sandboxtest.Fault{After: 10 * time.Second})
		_, err = w.Put(w.Context(), one, nil)
		w.must(err)
		w.pass(time.Second)
		w.must(w.Delete(w.Context(), two.ID))
		w.pass(5 * time.Second)
		if keys := w.fake.Prepared(); len(keys) != 1 {
			t.Fatalf("a preparation lost its snapshot: there are %d", len(keys))
		}
		w.pass(10 * time.Second)
		w.acquire("user-1", sandpool.ClaimReady).Release()
		// A session that starts while its pool is changed gets its sandbox.
		one.ReadySessions = 0
		w.put(one)
		w.fake.Order(sandboxtest.Start, 1, sandboxtest.Fault{After: 10 * time.Second})
		claimed := make(chan error)
		go func() {
			l, err := w.Acquire(w.Context(), python, "user-2")
			if err == nil {
				l.Release()
			}
			claimed <- err
		}()
		w.pass(2 * time.Second)
		w.put(revised(one, 1))
		if keys := w.fake.Prepared(); len(keys) != 2 {
			t.Errorf("while a sandbox starts from the old snapshot there are %d", len(keys))
		}
		w.must(<-claimed)
		w.pass(time.Second)
		if keys := w.fake.Prepared(); len(keys) != 1 {
			t.Errorf("when it has started there are %d", len(keys))
		}
		w.wantCounts(0, 0, 2, 0)
	})
}

// A server that is killed anywhere between a change and its end leaves no snapshot to the next.
func TestSnapshotsAfterKill(t *testing.T) {
	for _, after := range []time.Duration{0, 100 * time.Millisecond, 1100 * time.Millisecond,
		3 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			w := newWalk(t)
			w.fake.Order(sandboxtest.Prepare, -1, sandboxtest.Fault{After: time.Second})
			for n := range 4 {
				if _, err := w.manager.Put(t.Context(), revised(w.spec, n), nil); err != nil {
					t.Fatal(err)
				}
				<-time.After(after)
				w.life.over.Store(true)
				w.end()
				w.begin()
			}
			<-time.After(10 * time.Second)
			keys := w.fake.Prepared()
			if err := w.manager.Delete(t.Context(), python); err != nil {
				t.Fatal(err)
			}
			w.life.over.Store(true)
			w.end()
			w.begin()
			<-time.After(10 * time.Second)
			if gone := w.fake.Prepared(); len(keys) != 1 || len(gone) != 0 {
				t.Errorf("killed after %v: %v are left, and of the deleted pool %v", after, keys,
					gone)
			}
			w.end()
			w.fake.Close()
			if err := w.store.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A removal that fails is tried again.
func TestSnapshotsThatStay(t *testing.T) {
	within(t, func(w *world) {
		w.put(spec(0, 5))
		w.fake.Order(sandboxtest.Prune, 2, sandboxtest.Fault{Err: errKilled})
		w.put(revised(spec(0, 5), 1))
		if keys := w.fake.Prepared(); len(keys) != 2 {
			t.Errorf("there are %d snapshots", len(keys))
		}
		w.pass(2 * time.Minute)
		if keys := w.fake.Prepared(); len(keys) != 1 {
			t.Errorf("there are %v snapshots", keys)
		}
	})
}
