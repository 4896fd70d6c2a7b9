package pool_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
)

func TestClaimRefillCooldown(t *testing.T) {
	within(t, func(w *world) {
		w.put(spec(3, 5))
		w.wantCounts(3, 0, 0, 0)
		if p, err := w.Pool(w.Context(), python); err != nil || p.State != sandpool.Succeeded || p.Revision != 1 {
			w.Errorf("Pool = %+v, %v", p, err)
		}
		first := w.acquire("user-1", sandpool.ClaimReady)
		w.settle()
		w.wantCounts(3, 0, 1, 0)
		again := w.acquire("user-1", sandpool.ClaimExisting)
		if first.Sandbox().ID != again.Sandbox().ID {
			w.Error("one identifier got two sandboxes")
		}
		w.acquire("user-2", sandpool.ClaimReady).Release()
		w.acquire("user-3", sandpool.ClaimReady).Release()
		w.settle()
		w.wantCounts(2, 0, 3, 0) // no more ready than can be claimed
		first.Release()
		first.Release()
		w.pass(5*time.Minute + time.Second)
		w.wantCounts(3, 0, 1, 0) // user-1 is still in use
		if err := context.Cause(first.Context()); err != nil {
			w.Errorf("the session in use ended: %v", err)
		}
		again.Release()
		w.pass(4 * time.Minute)
		w.wantCounts(3, 0, 1, 0)
		w.pass(time.Minute + time.Second)
		w.wantCounts(3, 0, 0, 0)
		w.wantClass(context.Cause(first.Context()), sandpool.Ended)
	})
}

func TestFull(t *testing.T) {
	within(t, func(w *world) {
		w.put(spec(0, 2))
		w.acquire("user-1", sandpool.ClaimNew).Release()
		w.pass(time.Minute)
		held := w.acquire("user-2", sandpool.ClaimNew)
		_, err := w.Acquire(w.Context(), python, "user-3")
		w.wantClass(err, sandpool.Full)
		full := err.(*sandpool.Error)
		if full.Code != "SessionPoolMaxSessionsReached" || full.RetryAfter != 4*time.Minute ||
			!strings.Contains(full.Message, "Error happened when allocating pod for identifier user-3 in pool python") {
			w.Errorf("the error of a full pool: %+v", full)
		}
		if n := w.status().Claims[sandpool.ClaimFull]; n != 1 {
			w.Errorf("%d claims counted as full, want 1", n)
		}
		held.Release()
		w.acquire("user-1", sandpool.ClaimExisting).Release()
		w.pass(5*time.Minute + time.Second)
		w.acquire("user-3", sandpool.ClaimNew).Release()
	})
}
