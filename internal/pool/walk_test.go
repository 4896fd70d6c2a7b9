package pool_test

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/event"
	"github.com/sandpool/sandpool/internal/pool"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/sandboxtest"
	"github.com/sandpool/sandpool/internal/sqlite"
)

// move is one step of a walk.
type move struct {
	what   string
	who    int
	settle bool // let the manager finish before the next move
}

func (m move) String() string {
	if m.settle {
		return fmt.Sprintf("%s %d.", m.what, m.who)
	}
	return fmt.Sprintf("%s %d,", m.what, m.who)
}

// TestWalk takes random walks through everything that can happen to a pool, kill -9 of the
// server at any moment included, and asks after each: does every identifier have the
// sandbox it had, did each sandbox serve one identifier only, and is nothing left over?
func TestWalk(t *testing.T) {
	what := []string{"acquire", "acquire", "acquire", "release", "stop", "crash", "kill", "restart",
		"pass",
		"slow start", "bad start", "bad stop", "revise", "start in background"}
	rapid.Check(t, func(rt *rapid.T) {
		var moves []move
		for range rapid.IntRange(1, 40).Draw(rt, "length") {
			moves = append(moves, move{rapid.SampledFrom(what).Draw(rt, "what"),
				rapid.IntRange(0, 4).Draw(rt, "who"), rapid.Bool().Draw(rt, "settle")})
		}
		var wrong []string
		synctest.Test(t, func(t *testing.T) { wrong = newWalk(t).run(moves) })
		if len(wrong) > 0 {
			rt.Fatalf("%s\nafter %v", strings.Join(wrong, "\n"), moves)
		}
	})
}

// walk is one walk's world and what must be true in it.
type walk struct {
	t       *testing.T
	store   *sqlite.Store
	fake    *sandboxtest.Fake
	manager *pool.Manager
	life    *life
	end     func()

	spec   sandpool.Pool
	leases []*pool.Lease
	// the last one each identifier got, and still must have
	held  map[sandpool.Identifier]*pool.Lease
	owner map[sandpool.SandboxID]sandpool.Identifier
	wrong []string
}

func newWalk(t *testing.T) *walk {
	store, err := sqlite.Open(t.Context(), slog.New(slog.DiscardHandler), filepath.Join(t.TempDir(),
		"state.db"))
	if err != nil {
		t.Fatal(err)
	}
	w := &walk{t: t, store: store, fake: sandboxtest.New(nil), spec: spec(2, 4),
		held:  map[sandpool.Identifier]*pool.Lease{},
		owner: map[sandpool.SandboxID]sandpool.Identifier{}}
	w.spec.Cooldown = 24 * time.Hour // the walk is shorter
	w.begin()
	if _, err := w.manager.Put(t.Context(), w.spec, nil); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *walk) fault(format string, args ...any) {
	w.wrong = append(w.wrong, fmt.Sprintf(format, args...))
}

func (w *walk) begin() {
	w.life = &life{}
	w.fake = w.fake.Reopen()
	m, err := pool.New(event.Discard{}, mortalStore{w.store, w.life}, mortalEngine{w.fake, w.life},
		options())
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = m.Run(ctx) // what went wrong shows in what it did
	}()
	w.manager = m
	w.end = func() {
		cancel()
		<-done
	}
}

func (w *walk) run(moves []move) []string {
	for _, m := range moves {
		w.move(m)
		if m.settle {
			synctest.Wait()
		}
	}
	w.fake.Forget(sandboxtest.Start)
	w.fake.Forget(sandboxtest.Stop)
	<-time.After(5 * time.Minute)
	synctest.Wait()
	w.nothingLeft()
	w.end()
	w.fake.Close()
	if err := w.store.Close(); err != nil {
		w.fault("close store: %v", err)
	}
	return w.wrong
}

func (w *walk) move(m move) {
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Minute)
	defer cancel()
	identifier := sandpool.Identifier(fmt.Sprintf("user-%d", m.who))
	switch m.what {
	case "acquire":
		w.acquire(ctx, identifier)
	case "start in background":
		manager := w.manager // a restart may come first
		go func() {
			ctx, cancel := context.WithTimeout(w.t.Context(), 5*time.Second)
			defer cancel()
			if l, err := manager.Acquire(ctx, python, identifier); err == nil {
				l.Release()
			}
		}()
	case "release":
		for _, l := range w.leases {
			l.Release()
		}
		w.leases = nil
	case "stop":
		err := w.manager.StopSession(ctx, python, identifier)
		if err == nil {
			delete(w.held, identifier)
		} else if sandpool.ClassOf(err) != sandpool.NotFound {
			w.fault("stop of %s: %v", identifier, err)
		} else if l := w.held[identifier]; l != nil && l.Context().Err() == nil {
			w.fault("%s has no session to stop, but had one", identifier)
		}
	case "crash":
		if ids := w.fake.Running(); len(ids) > 0 {
			w.crash(ids[m.who%len(ids)])
		}
	case "kill", "restart":
		w.life.over.Store(m.what == "kill")
		w.end()
		w.leases = nil
		w.begin()
	case "pass":
		<-time.After(time.Duration(m.who*m.who) * 700 * time.Millisecond)
	case "slow start":
		w.fake.Order(sandboxtest.Start, m.who, sandboxtest.Fault{After: 3 * time.Second})
	case "bad start":
		w.fake.Order(sandboxtest.Start, m.who, sandboxtest.Fault{Err: errKilled,
			Leave: m.who%2 == 0})
	case "bad stop":
		w.fake.Order(sandboxtest.Stop, m.who, sandboxtest.Fault{Err: errKilled})
	case "revise":
		w.spec.Spec.Image = fmt.Sprintf("image-%d", m.who)
		if _, err := w.manager.Put(ctx, w.spec, nil); err != nil {
			w.fault("revise: %v", err)
		}
	}
}

// crash ends a sandbox; whoever held it has nothing to expect.
func (w *walk) crash(id sandbox.ID) {
	for identifier, l := range w.held {
		if l.Sandbox().ID == id {
			delete(w.held, identifier)
		}
	}
	w.fake.End(id, sandbox.Exit{Reason: sandbox.OutOfMemory})
	synctest.Wait()
}

func (w *walk) acquire(ctx context.Context, identifier sandpool.Identifier) {
	l, err := w.manager.Acquire(ctx, python, identifier)
	before := w.held[identifier]
	if err != nil {
		if class := sandpool.ClassOf(err); class != sandpool.Full &&
			class != sandpool.Unavailable && class != sandpool.Ended || before != nil {
			w.fault("acquire of %s, which held %v: %v", identifier, before, err)
		}
		return
	}
	id := l.Sandbox().ID
	if before != nil && before.Sandbox().ID != id {
		w.fault("%s had %s and got %s", identifier, before.Sandbox().ID, id)
	}
	if other, ok := w.owner[id]; ok && other != identifier {
		w.fault("%s served %s and then %s", id, other, identifier)
	}
	w.owner[id], w.held[identifier] = identifier, l
	w.leases = append(w.leases, l)
	if conn, err := l.Dial(ctx, 8080); err != nil {
		w.fault("%s cannot reach its sandbox: %v", identifier, err)
	} else {
		_ = conn.Close()
	}
}

// nothingLeft compares the three places that know sandboxes.
func (w *walk) nothingLeft() {
	ctx := w.t.Context()
	rows, err := w.store.Sandboxes(ctx)
	if err != nil {
		w.fault("rows: %v", err)
	}
	var stored, listed []string
	sessions := 0
	for _, row := range rows {
		stored = append(stored, string(row.ID))
		if row.State == sandpool.Claimed {
			sessions++
		} else if row.State != sandpool.Ready {
			w.fault("a row is left: %+v", row)
		}
	}
	found, err := w.fake.List(ctx)
	if err != nil {
		w.fault("list: %v", err)
	}
	for _, f := range found {
		listed = append(listed, string(f.ID))
		if !f.Running {
			w.fault("remains of %s are left", f.ID)
		}
	}
	sort.Strings(stored)
	sort.Strings(listed)
	if fmt.Sprint(stored) != fmt.Sprint(listed) {
		w.fault("the store has %v, the engine %v", stored, listed)
	}
	s, err := w.manager.Status(ctx, python)
	if want := min(w.spec.ReadySessions, w.spec.MaxSessions-sessions); err != nil ||
		s.Ready != want || s.Claimed != sessions || s.Starting+s.Stopping != 0 {
		w.fault("status %+v, %v; want %d ready and %d claimed", s, err, want, sessions)
	}
	for identifier, l := range w.held {
		if again, err := w.manager.Acquire(ctx, python, identifier); err != nil ||
			again.Sandbox().ID != l.Sandbox().ID {
			w.fault("at the end %s got %v, %v; it had %s", identifier, again, err, l.Sandbox().ID)
		} else {
			again.Release()
		}
	}
}
