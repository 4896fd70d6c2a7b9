package pool_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/event"
	"github.com/sandpool/sandpool/internal/sandbox"
)

// crowded is a pool of one session that lets callers wait.
func crowded(length int, wait time.Duration) sandpool.Pool {
	p := spec(0, 1)
	p.Spec.Queue = &sandpool.Queue{Length: length, Wait: wait}
	return p
}

// line begins Acquire for each identifier, one after the other, and returns who was served, in
// order.
func (w *world) line(ctx context.Context, identifiers ...sandpool.Identifier) (served chan string) {
	served = make(chan string, len(identifiers))
	for _, id := range identifiers {
		go func() {
			l, err := w.Acquire(ctx, python, id)
			if err != nil {
				served <- fmt.Sprintf("%s: %s", id, sandpool.ClassOf(err))
				return
			}
			served <- string(id)
			l.Release()
		}()
		synctest.Wait()
	}
	return served
}

func wantServed(t *testing.T, served chan string, want ...string) {
	t.Helper()
	synctest.Wait()
	for _, next := range want {
		select {
		case got := <-served:
			if got != next {
				t.Errorf("served %q, want %q", got, next)
			}
		default:
			t.Errorf("nobody was served, want %q", next)
		}
	}
	if len(served) > 0 {
		t.Errorf("%q was served too", <-served)
	}
}

func TestQueueIsFair(t *testing.T) {
	within(t, func(w *world) {
		w.put(crowded(3, 30*time.Second))
		w.acquire("user-0", sandpool.ClaimNew).Release()
		served := w.line(w.Context(), "user-1", "user-2", "user-3")
		if n := w.status().Waiting; n != 3 {
			t.Errorf("%d wait, want 3", n)
		}
		_, err := w.Acquire(w.Context(), python, "user-4")
		w.wantClass(err, sandpool.Full)
		for n := range 3 {
			wantServed(t, served)
			if err := w.StopSession(w.Context(), python,
				sandpool.Identifier(fmt.Sprintf("user-%d", n))); err != nil {
				t.Fatal(err)
			}
			wantServed(t, served, fmt.Sprintf("user-%d", n+1))
		}
		if s := w.status(); s.Waiting != 0 || s.Claims[sandpool.ClaimFull] != 1 {
			t.Errorf("status %+v", s)
		}
	})
}

// Who comes as a slot is freed stands behind those who wait.
func TestNobodyOvertakes(t *testing.T) {
	within(t, func(w *world) {
		w.put(crowded(10, 30*time.Second))
		w.acquire("user-0", sandpool.ClaimNew).Release()
		served := w.line(w.Context(), "user-1")
		go func() { _ = w.StopSession(w.Context(), python, "user-0") }()
		late := w.line(w.Context(), "user-2")
		wantServed(t, served, "user-1")
		wantServed(t, late)
		w.pass(30 * time.Second)
		wantServed(t, late, "user-2: full")
	})
}

func TestCallersLeaveTheQueue(t *testing.T) {
	within(t, func(w *world) {
		w.put(crowded(2, 30*time.Second))
		w.acquire("user-0", sandpool.ClaimNew).Release()
		ctx, leave := context.WithCancel(w.Context())
		gone := w.line(ctx, "user-1")
		served := w.line(w.Context(), "user-2")
		leave()
		wantServed(t, gone, "user-1: internal") // the context's error
		if n := w.status().Waiting; n != 1 {
			t.Errorf("%d wait, want 1", n)
		}
		w.fake.End(w.fake.Running()[0], sandbox.Exit{Reason: sandbox.OutOfMemory})
		wantServed(t, served, "user-2")
	})
}

func TestQueueEnds(t *testing.T) {
	within(t, func(w *world) {
		w.options.Queue = sandpool.Queue{Length: 5, Wait: 10 * time.Second} // the server's
		w.restart()
		w.put(spec(0, 1))
		w.acquire("user-0", sandpool.ClaimNew).Release()
		served := w.line(w.Context(), "user-1")
		w.pass(10 * time.Second)
		wantServed(t, served, "user-1: full")

		more := spec(0, 2)
		served = w.line(w.Context(), "user-1")
		w.put(more) // a higher maximum is room at once
		wantServed(t, served, "user-1")

		served = w.line(w.Context(), "user-2")
		if err := w.Delete(w.Context(), python); err != nil {
			t.Fatal(err)
		}
		wantServed(t, served, "user-2: conflict")
		var waits []string
		_, events := w.take()
		for _, e := range events {
			if e.Name == event.SessionQueued {
				waits = append(waits, fmt.Sprint(e.Outcome, " after ", e.Took))
			}
		}
		if want := []string{"refused after 10s", "served after 0s", "left after 0s"}; !slices.Equal(
			waits, want) {
			t.Errorf("the waits are told as %q, want %q", waits, want)
		}
	})
}

// One identifier is one place's worth: all who wait for it are served together.
func TestQueueOfOneIdentifier(t *testing.T) {
	within(t, func(w *world) {
		w.put(crowded(5, 30*time.Second))
		w.acquire("user-0", sandpool.ClaimNew).Release()
		served := w.line(w.Context(), "user-1", "user-2", "user-1")
		_ = w.StopSession(w.Context(), python, "user-0")
		wantServed(t, served, "user-1", "user-1")
	})
}

// The advice of when to try again counts those who come first.
func TestRetryAfterBehindOthers(t *testing.T) {
	within(t, func(w *world) {
		p := spec(0, 2)
		p.Spec.Queue = &sandpool.Queue{Length: 1, Wait: 30 * time.Second}
		w.put(p)
		w.acquire("user-0", sandpool.ClaimNew).Release()
		w.pass(time.Minute)
		w.acquire("user-1", sandpool.ClaimNew).Release()
		w.line(w.Context(), "user-2")
		_, err := w.Acquire(w.Context(), python, "user-3")
		w.wantClass(err, sandpool.Full)
		if e, ok := err.(*sandpool.Error); !ok || e.RetryAfter.Round(time.Second) != 5*time.Minute {
			t.Errorf("try again after %v, want the second session's end, in 5m", err)
		}
		w.pass(time.Minute)
	})
}

func TestEviction(t *testing.T) {
	within(t, func(w *world) {
		p := spec(0, 2)
		p.Spec.EvictIdle = time.Minute
		w.put(p)
		w.acquire("user-0", sandpool.ClaimNew).Release()
		w.pass(20 * time.Second)
		held := w.acquire("user-1", sandpool.ClaimNew)
		w.pass(20 * time.Second)
		_, err := w.Acquire(w.Context(), python, "user-2")
		w.wantClass(err, sandpool.Full)
		if e, ok := err.(*sandpool.Error); !ok ||
			e.RetryAfter.Round(time.Second) != 20*time.Second {
			t.Errorf("try again after %v, want 20s", err)
		}
		w.pass(21 * time.Second)
		w.acquire("user-2", sandpool.ClaimNew).Release() // user-0 made room
		_, err = w.Session(w.Context(), python, "user-0")
		w.wantClass(err, sandpool.NotFound)
		w.pass(30 * time.Second)
		_, err = w.Acquire(w.Context(), python, "user-3") // user-1 is in use
		w.wantClass(err, sandpool.Full)
		held.Release()
		// Whose session has made room is told so, once, and has a place again only then.
		_, err = w.Acquire(w.Context(), python, "user-0")
		w.wantEnded(err, "to make room for another")
		_, err = w.Acquire(w.Context(), python, "user-0")
		w.wantClass(err, sandpool.Full)
	})
}

// Who waits gets the session's place as soon as it has been idle long enough, and no more than
// one session ends for one who waits.
func TestEvictionForTheQueue(t *testing.T) {
	within(t, func(w *world) {
		p := spec(0, 2)
		p.Spec.EvictIdle, p.Spec.Queue = time.Minute, &sandpool.Queue{Length: 5,
			Wait: 30 * time.Second}
		w.put(p)
		w.acquire("user-0", sandpool.ClaimNew).Release()
		w.pass(time.Second)
		w.acquire("user-1", sandpool.ClaimNew).Release()
		w.pass(40 * time.Second)
		served := w.line(w.Context(), "user-2")
		wantServed(t, served)
		w.pass(22 * time.Second)
		wantServed(t, served, "user-2")
		w.settle()
		w.wantCounts(0, 0, 2, 0)
		_, err := w.Acquire(w.Context(), python, "user-0")
		w.wantEnded(err, "to make room for another")
	})
}

// Of sessions that make room one after another, half of what is remembered is left for losses.
func TestEvictionsLeaveRoomForLosses(t *testing.T) {
	within(t, func(w *world) {
		p := spec(0, 1)
		p.Spec.EvictIdle, p.Cooldown = time.Second, time.Hour
		w.put(p)
		name := func(n int) sandpool.Identifier {
			return sandpool.Identifier(fmt.Sprintf("user-%04d", n))
		}
		const many = 600
		for n := range many {
			w.acquire(name(n), sandpool.ClaimNew).Release()
			w.pass(2 * time.Second)
		}
		told := 0
		for n := range many - 1 {
			if w.Lost(w.Context(), python, name(n)) != nil {
				told++
			}
		}
		if told != 512 {
			t.Errorf("%d callers are told, want 512", told)
		}
	})
}
