package pool_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/event"
	"github.com/sandpool/sandpool/internal/pool"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/sandboxtest"
)

func TestRestartAdopts(t *testing.T) {
	within(t, func(w *world) {
		w.put(spec(2, 5))
		l := w.acquire("user-1", sandpool.ClaimReady)
		l.Release()
		w.settle()
		before := w.fake.Running()
		w.pass(4 * time.Minute)
		w.restart()
		next := w.acquire("user-1", sandpool.ClaimExisting)
		if next.Sandbox().ID != l.Sandbox().ID || next.Sandbox().Secret != l.Sandbox().Secret {
			w.Errorf("after a restart the identifier has %+v, before %+v", next.Sandbox(),
				l.Sandbox())
		}
		if _, err := next.Dial(w.Context(), 8080); err != nil {
			w.Errorf("Dial of an adopted session: %v", err)
		}
		next.Release()
		w.settle()
		w.wantCounts(2, 0, 1, 0)
		if after := w.fake.Running(); len(after) != len(before) || after[0] != before[0] ||
			after[1] != before[1] {
			w.Errorf("sandboxes before %v, after %v", before, after)
		}
		w.fake.End(l.Sandbox().ID, sandbox.Exit{Reason: sandbox.OutOfMemory})
		<-next.Context().Done()
		if cause := context.Cause(next.Context()); cause.Error() !=
			"out of memory: the sandbox used more than its limit of 1 GiB" {
			w.Errorf("an adopted session ended because %v", cause)
		}
	})
}

// No session ends early because the server was away: the idle time begins anew.
func TestRestartKeepsIdleSessions(t *testing.T) {
	within(t, func(w *world) {
		w.put(spec(0, 5))
		w.acquire("user-1", sandpool.ClaimNew).Release()
		w.stop()
		w.pass(time.Hour)
		w.restart()
		w.pass(4 * time.Minute)
		w.wantCounts(0, 0, 1, 0)
		w.pass(time.Minute + time.Second)
		w.wantCounts(0, 0, 0, 0)
	})
}

func TestRestartStopsTheRest(t *testing.T) {
	within(t, func(w *world) {
		w.put(spec(2, 5))
		w.acquire("alive", sandpool.ClaimReady).Release()
		dead := w.acquire("dead", sandpool.ClaimReady)
		w.settle()
		doomed := w.acquire("doomed", sandpool.ClaimReady)
		w.settle()
		w.stop()
		// What a killed server leaves: a session whose sandbox died, one that was being stopped,
		// a start without its row's end, a row without a sandbox, remains, and a stray.
		w.fake.End(dead.Sandbox().ID, sandbox.Exit{Reason: sandbox.Killed})
		ctx := w.Context()
		w.must(w.store.Stopping(ctx, doomed.Sandbox().ID, "deleted", 1))
		for _, id := range []sandpool.SandboxID{"half", "rowonly"} {
			w.must(w.store.Insert(ctx, sandpool.Sandbox{ID: id, Pool: python, Revision: 1,
				State: sandpool.Starting, CreatedAt: time.Now()}, 1))
		}
		_, outcome, err := w.store.Claim(ctx, sandpool.ClaimRequest{Pool: python, Epoch: 1,
			Identifier: "starting", Revision: 99, Max: 9, NewID: "claimed-half"})
		if err != nil || outcome != sandpool.ClaimNew {
			w.Fatalf("Claim = %s, %v", outcome, err)
		}
		template, err := guest().Template(ctx, spec(2, 5), nil)
		w.must(err)
		prepared, err := w.fake.Prepare(ctx, template, nil)
		w.must(err)
		for _, id := range []sandpool.SandboxID{"half", "stray", "claimed-half"} {
			_, err := w.fake.Start(ctx, id, prepared)
			w.must(err)
		}
		w.fake.Leave("remains")
		w.restart()
		w.settle()
		w.wantCounts(2, 0, 1, 0)
		found, err := w.fake.List(ctx)
		if err != nil || len(found) != 3 {
			w.Errorf("the engine has %v, %v; want the 3 that are used", found, err)
		}
		w.acquire("alive", sandpool.ClaimExisting).Release()
		_, err = w.Acquire(ctx, python, "dead")
		w.wantEnded(err, "while no server ran") // told once
		w.acquire("dead", sandpool.ClaimReady).Release()
		w.acquire("starting", sandpool.ClaimReady).Release()
	})
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func TestRestartChecksTheReady(t *testing.T) {
	within(t, func(w *world) {
		w.put(spec(2, 5))
		mute := w.fake.Running()[0]
		w.guest.Alive = func(_ context.Context, s sandpool.Sandbox, _ pool.Dialer) error {
			if s.ID == mute {
				return errors.New("no answer")
			}
			return nil
		}
		w.restart()
		w.settle()
		w.wantCounts(2, 0, 0, 0)
		for _, id := range w.fake.Running() {
			if id == mute {
				w.Error("a sandbox that does not answer was adopted")
			}
		}
	})
}

// What failed before a restart says nothing about the attempt that begins with it.
func TestRestartTriesFailedPoolsAgain(t *testing.T) {
	within(t, func(w *world) {
		w.fake.Order(sandboxtest.Prepare, -1,
			sandboxtest.Fault{Err: errors.New("there is no image")})
		if w.put(spec(1, 5)); w.pool().State != sandpool.Failed {
			w.Fatalf("the pool is %s", w.pool().State)
		}
		w.stop()
		w.fake.Forget(sandboxtest.Prepare)
		w.fake.Order(sandboxtest.Prepare, 1, sandboxtest.Fault{After: 20 * time.Second})
		w.restart()
		if p := w.pool(); p.State != sandpool.InProgress || p.Problem != "" {
			w.Errorf("after a restart the pool is %s with problem %q", p.State, p.Problem)
		}
		w.pass(time.Minute)
		w.wantCounts(1, 0, 0, 0)
	})
}

func TestRestartWithNewRevision(t *testing.T) {
	within(t, func(w *world) {
		w.put(spec(1, 5))
		w.stop()
		p := spec(1, 5)
		p.Revision, p.State, p.Spec.Image = 2, sandpool.InProgress, "python:next"
		w.must(w.store.PutPool(w.Context(), p, nil, w.epoch()))
		w.restart()
		w.settle()
		if names, _ := w.take(); len(names)-len(slices.DeleteFunc(names,
			func(n event.Name) bool { return n == event.PoolRolled })) != 1 {
			w.Errorf("a change that was cut off does not end once; the others are %q", names)
		}
		l := w.acquire("user-1", sandpool.ClaimReady)
		if l.Sandbox().Revision != 2 {
			w.Errorf("got revision %d", l.Sandbox().Revision)
		}
		l.Release()
	})
}

// A new server may start the same pool's sandboxes from something else: another agent, or
// a newer image of the same name. What is ready is then out of date; what nothing is started from
// goes.
func TestRestartWithNewTemplate(t *testing.T) {
	within(t, func(w *world) {
		w.put(spec(2, 5))
		w.acquire("user-1", sandpool.ClaimReady).Release()
		w.settle()
		w.restart()
		w.settle()
		if p := w.pool(); p.Revision != 1 || p.Template == "" {
			w.Errorf("a restart without a change made revision %d of %q", p.Revision, p.Template)
		}
		before := w.fake.Prepared()
		plain := w.guest.Template
		w.guest.Template = func(ctx context.Context, p sandpool.Pool,
			secrets sandpool.Secrets) (sandbox.Template, error) {
			template, err := plain(ctx, p, secrets)
			template.Env = []string{"AGENT=new"}
			return template, err
		}
		w.restart()
		w.settle()
		if p := w.pool(); p.Revision != 2 || p.State != sandpool.Succeeded {
			w.Errorf("a restart with another agent made %+v", p)
		}
		w.wantCounts(2, 0, 1, 0)
		w.acquire("user-1", sandpool.ClaimExisting).Release()
		if l := w.acquire("user-2", sandpool.ClaimReady); l.Sandbox().Revision != 2 {
			w.Errorf("a new session got revision %d", l.Sandbox().Revision)
		}
		w.restart()
		w.settle()
		if after := w.fake.Prepared(); len(after) != 1 || len(before) != 1 ||
			after[0] == before[0] {
			w.Errorf("snapshots before %v, after %v", before, after)
		}
	})
}

func TestRestartWhileDeleting(t *testing.T) {
	within(t, func(w *world) {
		w.put(spec(1, 5))
		w.stop()
		p := spec(1, 5)
		p.Revision, p.State = 1, sandpool.Deleting
		w.must(w.store.PutPool(w.Context(), p, nil, w.epoch()))
		w.restart()
		w.settle()
		_, err := w.Pool(w.Context(), python)
		w.wantClass(err, sandpool.NotFound)
		if ids := w.fake.Running(); len(ids) != 0 {
			w.Errorf("%v run", ids)
		}
	})
}

func TestAcquireWaitsForAdoption(t *testing.T) {
	within(t, func(w *world) {
		w.put(spec(1, 5))
		w.acquire("user-1", sandpool.ClaimReady).Release()
		w.stop()
		w.fake.Order(sandboxtest.List, 2, sandboxtest.Fault{Err: errors.New("busy")})
		w.restart()
		began := time.Now()
		w.acquire("user-1", sandpool.ClaimExisting).Release()
		if took := time.Since(began); took != 3*time.Second {
			w.Errorf("Acquire took %s, want the 1 s and 2 s between attempts", took)
		}
		w.stop()
		w.fake.Order(sandboxtest.List, -1, sandboxtest.Fault{Err: errors.New("busy")})
		w.restart()
		_, err := w.Acquire(w.Context(), python, "user-1")
		w.wantClass(err, sandpool.Unavailable)
	})
}

func TestSweep(t *testing.T) {
	within(t, func(w *world) {
		w.put(spec(1, 5))
		l := w.acquire("user-1", sandpool.ClaimReady)
		w.settle()
		w.fake.Leave("remains")
		w.must(w.store.Insert(w.Context(), sandpool.Sandbox{ID: "forgotten", Pool: python,
			State: sandpool.Starting}, 1))
		w.fake.Vanish(l.Sandbox().ID) // and its watcher is not told
		w.pass(31 * time.Second)
		w.wantClass(context.Cause(l.Context()), sandpool.Ended)
		l.Release()
		w.wantCounts(1, 0, 0, 0)
		found, err := w.fake.List(w.Context())
		if err != nil || len(found) != 1 {
			w.Errorf("the engine has %v, %v; want the ready one", found, err)
		}
		rows, err := w.store.Sandboxes(w.Context())
		if err != nil || len(rows) != 1 {
			w.Errorf("rows %v, %v", rows, err)
		}
	})
}

func TestNew(t *testing.T) {
	within(t, func(w *world) {
		w.settle()
		for name, o := range map[string]pool.Options{
			"no Guest":         {},
			"negative timeout": {Guest: w.options.Guest, StopTimeout: -1},
		} {
			if _, err := pool.New(w, w.store, w.fake, o); err == nil {
				w.Errorf("New with %s: no error", name)
			}
		}
		if _, err := pool.New(w, nil, w.fake, w.options); err == nil {
			w.Error("New without a store: no error")
		}
		if _, err := pool.New(nil, w.store, w.fake, w.options); err == nil {
			w.Error("New without an observer: no error")
		}
		if err := w.Manager.Run(w.Context()); err == nil {
			w.Error("Run again: no error")
		}
	})
}
