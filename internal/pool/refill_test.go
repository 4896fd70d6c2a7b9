package pool_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/sandboxtest"
)

func (w *world) pool() sandpool.Pool {
	w.Helper()
	p, err := w.Pool(w.Context(), python)
	if err != nil {
		w.Fatalf("Pool: %v", err)
	}
	return p
}

func TestRefillBacksOff(t *testing.T) {
	within(t, func(w *world) {
		w.fake.Order(sandboxtest.Start, -1, sandboxtest.Fault{Err: errors.New("no memory left")})
		w.put(spec(1, 5))
		w.pass(10 * time.Minute)
		// After 1, 2, 4 … 60 seconds: about 15 attempts in 10 minutes.
		if n := w.fake.Count(sandboxtest.Start); n < 10 || n > 20 {
			w.Errorf("%d attempts in 10 minutes", n)
		}
		if p := w.pool(); p.State != sandpool.Succeeded ||
			!strings.Contains(p.Problem, "no memory left") {
			w.Errorf("the pool is %s with problem %q", p.State, p.Problem)
		}
		if s := w.status(); s.RefillFailures < 10 {
			w.Errorf("%d refill failures counted", s.RefillFailures)
		}
		w.fake.Forget(sandboxtest.Start)
		w.pass(2 * time.Minute)
		w.wantCounts(1, 0, 0, 0)
		if p := w.pool(); p.Problem != "" {
			w.Errorf("the problem stays: %q", p.Problem)
		}
	})
}

func TestCrashLoopBacksOff(t *testing.T) {
	within(t, func(w *world) {
		w.fake.Order(sandboxtest.Start, -1, sandboxtest.Fault{
			Exit: &sandbox.Exit{Reason: sandbox.OutOfMemory, Code: 137}})
		w.put(spec(5, 5))
		w.pass(10 * time.Minute)
		if n := w.fake.Count(sandboxtest.Start); n < 10 || n > 30 {
			w.Errorf("%d starts of sandboxes that die, in 10 minutes", n)
		}
		if p := w.pool(); !strings.Contains(p.Problem, "limit of 1 GiB") {
			w.Errorf("problem %q", p.Problem)
		}
		w.fake.Forget(sandboxtest.Start)
		w.pass(2 * time.Minute)
		w.wantCounts(5, 0, 0, 0)
	})
}

// A user's crash is not the template's fault.
func TestUsedSandboxesMayDie(t *testing.T) {
	within(t, func(w *world) {
		w.put(spec(2, 5))
		for range 10 {
			l := w.acquire("user-1", sandpool.ClaimReady)
			w.fake.End(l.Sandbox().ID, sandbox.Exit{Reason: sandbox.OutOfMemory})
			<-l.Context().Done()
			l.Release()
			w.settle()
			w.wantCounts(2, 0, 0, 0)
		}
	})
}

func TestClaimsStartBeforeRefills(t *testing.T) {
	within(t, func(w *world) {
		w.put(spec(0, 20))
		w.fake.Order(sandboxtest.Start, -1, sandboxtest.Fault{After: 10 * time.Second})
		w.put(spec(10, 20)) // takes all 4 slots
		w.wantCounts(0, 4, 0, 0)
		for _, identifier := range []sandpool.Identifier{"user-1", "user-2", "user-3"} {
			go func() {
				if l, err := w.Acquire(w.Context(), python, identifier); err == nil {
					l.Release()
				}
			}()
		}
		w.pass(11 * time.Second)
		s := w.status()
		if s.Claimed != 0 || s.Ready != 4 || s.Starting != 4 {
			w.Errorf("after the first refills: %+v", s)
		}
		w.pass(10 * time.Second)
		if s := w.status(); s.Claimed != 3 {
			w.Errorf("after the next starts: %+v; want the 3 claims served first", s)
		}
		w.pass(time.Minute)
		w.wantCounts(10, 0, 3, 0)
	})
}

// Claims for which a machine that starts slowly has no turn are refused at once, say when to come
// back, and are no fault of the pool.
func TestTooManyStarts(t *testing.T) {
	within(t, func(w *world) {
		w.put(spec(0, 100))
		w.fake.Order(sandboxtest.Start, -1, sandboxtest.Fault{After: 19 * time.Second})
		var served, refused atomic.Int32
		ask := func(from, n int) {
			for i := range n {
				go func() {
					began := time.Now()
					l, err := w.Acquire(w.Context(), python,
						sandpool.Identifier(fmt.Sprint("user-", from+i)))
					if err == nil {
						served.Add(1)
						l.Release()
						return
					}
					var e *sandpool.Error
					if !errors.As(err, &e) || e.Code != "MachineFull" ||
						e.Class != sandpool.Unavailable || e.RetryAfter < 2*time.Second {
						w.Errorf("error %+v", err)
					}
					if took := time.Since(began); from > 0 && took > time.Second {
						w.Errorf("refused after %v", took)
					}
					refused.Add(1)
				}()
			}
		}
		ask(0, 4)
		w.pass(30 * time.Second)
		ask(4, 40) // four at a time: 4 begin, and 12 more within a minute
		w.pass(3 * time.Minute)
		if n, m := served.Load(), refused.Load(); n != 4+4+12 || n+m != 44 {
			w.Errorf("%d served, %d refused", n, m)
		}
		s := w.status()
		if p := w.pool(); p.Problem != "" || s.Refused != int64(refused.Load()) ||
			s.RefillFailures > 0 {
			w.Errorf("the pool has the problem %q; %+v", p.Problem, s)
		}
	})
}

func TestFewerReady(t *testing.T) {
	within(t, func(w *world) {
		w.put(spec(5, 10))
		w.wantCounts(5, 0, 0, 0)
		if p := w.put(spec(2, 10)); p.Revision != 1 || p.State != sandpool.Succeeded {
			w.Errorf("a change of numbers made %+v", p)
		}
		w.wantCounts(2, 0, 0, 0)
	})
}

func TestNewRevision(t *testing.T) {
	within(t, func(w *world) {
		w.put(spec(2, 5))
		old := w.acquire("user-1", sandpool.ClaimReady)
		defer old.Release()
		w.settle()
		next := spec(2, 5)
		next.Spec.Image = "python:next"
		if p := w.put(next); p.Revision != 2 || p.State != sandpool.InProgress {
			w.Errorf("a change of image made %+v", p)
		}
		if p := w.pool(); p.State != sandpool.Succeeded {
			w.Errorf("the pool is %s", p.State)
		}
		w.wantCounts(2, 0, 1, 0)
		if l := w.acquire("user-2", sandpool.ClaimReady); l.Sandbox().Revision != 2 {
			w.Errorf("a new session got revision %d", l.Sandbox().Revision)
		}
		if err := old.Context().Err(); err != nil {
			w.Errorf("the old session ended: %v", err)
		}
	})
}

// TestNewRevisionWithoutAGap: what is ready serves until the new ones are, unless the update is
// about what sandboxes may reach.
func TestNewRevisionWithoutAGap(t *testing.T) {
	within(t, func(w *world) {
		w.put(spec(2, 5))
		w.wantCounts(2, 0, 0, 0)
		w.fake.Order(sandboxtest.Prepare, 1, sandboxtest.Fault{After: 10 * time.Second})
		next := spec(2, 5)
		next.Spec.Image = "python:next"
		w.put(next)
		w.pass(5 * time.Second)
		if l := w.acquire("user-1", sandpool.ClaimReady); l.Sandbox().Revision != 1 {
			w.Errorf("before the new ones are ready it got revision %d", l.Sandbox().Revision)
		}
		w.pass(time.Minute)
		if l := w.acquire("user-2", sandpool.ClaimReady); l.Sandbox().Revision != 2 {
			w.Errorf("then it got revision %d", l.Sandbox().Revision)
		}
		w.pass(10 * time.Second)
		w.wantCounts(2, 0, 2, 0)

		w.fake.Order(sandboxtest.Prepare, 1, sandboxtest.Fault{After: 10 * time.Second})
		closed := next
		closed.Spec.Network.Status = sandpool.EgressEnabled
		w.put(closed)
		w.pass(5 * time.Second)
		w.wantCounts(0, 0, 2, 0)
		w.pass(time.Minute)
		w.wantCounts(2, 0, 2, 0)
	})
}

// An update that changes nothing has the image of a code pool looked up again, if it is in a
// registry: pods take what was pushed. A registry that is away then changes nothing.
func TestCodeImageIsRenewed(t *testing.T) {
	within(t, func(w *world) {
		digest, asked, plain := "sha256:1", 0, w.guest.Template
		w.guest.Renews = true
		w.guest.Template = func(ctx context.Context, p sandpool.Pool,
			s sandpool.Secrets) (sandbox.Template, error) {
			out, err := plain(ctx, p, s)
			if asked++; digest == "" {
				return out, sandpool.Errorf(sandpool.Unavailable, "", "", "the registry is away")
			}
			out.Root = sandbox.Image{Digest: digest, Known: "python:1 " + digest}
			return out, err
		}
		want := func(digest, problem string, times int) {
			w.Helper()
			w.settle()
			p := w.pool()
			if p.State != sandpool.Succeeded || p.ImageDigest != "python:1 "+digest ||
				(p.Problem == "") != (problem == "") || !strings.Contains(p.Problem, problem) ||
				asked != times {
				w.Errorf("the pool is %s of %q: %q; the image was looked up %d times, want %d",
					p.State, p.ImageDigest, p.Problem, asked, times)
			}
			w.wantCounts(2, 0, 0, 0)
		}
		w.put(spec(2, 5))
		want("sha256:1", "", 1)
		first := w.pool().Revision
		digest = "sha256:2"
		w.put(spec(2, 5))
		want("sha256:2", "", 2)
		if w.pool().Revision == first {
			w.Errorf("sandboxes of the old image are kept")
		}
		digest = ""
		w.put(spec(2, 5))
		want("sha256:2", "registry is away", 3)
	})
}

// A session whose sandbox cannot follow a change of its pool's network ends, and its caller is
// told.
func TestNetworkCannotFollow(t *testing.T) {
	within(t, func(w *world) {
		w.put(spec(1, 5))
		w.acquire("user-1", sandpool.ClaimReady).Release()
		w.fake.Order(sandboxtest.Network, 1, sandboxtest.Fault{
			Err: sandpool.Errorf(sandpool.Unsupported, "", "network", "Not here.")})
		open := spec(1, 5)
		open.Spec.Network.Status = sandpool.EgressEnabled
		w.put(open)
		w.pass(10 * time.Second)
		w.wantCounts(1, 0, 0, 0)
		_, err := w.Acquire(w.Context(), python, "user-1")
		w.wantEnded(err, "the network of its pool was changed")
	})
}

func TestUpdateDuringClaim(t *testing.T) {
	within(t, func(w *world) {
		w.put(spec(0, 6))
		w.fake.Order(sandboxtest.Start, 4, sandboxtest.Fault{After: 10 * time.Second})
		revisions := make(chan int64, 6)
		for _, identifier := range []sandpool.Identifier{"user-1", "user-2", "user-3", "user-4",
			"user-5", "user-6"} {
			go func() {
				l, err := w.Acquire(w.Context(), python, identifier)
				if err != nil {
					w.Errorf("Acquire(%s): %v", identifier, err)
					return
				}
				revisions <- l.Sandbox().Revision
			}()
		}
		w.pass(time.Second)
		next := spec(0, 6)
		next.Spec.Image = "python:next"
		w.put(next)
		w.pass(time.Minute)
		// Four had begun with revision 1; two waited for their turn and begin with revision 2.
		count := map[int64]int{}
		for range len(revisions) {
			count[<-revisions]++
		}
		if count[1] != 4 || count[2] != 2 {
			w.Errorf("sessions by revision: %v", count)
		}
	})
}

func TestPrepareFails(t *testing.T) {
	within(t, func(w *world) {
		w.fake.Order(sandboxtest.Prepare, -1, sandboxtest.Fault{Err: errors.New("image is broken")})
		w.put(spec(1, 5))
		if p := w.pool(); p.State != sandpool.Failed ||
			!strings.Contains(p.Problem, "image is broken") {
			w.Errorf("the pool is %s with problem %q", p.State, p.Problem)
		}
		_, err := w.Acquire(w.Context(), python, "user-1")
		w.wantClass(err, sandpool.Unavailable)
		w.pass(10 * time.Minute)
		if n := w.fake.Count(sandboxtest.Prepare); n < 10 || n > 20 {
			w.Errorf("%d attempts in 10 minutes", n)
		}
		w.fake.Forget(sandboxtest.Prepare)
		if p := w.put(spec(1, 5)); p.State != sandpool.InProgress {
			w.Errorf("another PUT leaves the pool %s", p.State)
		}
		w.wantCounts(1, 0, 0, 0)
	})
}

// A PUT of a failed pool cuts the attempt that runs short and begins another: the first one's end
// is no failure.
func TestPutDuringRetry(t *testing.T) {
	within(t, func(w *world) {
		w.fake.Order(sandboxtest.Prepare, 1, sandboxtest.Fault{Err: errors.New("image is broken")})
		w.fake.Order(sandboxtest.Prepare, 2, sandboxtest.Fault{After: time.Minute})
		w.put(spec(1, 5))
		w.pass(5 * time.Second)
		if p := w.pool(); p.State != sandpool.Failed || w.fake.Count(sandboxtest.Prepare) != 2 {
			w.Fatalf("the pool is %s after %d attempts, want a second one to run", p.State,
				w.fake.Count(sandboxtest.Prepare))
		}
		w.put(spec(1, 5))
		w.settle()
		if p := w.pool(); p.State != sandpool.InProgress {
			w.Errorf("during the third attempt the pool is %s: %s", p.State, p.Problem)
		}
		w.pass(2 * time.Minute)
		w.wantCounts(1, 0, 0, 0)
	})
}

func TestAcquireWaitsForPrepare(t *testing.T) {
	within(t, func(w *world) {
		w.fake.Order(sandboxtest.Prepare, 1, sandboxtest.Fault{After: 20 * time.Second})
		began := time.Now()
		w.put(spec(0, 5))
		w.acquire("user-1", sandpool.ClaimNew).Release()
		if took := time.Since(began); took != 20*time.Second {
			w.Errorf("Acquire took %s", took)
		}
		w.fake.Order(sandboxtest.Prepare, 1, sandboxtest.Fault{After: time.Hour})
		next := spec(0, 5)
		next.Spec.Image = "slow"
		w.put(next)
		_, err := w.Acquire(w.Context(), python, "user-2")
		w.wantClass(err, sandpool.Unavailable)
		w.acquire("user-1", sandpool.ClaimExisting).Release()
	})
}

// A restore would keep a core busy that the first answers of a burst need.
func TestRefillWaitsForFirstAnswers(t *testing.T) {
	within(t, func(w *world) {
		w.put(spec(2, 10))
		one, two := w.acquire("user-1", sandpool.ClaimReady), w.acquire("user-2",
			sandpool.ClaimReady)
		w.pass(50 * time.Millisecond)
		one.Release()
		w.pass(50 * time.Millisecond)
		w.wantCounts(0, 0, 2, 0)
		two.Release()
		w.pass(50 * time.Millisecond)
		w.wantCounts(2, 0, 2, 0)
		// What runs for long delays nothing for long.
		defer w.acquire("user-3", sandpool.ClaimReady).Release()
		defer w.acquire("user-4", sandpool.ClaimReady).Release()
		w.wantCounts(0, 0, 4, 0)
		w.settle()
		w.wantCounts(2, 0, 4, 0)
	})
}

// What a sandbox used is recorded before a user's code can run in it.
func TestRecordBeforeUse(t *testing.T) {
	within(t, func(w *world) {
		done := make(chan struct{})
		w.fake.Order(sandboxtest.Record, 1, sandboxtest.Fault{Until: done})
		w.put(spec(1, 5))
		w.pass(time.Second)
		w.wantCounts(0, 1, 0, 0)
		close(done)
		w.pass(time.Second)
		w.wantCounts(1, 0, 0, 0)
	})
}

// A sandbox of which nothing can be learned is as good as any.
func TestRecordFails(t *testing.T) {
	within(t, func(w *world) {
		w.fake.Order(sandboxtest.Record, -1, sandboxtest.Fault{Err: errors.New("no memory file")})
		w.put(spec(1, 5))
		w.wantCounts(1, 0, 0, 0)
		if p := w.pool(); p.State != sandpool.Succeeded || p.Problem != "" {
			w.Errorf("the pool is %s with problem %q", p.State, p.Problem)
		}
	})
}

// A pool keeps more ready in the windows of its schedule and when claims come often, says why, and
// falls back. It never keeps more than its maximum leaves to be claimed.
func TestReadyPlan(t *testing.T) {
	within(t, func(w *world) {
		p := spec(1, 12)
		began := time.Now().UTC().Truncate(time.Hour).Add(time.Hour)
		hour := began.Hour() * 60
		p.Spec.Ready = sandpool.ReadyPlan{ForecastMost: 6, Lead: time.Minute,
			Windows: []sandpool.ReadyWindow{{Days: []time.Weekday{began.Weekday()}, From: hour,
				To: hour + 30, Zone: "UTC", Ready: 3}}}
		w.put(p)
		wants := func(ready int, why string) {
			w.Helper()
			s := w.status()
			if s.Wanted != ready || s.Ready != min(ready, 12-s.Claimed) ||
				!strings.Contains(s.Because, why) || (s.Because == "") != (why == "") {
				w.Errorf("it has %d ready and wants %d: %q; want %d, %q", s.Ready, s.Wanted,
					s.Because, ready, why)
			}
		}
		w.pass(time.Second)
		wants(1, "")
		w.pass(time.Until(began) + time.Minute)
		wants(3, "until "+began.Add(30*time.Minute).Format("Mon 15:04"))
		for i := range 8 {
			l, err := w.Acquire(w.Context(), python, sandpool.Identifier(fmt.Sprint("user-", i)))
			if err != nil {
				w.Fatal(err)
			}
			l.Release()
		}
		w.pass(time.Minute)
		wants(6, "By its forecast the pool wants 6 ready, at most 6")
		w.pass(12 * time.Minute)
		wants(3, "By its schedule")
		w.pass(20 * time.Minute)
		wants(1, "")
	})
}
