package pool_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/pool/quota"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/sandboxtest"
)

func TestClaimRefillCooldown(t *testing.T) {
	within(t, func(w *world) {
		w.put(spec(3, 5))
		w.wantCounts(3, 0, 0, 0)
		if p, err := w.Pool(w.Context(), python); err != nil || p.State != sandpool.Succeeded ||
			p.Revision != 1 {
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
			!strings.Contains(full.Message,
				"Error happened when allocating pod for identifier user-3 in pool python") {
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

func TestClaimsOfOneIdentifierShareOneStart(t *testing.T) {
	within(t, func(w *world) {
		w.put(spec(0, 5))
		w.fake.Order(sandboxtest.Start, 1, sandboxtest.Fault{After: 3 * time.Second})
		var mu sync.Mutex
		got := map[sandpool.SandboxID]int{}
		outcomes := map[sandpool.ClaimOutcome]int{}
		for range 50 {
			go func() {
				l, err := w.Acquire(w.Context(), python, "user-1")
				if err != nil {
					w.Errorf("Acquire: %v", err)
					return
				}
				defer l.Release()
				mu.Lock()
				defer mu.Unlock()
				got[l.Sandbox().ID]++
				outcomes[l.Claim().Outcome]++
			}()
		}
		w.settle()
		impatient, cancel := context.WithTimeout(w.Context(), time.Second)
		defer cancel()
		if _, err := w.Acquire(impatient, python, "user-1"); !errors.Is(err,
			context.DeadlineExceeded) {
			w.Errorf("the impatient caller got %v", err)
		}
		w.pass(3 * time.Second)
		if len(got) != 1 || outcomes[sandpool.ClaimNew] != 1 ||
			outcomes[sandpool.ClaimExisting] != 49 {
			w.Errorf("50 callers got %v with outcomes %v", got, outcomes)
		}
		if n := w.fake.Count(sandboxtest.Start); n != 1 {
			w.Errorf("%d starts, want 1", n)
		}
	})
}

func TestFirstCallerGivesUp(t *testing.T) {
	within(t, func(w *world) {
		w.put(spec(0, 5))
		w.fake.Order(sandboxtest.Start, 1, sandboxtest.Fault{After: 3 * time.Second})
		impatient, cancel := context.WithTimeout(w.Context(), time.Second)
		defer cancel()
		if _, err := w.Acquire(impatient, python, "user-1"); !errors.Is(err,
			context.DeadlineExceeded) {
			w.Errorf("the impatient caller got %v", err)
		}
		l := w.acquire("user-1", sandpool.ClaimExisting)
		if l.Claim().Start != 3*time.Second {
			w.Errorf("the start took %s, want 3s", l.Claim().Start)
		}
		l.Release()
		w.wantCounts(0, 0, 1, 0)
	})
}

func TestStartFails(t *testing.T) {
	within(t, func(w *world) {
		w.put(spec(0, 1))
		w.fake.Order(sandboxtest.Start, 1, sandboxtest.Fault{After: time.Second,
			Err: errors.New("no memory left"), Leave: true})
		for range 3 {
			go func() {
				_, err := w.Acquire(w.Context(), python, "user-1")
				w.wantClass(err, sandpool.Unavailable)
				if err != nil && !strings.Contains(err.Error(), "no memory left") {
					w.Errorf("the error hides its cause: %v", err)
				}
			}()
		}
		w.pass(2 * time.Second)
		w.wantCounts(0, 0, 0, 0)
		w.acquire("user-1", sandpool.ClaimNew).Release()
		w.wantCounts(0, 0, 1, 0)
	})
}

func TestStartNeverEnds(t *testing.T) {
	within(t, func(w *world) {
		w.put(spec(0, 1))
		w.fake.Order(sandboxtest.Start, 1, sandboxtest.Fault{Until: make(chan struct{})})
		_, err := w.Acquire(w.Context(), python, "user-1")
		w.wantClass(err, sandpool.Unavailable)
		w.settle()
		w.wantCounts(0, 0, 0, 0)
	})
}

func TestInitFails(t *testing.T) {
	within(t, func(w *world) {
		w.put(spec(0, 1))
		w.fake.Order(sandboxtest.Dial, 1, sandboxtest.Fault{Err: errors.New("agent is mute")})
		_, err := w.Acquire(w.Context(), python, "user-1")
		w.wantClass(err, sandpool.Unavailable)
		w.settle()
		w.wantCounts(0, 0, 0, 0)
	})
}

func TestStoreFails(t *testing.T) {
	within(t, func(w *world) {
		w.put(spec(1, 2))
		w.store.fail(errors.New("disk on fire"), nil)
		if _, err := w.Acquire(w.Context(), python, "user-1"); err == nil ||
			!strings.Contains(err.Error(), "disk on fire") {
			w.Errorf("Acquire with a broken store: %v", err)
		}
		w.store.fail(nil, nil)
		l := w.acquire("user-1", sandpool.ClaimReady)
		l.Release()
		asked := w.store.claims()
		w.acquire("user-1", sandpool.ClaimExisting).Release()
		if w.store.claims() != asked {
			w.Error("a session that memory knows was asked of the store")
		}
		// The identifier must not get its dead sandbox back while the store cannot be told.
		w.store.fail(nil, errors.New("disk on fire"))
		w.fake.End(l.Sandbox().ID, sandbox.Exit{Reason: sandbox.Killed})
		w.settle()
		if _, err := w.Acquire(w.Context(), python, "user-1"); err == nil {
			w.Error("Acquire after the sandbox died: no error")
		}
		w.store.fail(nil, nil)
		next := w.acquire("user-1", sandpool.ClaimReady)
		if next.Sandbox().ID == l.Sandbox().ID {
			w.Error("the dead sandbox was given again")
		}
		next.Release()
	})
}

// The store can be late to hear that a ready sandbox died; a claim must not get it.
func TestClaimOfDeadReady(t *testing.T) {
	within(t, func(w *world) {
		w.put(spec(1, 3))
		dead := w.fake.Running()[0]
		w.store.fail(nil, errors.New("disk on fire"))
		w.fake.End(dead, sandbox.Exit{Reason: sandbox.Killed})
		w.settle() // the store still calls it ready, and may not be told otherwise
		if l, err := w.Acquire(w.Context(), python, "user-1"); err == nil {
			w.Errorf("the claim got %s, the dead sandbox is %s", l.Sandbox().ID, dead)
		}
		w.store.fail(nil, nil)
		l, err := w.Acquire(w.Context(), python, "user-1")
		if err != nil || l.Sandbox().ID == dead {
			w.Fatalf("the next claim got %v, %v", l, err)
		}
		if _, err := l.Dial(w.Context(), 8080); err != nil {
			w.Errorf("Dial: %v", err)
		}
		l.Release()
		w.pass(time.Minute)
		w.wantCounts(1, 0, 1, 0)
	})
}

func TestUnknownPool(t *testing.T) {
	within(t, func(w *world) {
		_, err := w.Acquire(w.Context(), python, "user-1")
		w.wantClass(err, sandpool.NotFound)
		_, err = w.Pool(w.Context(), python)
		w.wantClass(err, sandpool.NotFound)
		_, err = w.Status(w.Context(), python)
		w.wantClass(err, sandpool.NotFound)
		w.wantClass(w.StopSession(w.Context(), python, "user-1"), sandpool.NotFound)
		_, _, err = w.Sessions(w.Context(), python, 0, 10)
		w.wantClass(err, sandpool.NotFound)
		if err := w.Delete(w.Context(), python); err != nil {
			w.Errorf("Delete of an unknown pool: %v", err)
		}
		for _, bad := range []sandpool.Pool{{}, {ID: python}, {ID: python, MaxSessions: 1},
			{ID: python, MaxSessions: 1, ReadySessions: -1, Cooldown: 1}} {
			_, err := w.Put(w.Context(), bad, nil)
			w.wantClass(err, sandpool.Invalid)
		}
	})
}

// Callers that come at once, as many as are ready, each get a ready sandbox, also when the
// pool has hardly room for more.
func TestBurst(t *testing.T) {
	within(t, func(w *world) {
		const ready = 20
		w.put(spec(ready, ready+1))
		w.fake.Order(sandboxtest.Start, -1, sandboxtest.Fault{After: time.Second})
		busy := make(chan struct{})
		w.store.hold = busy
		var wait sync.WaitGroup
		for n := range ready {
			wait.Go(func() {
				l, err := w.Acquire(w.Context(), python,
					sandpool.Identifier(fmt.Sprintf("user-%d", n)))
				if err != nil || l.Claim().Outcome != sandpool.ClaimReady {
					w.Errorf("caller %d got %v, %v; want a ready sandbox", n, l, err)
					return
				}
				l.Release()
			})
		}
		w.pass(2 * time.Second) // the manager plans while the store is busy
		close(busy)
		wait.Wait()
		w.pass(time.Minute)
		w.wantCounts(1, 0, ready, 0)
		if s := w.status(); s.Claims[sandpool.ClaimReady] != ready {
			w.Errorf("claims counted: %v", s.Claims)
		}
	})
}

// TestQuota: a principal has as many sessions at a time as the quota says, of all pools and after a
// restart, and another principal's are their own.
func TestQuota(t *testing.T) {
	within(t, func(w *world) {
		w.options.Quota = 2
		w.options.By = func(ctx context.Context) string {
			by, _ := ctx.Value(asker{}).(string)
			return by
		}
		w.restart()
		w.put(spec(0, 9))
		other := spec(0, 9)
		other.ID.Name = "second"
		w.put(other)
		acquire := func(by string, p sandpool.PoolID, identifier sandpool.Identifier) error {
			l, err := w.Acquire(context.WithValue(w.Context(), asker{}, by), p, identifier)
			if err == nil {
				l.Release()
			}
			return err
		}
		beyond := func() {
			t.Helper()
			err := acquire("token:a", python, "user-3")
			var e *sandpool.Error
			if !errors.As(err, &e) || e.Code != "PrincipalMaxSessionsReached" ||
				e.Class != sandpool.Unavailable {
				t.Errorf("a third session: %v", err)
			}
		}
		for identifier, p := range map[sandpool.Identifier]sandpool.PoolID{"user-1": python,
			"user-2": other.ID} {
			if err := acquire("token:a", p, identifier); err != nil {
				t.Fatal(err)
			}
		}
		beyond()
		w.restart()
		beyond()
		if err := acquire("token:a", python, "user-1"); err != nil {
			t.Errorf("a session that is there: %v", err)
		}
		if err := acquire("token:b", python, "user-4"); err != nil {
			t.Errorf("another principal: %v", err)
		}
		if err := w.StopSession(w.Context(), python, "user-1"); err != nil {
			t.Fatal(err)
		}
		if err := acquire("token:a", python, "user-3"); err != nil {
			t.Errorf("after one has ended: %v", err)
		}
	})
}

// TestQuotaIsOnesOwn: whoever waits for the session of an identifier that another principal has
// asked for gets it, though that one has as many as it may.
func TestQuotaIsOnesOwn(t *testing.T) {
	within(t, func(w *world) {
		w.options.Quota = 1
		w.options.By = func(ctx context.Context) string {
			by, _ := ctx.Value(asker{}).(string)
			return by
		}
		w.restart()
		w.put(spec(0, 9))
		busy := make(chan struct{})
		w.store.hold = busy
		acquire := func(by string, identifier sandpool.Identifier) <-chan error {
			answer := make(chan error, 1)
			go func() {
				l, err := w.Acquire(context.WithValue(w.Context(), asker{}, by), python, identifier)
				if err == nil {
					l.Release()
				}
				answer <- err
			}()
			synctest.Wait()
			return answer
		}
		last := acquire("token:a", "user-1") // has the turn, and the place
		beyond := acquire("token:a", "user-2")
		other := acquire("token:b", "user-2")
		close(busy)
		w.must(<-last)
		if err := <-beyond; !quota.Refused(err) {
			t.Errorf("beyond the quota: %v", err)
		}
		w.must(<-other)
	})
}
