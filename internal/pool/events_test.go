package pool_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/event"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/sandboxtest"
)

// TestEvents follows a pool through its life, and what observers are told of it.
func TestEvents(t *testing.T) {
	within(t, func(w *world) {
		told := func(what string, want ...event.Name) []event.Event {
			w.Helper()
			w.settle()
			names, events := w.take()
			// A refill starts while what it is for is stopped, in no order.
			slices.SortStableFunc(names, func(a, b event.Name) int {
				return b2i(a == event.SandboxStarted) - b2i(b == event.SandboxStarted)
			})
			if !slices.Equal(names, want) {
				w.Errorf("%s: %q, want %q", what, names, want)
			}
			for _, e := range events {
				if e.Pool != python && e.Name.Stream() != event.Server {
					w.Errorf("%s: %s is of the pool %s", what, e.Name, e.Pool)
				}
			}
			return events
		}
		w.put(spec(1, 2))
		told("a pool", event.PoolReady, event.SandboxStarted)

		one := w.acquire("session-one", sandpool.ClaimReady)
		first := one.Sandbox().ID
		events := told("a session", event.SessionAllocated, event.SandboxStarted)
		if e := events[0]; e.Outcome != "ready" || e.Sandbox != first ||
			e.Sandbox == events[1].Sandbox {
			w.Errorf("a session: %+v, %+v", events[0], events[1])
		}
		w.acquire("session-one", sandpool.ClaimExisting).Release() // the same one
		told("a session again")
		one.Release()

		two := w.acquire("session-two", sandpool.ClaimReady)
		told("a second", event.SessionAllocated)
		if _, err := w.Acquire(w.Context(), python, "session-three"); sandpool.ClassOf(
			err) != sandpool.Full {
			w.Errorf("a third: %v", err)
		}
		told("a third", event.SessionRefused)

		w.fake.End(two.Sandbox().ID, sandbox.Exit{Reason: sandbox.OutOfMemory})
		events = told("out of memory", event.SandboxEnded, event.SessionEnded, event.SandboxStopped,
			event.SandboxStarted)
		if e := events[0]; e.Outcome != "out of memory" || e.Sandbox != two.Sandbox().ID ||
			e.Message == "" {
			w.Errorf("out of memory: %+v", e)
		}
		two.Release()

		w.pass(6 * time.Minute)
		events = told("idle", event.SessionEnded, event.SandboxStopped)
		if e := events[0]; e.Sandbox != first || e.Took < 5*time.Minute || e.Took > 7*time.Minute ||
			e.Message == "" {
			w.Errorf("idle: %+v", e)
		}

		w.fake.Order(sandboxtest.Start, 1, sandboxtest.Fault{Err: errors.New("no memory left")})
		w.acquire("session-four", sandpool.ClaimReady).Release()
		w.pass(5 * time.Second)
		events = told("a refill that fails", event.SessionAllocated, event.SandboxNotStarted,
			event.SandboxStopped, event.SandboxStarted)
		if e := events[1]; e.Err == nil || e.Message != "" {
			w.Errorf("a refill that fails: %+v", e)
		}

		w.restart()
		events = told("a restart", event.SandboxAdopted, event.SandboxAdopted, event.PoolReady)
		if got := []string{events[0].Outcome, events[1].Outcome}; !cmp.Equal(got,
			[]string{"claimed", "ready"}) && !cmp.Equal(got, []string{"ready", "claimed"}) {
			w.Errorf("a restart: %q", got)
		}
		if err := w.Delete(w.Context(), python); err != nil {
			w.Fatal(err)
		}
		told("the end", event.SessionEnded, event.SandboxStopped, event.SandboxStopped,
			event.PoolDeleted)
	})
}

// What a pool's policy refuses is told, now and then, and stays counted when the session is over.
func TestRefusals(t *testing.T) {
	within(t, func(w *world) {
		p := spec(1, 3)
		p.Spec.Network = sandpool.Network{Status: sandpool.EgressEnabled, Allow: []string{"192.0.2.1:80"}}
		w.put(p)
		w.settle()
		l := w.acquire("session-one", sandpool.ClaimReady)
		h := sandbox.Handle{ID: l.Sandbox().ID}
		try := func(to string) {
			w.Helper()
			if _, err := w.fake.Hold(w.Context(), h, to); err != nil {
				w.Error(err)
			}
		}
		told := func(what string, want ...int64) {
			w.Helper()
			_, events := w.take()
			var got []int64
			for _, e := range events {
				if e.Name != event.EgressRefused {
					continue
				}
				got = append(got, e.Count)
				if e.Pool != python || e.Message == "" || e.Sandbox != h.ID {
					w.Errorf("%s: %+v", what, e)
				}
			}
			if !slices.Equal(got, want) {
				w.Errorf("%s: told of %d, want %d", what, got, want)
			}
		}
		try("192.0.2.1:80")
		w.pass(20 * time.Second)
		told("what is allowed")
		try("192.0.2.2:80")
		w.pass(2 * time.Second)
		told("one refusal", 1)
		for range 500 {
			try("192.0.2.3:80")
			w.pass(10 * time.Millisecond)
		}
		w.pass(30 * time.Second)
		told("many", 500)
		if e := w.status().Egress; e == nil || e.Packets != 501 || e.Recent[0].Host != "192.0.2.3" {
			w.Errorf("the status has %+v", e)
		}
		l.Release()
		try("192.0.2.4:80")
		w.fake.End(h.ID, sandbox.Exit{Reason: sandbox.Exited})
		w.pass(time.Second)
		if e := w.status().Egress; e == nil || e.Packets != 502 || e.Recent[0].Host != "192.0.2.4" {
			w.Errorf("after the session the status has %+v", e)
		}
	})
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}
