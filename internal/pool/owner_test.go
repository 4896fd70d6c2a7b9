package pool_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/pool"
	"github.com/sandpool/sandpool/internal/sandbox/sandboxtest"
	"github.com/sandpool/sandpool/internal/sqlite"
	"github.com/sandpool/sandpool/internal/store"
)

// server is a manager among several on one store and one engine. Its life can be cut off from the
// store and come back, as that of a machine that lost its network.
type server struct {
	*pool.Manager
	*life
	db   *sqlite.Store
	stop func()
}

// serve starts a manager with a connection of its own to the file.
func (w *world) serve(path, owner string) *server {
	w.Helper()
	return w.serveOn(w.fake, path, owner)
}

// serveOn is serve on another machine.
func (w *world) serveOn(machine *sandboxtest.Fake, path, owner string) *server {
	w.Helper()
	db, err := sqlite.Open(w.Context(), slog.New(slog.DiscardHandler), path)
	if err != nil {
		w.Fatal(err)
	}
	o := w.options
	o.Owner, o.Instance, o.Claims = owner, "instance of "+owner, db
	s := &server{life: &life{}, db: db}
	if s.Manager, err = pool.New(w, mortalStore{db, s.life}, machine.Reopen(), o); err != nil {
		w.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	s.stop = func() {
		cancel()
		if err := errors.Join(<-done, db.Close()); err != nil {
			w.Errorf("end of %s: %v", owner, err)
		}
	}
	synctest.Wait()
	return s
}

// among runs do with a store's file, an engine, and no manager yet.
func among(t *testing.T, do func(w *world, path string)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, fake: sandboxtest.New(nil), options: options()}
		do(w, filepath.Join(t.TempDir(), "state.db"))
		w.fake.Close()
	})
}

func (w *world) wantMoved(err error) {
	w.Helper()
	if sandpool.ClassOf(err) != sandpool.Unavailable || !errors.Is(err, store.ErrNotOwner) {
		w.Errorf("error is %v, want that another server owns the pool", err)
	}
}

// A pool whose server is cut off gets another one, with its sessions; the first learns of it and
// leaves everything as it is.
func TestOwnerIsReplaced(t *testing.T) {
	among(t, func(w *world, path string) {
		one, two := w.serve(path, "one"), w.serve(path, "two")
		if _, err := one.Put(w.Context(), spec(2, 5), nil); err != nil {
			w.Fatal(err)
		}
		w.pass(10 * time.Second)
		l, err := one.Acquire(w.Context(), python, "user-1")
		w.must(err)
		id := l.Sandbox().ID
		l.Release()
		_, err = two.Acquire(w.Context(), python, "user-1")
		w.wantMoved(err)
		_, err = two.Put(w.Context(), spec(1, 5), nil)
		w.wantMoved(err)
		for _, s := range []*server{one, two} {
			pools, err := s.Pools(w.Context())
			if err != nil || len(pools) != 1 || pools[0].ID != python ||
				pools[0].State != sandpool.Succeeded {
				w.Errorf("Pools = %+v, %v; want the pool of one", pools, err)
			}
		}
		w.pass(time.Minute) // renewals keep it where it is
		_, err = two.Acquire(w.Context(), python, "user-1")
		w.wantMoved(err)

		one.over.Store(true)
		w.pass(30 * time.Second)
		again, err := two.Acquire(w.Context(), python, "user-1")
		w.must(err)
		if again.Sandbox().ID != id || again.Claim().Outcome != sandpool.ClaimExisting {
			w.Errorf("the session has %s, %s; want its sandbox %s", again.Sandbox().ID,
				again.Claim().Outcome, id)
		}
		again.Release()
		running := w.fake.Running()

		one.over.Store(false) // it has noticed nothing, and is back
		_, err = one.Acquire(w.Context(), python, "user-2")
		w.wantMoved(err)
		_, err = one.Acquire(w.Context(), python, "user-1")
		w.wantMoved(err)
		w.wantMoved(one.Delete(w.Context(), python))
		w.pass(time.Minute)
		if got := w.fake.Running(); !slices.Equal(got, running) {
			w.Errorf("%v run, want %v", got, running)
		}
		two.stop() // gives the pool up
		w.pass(10 * time.Second)
		third, err := one.Acquire(w.Context(), python, "user-1")
		w.must(err)
		if third.Sandbox().ID != id {
			w.Errorf("the session has %s, want its sandbox %s", third.Sandbox().ID, id)
		}
		third.Release()
		one.stop()
	})
}

// What a pool is to have ready by its forecast, it has with the next owner, too: at once where it
// was passed on, and where its owner died, but for the last minute.
func TestForecastOutlivesOwner(t *testing.T) {
	among(t, func(w *world, path string) {
		one, two := w.serve(path, "one"), w.serve(path, "two")
		p := spec(1, 20)
		p.Spec.Ready = sandpool.ReadyPlan{ForecastMost: 6, Lead: time.Minute}
		if _, err := one.Put(w.Context(), p, nil); err != nil {
			w.Fatal(err)
		}
		w.pass(10 * time.Second)
		claim := func(s *server, names string) {
			for i := range 4 {
				l, err := s.Acquire(w.Context(), python, sandpool.Identifier(fmt.Sprint(names, i)))
				w.must(err)
				l.Release()
			}
		}
		wants := func(s *server, n int) {
			w.Helper()
			got, err := s.Status(w.Context(), python)
			if err != nil || got.Wanted != n || n > 1 &&
				!strings.Contains(got.Because, "up to 4 claims a minute in the last") {
				w.Errorf("it wants %d, %q, %v; want %d", got.Wanted, got.Because, err, n)
			}
		}
		claim(one, "first-")
		wants(one, 6)
		one.stop() // gives the pool up
		w.pass(10 * time.Second)
		wants(two, 6)
		w.pass(12 * time.Minute)
		wants(two, 1)

		three := w.serve(path, "three")
		claim(two, "second-")
		w.pass(2 * time.Minute)
		two.over.Store(true)
		w.pass(time.Minute)
		wants(three, 6)
		w.must(three.Delete(w.Context(), python))
		w.pass(time.Minute)
		if d, err := three.db.Documents(w.Context(), "poolClaims", ""); err != nil || len(d) > 0 {
			w.Errorf("of a pool that is gone %v is left, %v", d, err)
		}
		two.stop()
		three.stop()
	})
}

// A server whose pool was taken by another machine's, and that is stopped before a sweep of it,
// leaves nothing of the pool that runs.
func TestStopAllStopsWhatMoved(t *testing.T) {
	among(t, func(w *world, path string) {
		w.options.SweepInterval = time.Hour
		elsewhere := sandboxtest.New(nil)
		defer elsewhere.Close()
		one, two := w.serve(path, "one"), w.serveOn(elsewhere, path, "two")
		if _, err := one.Put(w.Context(), spec(2, 5), nil); err != nil {
			w.Fatal(err)
		}
		w.pass(10 * time.Second)
		one.over.Store(true)
		w.pass(30 * time.Second)
		one.over.Store(false)
		w.pass(10 * time.Second)
		left, moved := len(w.fake.Running()), elsewhere.Running()
		if left != 2 || len(moved) != 2 {
			w.Fatalf("%d run here and %v elsewhere, want two each", left, moved)
		}
		w.must(one.StopAll(w.Context()))
		if got := w.fake.Running(); len(got) > 0 {
			w.Errorf("%v run on", got)
		}
		if got := elsewhere.Running(); !slices.Equal(got, moved) {
			w.Errorf("%v run elsewhere, want %v", got, moved)
		}
		one.stop()
		two.stop()
	})
}

// A server that is killed while its sandbox starts leaves one that the next owner stops.
func TestOwnerIsReplacedInAStart(t *testing.T) {
	among(t, func(w *world, path string) {
		one, two := w.serve(path, "one"), w.serve(path, "two")
		w.fake.Order(sandboxtest.Start, 1, sandboxtest.Fault{After: 40 * time.Second})
		p := spec(1, 5)
		if _, err := one.Put(w.Context(), p, nil); err != nil {
			w.Fatal(err)
		}
		w.pass(time.Second)
		one.over.Store(true)
		w.pass(30 * time.Second) // two is the owner now
		one.over.Store(false)
		w.pass(time.Minute)
		rows, err := two.Sandboxes(w.Context(), python)
		w.must(err)
		if running := w.fake.Running(); len(rows) != 1 ||
			!slices.Equal(running, []sandpool.SandboxID{rows[0].ID}) {
			w.Errorf("%v run, and the owner has %+v", running, rows)
		}
		one.stop()
		two.stop()
	})
}

// A server that was cut off after it had recorded a start, and does not know that, leaves the
// sandbox alone: the next owner may have given it to somebody.
func TestOwnerIsReplacedAfterAStart(t *testing.T) {
	among(t, func(w *world, path string) {
		one, two := w.serve(path, "one"), w.serve(path, "two")
		one.unheard = make(chan struct{})
		if _, err := one.Put(w.Context(), spec(1, 5), nil); err != nil {
			w.Fatal(err)
		}
		w.pass(time.Second)
		one.over.Store(true)
		w.pass(20 * time.Second)
		l, err := two.Acquire(w.Context(), python, "user-1")
		w.must(err)
		if l.Claim().Outcome != sandpool.ClaimReady {
			w.Errorf("the new owner's claim is %s, want the sandbox that was started before",
				l.Claim().Outcome)
		}
		one.over.Store(false)
		close(one.unheard)
		w.pass(time.Minute)
		if err := context.Cause(l.Context()); err != nil {
			w.Errorf("the session of the new owner ended: %v", err)
		}
		l.Release()
		one.stop()
		two.stop()
	})
}

// Servers that are cut off at random and come back fight for a pool: no identifier ever has two
// sandboxes, no sandbox two identifiers, and in the end one server has all that runs.
func TestOwnersFight(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			among(t, func(w *world, path string) { fight(w, path, rand.New(rand.NewPCG(seed, 7))) })
		})
	}
}

func fight(w *world, path string, random *rand.Rand) {
	servers := []*server{w.serve(path, "one"), w.serve(path, "two"), w.serve(path, "three")}
	if _, err := servers[0].Put(w.Context(), spec(3, 8), nil); err != nil {
		w.Fatal(err)
	}
	var served sync.Map // identifier by sandbox
	var wait sync.WaitGroup
	for range 4 {
		mine := rand.New(rand.NewPCG(random.Uint64(), 1))
		wait.Go(func() {
			for range 60 {
				<-time.After(time.Duration(mine.IntN(4000)) * time.Millisecond)
				s, identifier := servers[mine.IntN(len(servers))], sandpool.Identifier(
					fmt.Sprint("user-", mine.IntN(4)))
				if mine.IntN(5) == 0 {
					// it may be cut off, or there is none
					_ = s.StopSession(w.Context(), python, identifier)
					continue
				}
				l, err := s.Acquire(w.Context(), python, identifier)
				if err != nil {
					continue
				}
				if other, had := served.LoadOrStore(l.Sandbox().ID, identifier); had &&
					other != identifier {
					w.Errorf("sandbox %s served %q and %q", l.Sandbox().ID, other, identifier)
				}
				l.Release()
			}
		})
	}
	over := make(chan struct{})
	go func() { wait.Wait(); close(over) }()
	for cut := true; cut; {
		s := servers[random.IntN(len(servers))]
		s.over.Store(true)
		<-time.After(time.Duration(random.IntN(25000)) * time.Millisecond)
		s.over.Store(false)
		select {
		case <-over:
			cut = false
		default:
		}
	}
	w.pass(time.Minute)
	owners := 0
	var rows []sandpool.Sandbox
	for _, s := range servers {
		if list, err := s.Sandboxes(w.Context(), python); err == nil {
			owners++
			rows = list
		}
	}
	running := w.fake.Running()
	var known []sandpool.SandboxID
	for _, row := range rows {
		known = append(known, row.ID)
	}
	slices.Sort(known)
	if owners != 1 || !slices.Equal(known, running) {
		w.Errorf("%d servers own the pool; %v run, and the owner has %v", owners, running, known)
	}
	count := 0
	served.Range(func(any, any) bool { count++; return true })
	if count < 3 {
		w.Errorf("only %d sandboxes served anybody", count)
	}
	owner := map[sandpool.Identifier]sandpool.SandboxID{}
	for _, row := range rows {
		if other, twice := owner[row.Identifier]; row.Identifier != "" && twice {
			w.Errorf("%q has %s and %s", row.Identifier, other, row.ID)
		}
		owner[row.Identifier] = row.ID
	}
	for _, s := range servers {
		s.stop()
	}
}
