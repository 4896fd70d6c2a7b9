package pool_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/event"
	"github.com/sandpool/sandpool/internal/pool"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/sandboxtest"
)

// container is a pool of custom containers.
func container(ready, most int) sandpool.Pool {
	p := spec(ready, most)
	p.Spec = sandpool.Spec{Kind: sandpool.CustomContainer, Container: &sandpool.Container{}}
	return p
}

// booting makes every sandbox of a guest boot.
func booting(g pool.Guest) pool.Guest {
	plain := g.Template
	g.Template = func(ctx context.Context, p sandpool.Pool,
		secrets sandpool.Secrets) (sandbox.Template, error) {
		t, err := plain(ctx, p, secrets)
		t.Start = sandbox.Boot
		return t, err
	}
	return g
}

// wantEnded fails the test unless err says that the session has ended, with the text in it.
func (w *world) wantEnded(err error, text string) {
	w.Helper()
	if sandpool.ClassOf(err) != sandpool.Ended || !strings.Contains(err.Error(), text) {
		w.Errorf("error is %v, want that the session ended with %q", err, text)
	}
}

// A container that ends under a session ends it; the next request is told once why.
func TestContainerEndsUnderSession(t *testing.T) {
	within(t, func(w *world) {
		w.put(container(1, 5))
		l := w.acquire("user-1", sandpool.ClaimReady)
		w.fake.End(l.Sandbox().ID, sandbox.Exit{Reason: sandbox.Exited, Code: 3})
		w.settle()
		w.wantEnded(context.Cause(l.Context()), "code 3")
		l.Release()
		w.acquire("user-1", sandpool.ClaimReady).Release() // its caller knows already
		w.settle()
		row := w.acquire("user-1", sandpool.ClaimExisting)
		row.Release()
		w.fake.End(row.Sandbox().ID, sandbox.Exit{Reason: sandbox.OutOfMemory})
		w.settle()
		_, err := w.Acquire(w.Context(), python, "user-1")
		w.wantEnded(err, "out of memory")
		l = w.acquire("user-1", sandpool.ClaimReady)
		if l.Sandbox().ID == row.Sandbox().ID {
			w.Error("a sandbox that ended is given out again")
		}
		l.Release()
		if s, err := w.Status(w.Context(), python); err != nil || s.Crashes != 2 {
			w.Errorf("Status = %+v, %v; want two crashes", s, err)
		}
	})
}

// Variables and files are lost as a container's state is: the next call of a code pool's session
// hears of it too, unless its caller deleted the session.
func TestCodeSessionIsLost(t *testing.T) {
	within(t, func(w *world) {
		w.put(spec(1, 5))
		for _, id := range []sandpool.Identifier{"user-1", "user-2"} {
			l := w.acquire(id, sandpool.ClaimReady)
			l.Release()
			w.settle()
			w.fake.End(l.Sandbox().ID, sandbox.Exit{Reason: sandbox.OutOfMemory})
			w.settle()
		}
		_, err := w.Acquire(w.Context(), python, "user-1")
		w.wantEnded(err, "out of memory")
		w.acquire("user-1", sandpool.ClaimReady).Release()
		w.wantClass(w.StopSession(w.Context(), python, "user-2"), sandpool.NotFound)
		w.settle()
		w.acquire("user-2", sandpool.ClaimReady).Release()
	})
}

// What ended a session is told after a restart of the server as before it, once, whenever the
// server ends in between.
func TestLossIsToldAfterARestart(t *testing.T) {
	within(t, func(w *world) {
		w.put(spec(1, 10))
		var ids []sandpool.SandboxID
		for n := range 4 {
			l := w.acquire(sandpool.Identifier(fmt.Sprint("user-", n)), sandpool.ClaimReady)
			l.Release()
			ids = append(ids, l.Sandbox().ID)
			w.settle()
		}
		for _, id := range ids[:3] {
			w.fake.End(id, sandbox.Exit{Reason: sandbox.OutOfMemory})
		}
		w.settle()
		_, err := w.Acquire(w.Context(), python, "user-0") // told before
		w.wantEnded(err, "out of memory")
		w.wantClass(w.StopSession(w.Context(), python, "user-1"), sandpool.NotFound) // not missed
		w.restart()
		w.restart()
		w.settle()
		w.acquire("user-0", sandpool.ClaimReady).Release()
		w.settle()
		w.acquire("user-1", sandpool.ClaimReady).Release()
		w.settle()
		_, err = w.Acquire(w.Context(), python, "user-2")
		w.wantEnded(err, "out of memory")
		w.acquire("user-3", sandpool.ClaimExisting).Release()
		w.restart()
		w.settle()
		w.acquire("user-2", sandpool.ClaimReady).Release()
	})
}

// Of a loss nobody is told whose session would be over by now.
func TestLossIsForgotten(t *testing.T) {
	within(t, func(w *world) {
		w.put(spec(1, 10))
		l := w.acquire("user-1", sandpool.ClaimReady)
		l.Release()
		w.fake.End(l.Sandbox().ID, sandbox.Exit{Reason: sandbox.OutOfMemory})
		w.settle()
		w.restart()
		w.pass(6 * time.Minute)
		w.acquire("user-1", sandpool.ClaimReady).Release()
	})
}

// A server that is killed before it could write anything down knows at least that a session is
// gone.
func TestLossOfAKilledServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWalk(t)
		<-time.After(time.Second)
		l, err := w.manager.Acquire(t.Context(), python, "user-1")
		if err != nil {
			t.Fatal(err)
		}
		l.Release()
		w.life.over.Store(true)
		w.fake.End(l.Sandbox().ID, sandbox.Exit{Reason: sandbox.OutOfMemory})
		synctest.Wait()
		w.end()
		w.begin()
		for _, want := range []sandpool.Class{sandpool.Ended, sandpool.Internal} {
			l, err := w.manager.Acquire(t.Context(), python, "user-1")
			if got := sandpool.ClassOf(err); got != want ||
				(err == nil) != (want == sandpool.Internal) {
				t.Errorf("Acquire: %v, want class %s", err, want)
			}
			if err == nil {
				l.Release()
			}
		}
		w.end()
		w.fake.Close()
		if err := w.store.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A session that is lost while only what nobody waits for holds it is told of with the next call,
// which may be a question for what was lost with it.
func TestLossUnderUnattendedWork(t *testing.T) {
	within(t, func(w *world) {
		w.put(spec(1, 10))
		for _, ask := range []func(id sandpool.Identifier) error{
			func(id sandpool.Identifier) error {
				_, err := w.Acquire(w.Context(), python, id)
				return err
			},
			func(id sandpool.Identifier) error { return w.Lost(w.Context(), python, id) },
		} {
			l := w.acquire("user-1", sandpool.ClaimReady)
			l.Unattended()
			w.fake.End(l.Sandbox().ID, sandbox.Exit{Reason: sandbox.OutOfMemory})
			w.settle()
			l.Release()
			w.wantEnded(ask("user-1"), "out of memory")
			if err := w.Lost(w.Context(), python, "user-1"); err != nil {
				w.Errorf("told twice: %v", err)
			}
			w.settle()
		}
		l := w.acquire("user-2", sandpool.ClaimReady)
		l.Unattended()
		attended := w.acquire("user-2", sandpool.ClaimExisting)
		w.fake.End(l.Sandbox().ID, sandbox.Exit{Reason: sandbox.OutOfMemory})
		w.settle()
		w.wantEnded(context.Cause(attended.Context()), "out of memory") // who waits is told now
		l.Release()
		attended.Release()
		if err := w.Lost(w.Context(), python, "user-2"); err != nil {
			w.Errorf("told twice: %v", err)
		}
	})
}

// With the lifecycle OnContainerExit an exit with zero is the end that was wanted, there is no
// cooldown, and no request makes a session live longer than it may.
func TestOnContainerExit(t *testing.T) {
	within(t, func(w *world) {
		p := container(1, 5)
		p.Spec.Lifecycle = sandpool.Lifecycle{Type: sandpool.OnContainerExit, MaxAlive: time.Hour}
		w.put(p)
		l := w.acquire("user-1", sandpool.ClaimReady)
		began := time.Now()
		if view := l.View(); !view.ExpiresAt.Equal(began.Add(time.Hour)) {
			w.Errorf("the session expires at %v, want an hour from %v", view.ExpiresAt, began)
		}
		l.Release()
		w.fake.End(l.Sandbox().ID, sandbox.Exit{Reason: sandbox.Exited})
		w.settle()
		l = w.acquire("user-1", sandpool.ClaimReady)
		w.pass(59 * time.Minute) // far beyond the cooldown
		if l.Context().Err() != nil {
			w.Fatalf("the session ended: %v", context.Cause(l.Context()))
		}
		w.pass(2 * time.Minute)
		w.wantEnded(context.Cause(l.Context()), "longest time")
		l.Release()
		l = w.acquire("user-2", sandpool.ClaimReady)
		l.Release()
		w.pass(30 * time.Minute)
		w.restart()
		w.settle()
		w.acquire("user-2", sandpool.ClaimExisting).Release()
		w.pass(31 * time.Minute) // counted from the beginning, not from the restart
		_, err := w.Session(w.Context(), python, "user-2")
		if sandpool.ClassOf(err) != sandpool.NotFound {
			w.Errorf("Session = %v, want that it is gone", err)
		}
	})
}

func TestLiveness(t *testing.T) {
	within(t, func(w *world) {
		var sick, asked atomic.Value
		sick.Store(sandpool.SandboxID(""))
		asked.Store([]sandpool.SandboxID(nil))
		w.guest.Liveness = &sandpool.Probe{Delay: 20 * time.Second, Period: 10 * time.Second,
			Failures: 3}
		w.guest.Alive = func(ctx context.Context, s sandpool.Sandbox, dial pool.Dialer) error {
			ids, _ := asked.Load().([]sandpool.SandboxID)
			asked.Store(append(slices.Clone(ids), s.ID))
			if s.ID == sick.Load() {
				<-ctx.Done() // it hangs
				return errors.New("no answer")
			}
			return nil
		}
		w.put(container(2, 5))
		w.pass(15 * time.Second)
		if ids, _ := asked.Load().([]sandpool.SandboxID); len(ids) != 0 {
			w.Errorf("%v were asked within their delay", ids)
		}
		l := w.acquire("user-1", sandpool.ClaimReady)
		w.pass(time.Minute)
		w.wantCounts(2, 0, 1, 0)
		sick.Store(l.Sandbox().ID)
		w.pass(25 * time.Second) // two failures
		if l.Context().Err() != nil {
			w.Fatalf("ended after two failures: %v", context.Cause(l.Context()))
		}
		w.pass(15 * time.Second)
		w.wantEnded(context.Cause(l.Context()), "liveness")
		l.Release()
		ready := w.fake.Running()[0]
		sick.Store(ready)
		w.take()
		w.pass(40 * time.Second)
		if slices.Contains(w.fake.Running(), ready) {
			w.Error("a ready sandbox that does not live is kept")
		}
		names, _ := w.take()
		if !slices.Contains(names, event.SandboxSick) {
			w.Errorf("events %v, want %s", names, event.SandboxSick)
		}
		if p := w.pool(); p.State != sandpool.Succeeded {
			w.Errorf("the pool is %+v", p)
		}
		w.pass(time.Minute)
		w.wantCounts(2, 0, 0, 0) // replaced
		w.guest.Liveness = nil
		w.put(container(2, 6))
		asked.Store([]sandpool.SandboxID(nil))
		w.pass(time.Minute)
		if ids, _ := asked.Load().([]sandpool.SandboxID); len(ids) != 0 {
			w.Errorf("%v were asked although the pool has no liveness check any more", ids)
		}
	})
}

// Containers that crash as soon as they are ready are replaced slower and slower.
func TestCrashLoop(t *testing.T) {
	within(t, func(w *world) {
		w.fake.Order(sandboxtest.Start, -1,
			sandboxtest.Fault{Exit: &sandbox.Exit{Reason: sandbox.Exited, Code: 1}})
		w.put(container(3, 5))
		w.pass(5 * time.Minute)
		if n := w.fake.Count(sandboxtest.Start); n < 5 || n > 20 {
			w.Errorf("%d starts in five minutes", n)
		}
		if p := w.pool(); !strings.Contains(p.Problem, "code 1") {
			w.Errorf("the problem is %q", p.Problem)
		}
		w.fake.Forget(sandboxtest.Start)
		w.pass(2 * time.Minute)
		w.wantCounts(3, 0, 0, 0)
		if p := w.pool(); p.Problem != "" {
			w.Errorf("the problem is still %q", p.Problem)
		}
	})
}

// A pool whose sandboxes boot is prepared when one has started, and not before.
func TestTrial(t *testing.T) {
	within(t, func(w *world) {
		w.guest = booting(w.guest)
		bad := errors.New("the container exits at once")
		w.fake.Order(sandboxtest.Start, 3, sandboxtest.Fault{Err: bad, After: time.Second})
		if got, err := w.Put(w.Context(), container(0, 5), nil); err != nil ||
			got.State != sandpool.InProgress {
			w.Fatalf("Put = %+v, %v", got, err)
		}
		w.pass(500 * time.Millisecond)
		if p := w.pool(); p.State != sandpool.InProgress {
			w.Errorf("while it starts the pool is %s", p.State)
		}
		w.pass(time.Second)
		if p := w.pool(); p.State != sandpool.Failed || !strings.Contains(p.Problem, bad.Error()) {
			w.Errorf("after a failure the pool is %s: %q", p.State, p.Problem)
		}
		w.pass(time.Minute)
		if p := w.pool(); p.State != sandpool.Succeeded || p.Problem != "" {
			w.Errorf("in the end the pool is %s: %q", p.State, p.Problem)
		}
		w.wantCounts(0, 0, 0, 0) // nobody wants one ready
		w.acquire("user-1", sandpool.ClaimNew).Release()
		w.restart()
		w.settle()
		w.acquire("user-1", sandpool.ClaimExisting).Release()
		if p := w.pool(); p.State != sandpool.Succeeded {
			w.Errorf("after a restart the pool is %s", p.State)
		}
	})
}

func TestBootInstead(t *testing.T) {
	within(t, func(w *world) {
		w.guest.BootInstead = true
		w.fake.Order(sandboxtest.Prepare,
			1, sandboxtest.Fault{Err: errors.New("it holds a device")})
		w.put(container(1, 5))
		p := w.pool()
		if p.State != sandpool.Succeeded || !strings.Contains(p.Problem, "it holds a device") ||
			!strings.Contains(p.Problem, "booted") {
			w.Errorf("the pool is %s: %q", p.State, p.Problem)
		}
		w.wantCounts(1, 0, 0, 0)
		w.guest.BootInstead = false
		w.fake.Order(sandboxtest.Prepare,
			1, sandboxtest.Fault{Err: errors.New("it holds a device")})
		next := container(1, 5)
		next.Spec.Image = "next"
		w.put(next)
		if p := w.pool(); p.State != sandpool.Failed {
			w.Errorf("the pool is %s", p.State)
		}
	})
}

// A guest that cannot be makes a failed pool, and one that is mended works.
func TestGuestRefused(t *testing.T) {
	within(t, func(w *world) {
		refused := errors.New("not today")
		plain := w.options.Guest
		w.stop()
		w.options.Guest = func(p sandpool.Pool) (pool.Guest, error) {
			if p.Spec.Image == "bad" {
				return pool.Guest{}, refused
			}
			return plain(p)
		}
		w.run()
		p := spec(1, 5)
		p.Spec.Image = "bad"
		w.put(p)
		if p := w.pool(); p.State != sandpool.Failed ||
			!strings.Contains(p.Problem, refused.Error()) {
			w.Errorf("the pool is %s: %q", p.State, p.Problem)
		}
		_, err := w.Acquire(w.Context(), python, "user-1")
		if sandpool.ClassOf(err) != sandpool.Unavailable {
			w.Errorf("Acquire: %v", err)
		}
		w.put(spec(1, 5))
		w.acquire("user-1", sandpool.ClaimReady).Release()
	})
}

// A container has the time that its pool gives it to end, however long, and holds up no other stop
// meanwhile; one that nobody has claimed is killed at once.
func TestGrace(t *testing.T) {
	within(t, func(w *world) {
		const grace = 3 * time.Minute // longer than an attempt to stop may take otherwise
		plain := w.guest.Template
		w.guest.Grace = grace
		w.guest.Template = func(ctx context.Context, p sandpool.Pool,
			s sandpool.Secrets) (sandbox.Template, error) {
			t, err := plain(ctx, p, s)
			t.Grace, t.StopSignal, t.Env = grace, "SIGTERM", append(t.Env, "GUEST_SIGNALS=deaf")
			return t, err
		}
		const sessions = 40 // more than are stopped at the same time
		w.put(container(0, sessions))
		began := time.Now()
		for i := range sessions {
			id := sandpool.Identifier("user-" + strconv.Itoa(i))
			w.acquire(id, sandpool.ClaimNew).Release()
			w.must(w.StopSession(w.Context(), python, id))
		}
		w.settle()
		w.pass(2 * time.Minute)
		w.settle()
		if s, err := w.Status(w.Context(), python); err != nil || s.Stopping != sessions {
			w.Errorf("%v after their stop: %+v, %v; want %d that still have time",
				time.Since(began), s, err, sessions)
		}
		w.pass(2 * time.Minute)
		w.settle()
		if s, err := w.Status(w.Context(), python); err != nil || s.Stopping != 0 {
			w.Errorf("%v after their stop: %+v, %v; want none", time.Since(began), s, err)
		}
		p := container(2, sessions)
		w.put(p)
		w.settle()
		p.ReadySessions = 0
		w.put(p)
		w.settle()
		if s, err := w.Status(w.Context(), python); err != nil || s.Ready+s.Stopping != 0 {
			w.Errorf("ready sandboxes that are not wanted: %+v, %v; want none", s, err)
		}
	})
}
