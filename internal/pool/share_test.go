package pool_test

import (
	"context"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/pool/share"
	"github.com/sandpool/sandpool/internal/sandbox"
)

// compute has sandboxes use a core each for a while.
func (w *world) compute(d time.Duration, ids ...sandpool.SandboxID) {
	w.Helper()
	const step = 50 * time.Millisecond
	for ; d > 0; d -= step {
		for _, id := range ids {
			used, err := w.fake.CPUTime(id)
			w.must(err)
			w.fake.Use(id, sandbox.Stats{CPUTime: used + step})
		}
		w.pass(step)
	}
}

func (w *world) wantWeight(id sandpool.SandboxID, want int) {
	w.Helper()
	if got := w.fake.Weight(id); got != want {
		w.Errorf("sandbox %s has the weight %d, want %d", id, got, want)
	}
}

// A session that is used now and then comes before those that compute and before new ones, and
// pools share what these get.
func TestWeights(t *testing.T) {
	within(t, func(w *world) {
		other := spec(0, 5)
		other.ID.Name = "other"
		_, err := w.Put(w.Context(), other, nil)
		w.must(err)
		w.put(spec(3, 5))
		l := w.acquire("calm", sandpool.ClaimReady)
		calm := l.Sandbox().ID
		w.compute(10*time.Second, calm)
		w.wantWeight(calm, share.Standard) // its first execution
		l.Release()
		w.pass(2 * time.Second)
		for _, id := range w.fake.Running() {
			want := share.Standard
			if id == calm {
				want = share.Light
			}
			w.wantWeight(id, want)
		}
		var busy []sandpool.SandboxID
		for _, id := range []sandpool.Identifier{"one", "two"} {
			l := w.acquire(id, sandpool.ClaimReady)
			defer l.Release()
			busy = append(busy, l.Sandbox().ID)
		}
		l, err = w.Acquire(w.Context(), other.ID, "three")
		w.must(err)
		busy = append(busy, l.Sandbox().ID)
		w.compute(2*time.Second, busy...)
		w.acquire("calm", sandpool.ClaimExisting).Release()
		w.compute(2*time.Second, busy...)
		w.wantWeight(calm, share.Light)
		w.wantWeight(busy[0], share.Standard/2)
		w.wantWeight(busy[1], share.Standard/2)
		w.wantWeight(busy[2], share.Standard)
		l.Release()
		w.compute(2*time.Second, busy[:2]...)
		w.wantWeight(busy[0], share.Standard)
		w.wantWeight(busy[2], share.Light)
		// Code that goes on without a call is seen as well.
		w.compute(3*time.Second, calm)
		w.wantWeight(calm, share.Standard)
	})
}

// Those of one principal share, whatever else a pool has.
func TestWeightsOfPrincipals(t *testing.T) {
	type key struct{}
	within(t, func(w *world) {
		w.options.By = func(ctx context.Context) string {
			by, _ := ctx.Value(key{}).(string)
			return by
		}
		w.restart()
		w.put(spec(0, 5))
		var busy []sandpool.SandboxID
		for id, by := range map[sandpool.Identifier]string{"1": "ann", "2": "ann", "3": "bob"} {
			l, err := w.Acquire(context.WithValue(w.Context(), key{}, by), python, id)
			w.must(err)
			defer l.Release()
			busy = append(busy, l.Sandbox().ID)
		}
		w.compute(2*time.Second, busy...)
		sum := 0
		for _, id := range busy {
			sum += w.fake.Weight(id)
		}
		if sum != 2*share.Standard {
			w.Errorf("two principals have %d together, want twice %d", sum, share.Standard)
		}
	})
}

// A restarted server does not know the weights, and sets them all; one that is told to treat all
// alike takes them back.
func TestWeightsAfterRestart(t *testing.T) {
	within(t, func(w *world) {
		w.put(spec(0, 5))
		w.acquire("calm", sandpool.ClaimNew).Release()
		l := w.acquire("busy", sandpool.ClaimNew)
		calm, busy := w.sandboxOf("calm"), w.sandboxOf("busy")
		w.pass(2 * time.Second)
		l.Release()
		w.wantWeight(calm, share.Light)
		w.stop()
		w.must(w.fake.SetWeight(calm, 3))
		w.must(w.fake.SetWeight(busy, share.Light))
		w.restart()
		l = w.acquire("busy", sandpool.ClaimExisting)
		w.compute(2*time.Second, busy)
		w.wantWeight(calm, share.Light)
		w.wantWeight(busy, share.Standard)
		l.Release()
		w.pass(20 * time.Second)
		w.wantWeight(busy, share.Light)
		w.options.LightWeight = share.Standard
		w.restart()
		w.settle()
		w.wantWeight(calm, share.Standard)
		w.wantWeight(busy, share.Standard)
	})
}

// sandboxOf is that of a session.
func (w *world) sandboxOf(identifier sandpool.Identifier) sandpool.SandboxID {
	w.Helper()
	l := w.acquire(identifier, sandpool.ClaimExisting)
	defer l.Release()
	return l.Sandbox().ID
}
