package pool_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/pool"
)

// Init fails for the first sandbox that was restored: the pool's boot instead, without it, and the
// next update tries the snapshot again. One that fails later is only replaced.
func TestBootInsteadOfUnfit(t *testing.T) {
	within(t, func(w *world) {
		inits, failing := 0, true
		w.guest.BootInstead, w.guest.InitRestored = true, true
		w.guest.Init = func(context.Context, sandpool.Sandbox, pool.Dialer) error {
			if p := w.pool(); inits == 0 && p.State != sandpool.InProgress {
				w.Errorf("the pool is %s before a sandbox has started", p.State)
			}
			if inits++; failing {
				return errors.New("the hook answers 404")
			}
			return nil
		}
		w.put(container(2, 5))
		w.settle()
		if p := w.pool(); p.State != sandpool.Succeeded || !strings.Contains(p.Problem, "404") ||
			!strings.Contains(p.Problem, "booted") {
			w.Errorf("the pool is %s: %q", p.State, p.Problem)
		}
		w.wantCounts(2, 0, 0, 0)
		if inits == 0 || inits > 4 {
			w.Errorf("Init was called %d times", inits)
		}
		failing = false
		next := container(2, 5)
		next.Spec.Image = "next"
		w.put(next)
		w.settle()
		if p := w.pool(); p.State != sandpool.Succeeded || p.Problem != "" {
			w.Errorf("after an update the pool is %s: %q", p.State, p.Problem)
		}
		w.wantCounts(2, 0, 0, 0)
		failing = true
		w.acquire("user-1", sandpool.ClaimReady)
		w.settle()
		if p := w.pool(); p.State != sandpool.Succeeded ||
			strings.Contains(p.Problem, "booted") {
			w.Errorf("after a failure under way the pool is %s: %q", p.State, p.Problem)
		}
	})
}
