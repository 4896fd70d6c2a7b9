package pool_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/event"
	"github.com/sandpool/sandpool/internal/pool"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/sandboxtest"
	"github.com/sandpool/sandpool/internal/sqlite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// python is the pool of most tests.
var python = sandpool.PoolID{Subscription: "sub", ResourceGroup: "group", Name: "python"}

func spec(ready, most int) sandpool.Pool {
	return sandpool.Pool{ID: python, Spec: sandpool.Spec{Kind: sandpool.PythonLTS},
		MaxSessions: most, ReadySessions: ready,
		Cooldown: 5 * time.Minute}
}

// world is a manager with what is around it. It lives in a synctest bubble.
type world struct {
	*testing.T
	fake    *sandboxtest.Fake
	store   *storeFaults
	options pool.Options
	guest   pool.Guest // of every pool; a change holds from the next Put or restart on
	*pool.Manager
	stop func() // ends Run, as the end of the process does

	told   sync.Mutex // guards events
	events []event.Event
}

// within runs do in a bubble with a running manager.
func within(t *testing.T, do func(*world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, fake: sandboxtest.New(http.HandlerFunc(hello)), options: options(),
			guest: guest()}
		w.options.Guest = func(sandpool.Pool) (pool.Guest, error) { return w.guest, nil }
		db, err := sqlite.Open(t.Context(), slog.New(slog.DiscardHandler),
			filepath.Join(t.TempDir(), "state.db"))
		if err != nil {
			t.Fatal(err)
		}
		w.store = &storeFaults{Store: db}
		w.run()
		do(w)
		w.stop()
		w.fake.Close()
		if err := db.Close(); err != nil {
			t.Errorf("close store: %v", err)
		}
	})
}

func hello(w http.ResponseWriter, r *http.Request) {
	id, _ := sandboxtest.SandboxOf(r.Context())
	fmt.Fprint(w, id)
}

func options() pool.Options {
	return pool.Options{
		Guest: func(sandpool.Pool) (pool.Guest, error) { return guest(), nil },

		MaxStarts: 4,
		Author:    func(context.Context) sandpool.Author { return sandpool.Author{Name: "ann"} },
	}
}

func guest() pool.Guest {
	return pool.Guest{
		Template: func(_ context.Context, p sandpool.Pool, _ sandpool.Secrets) (sandbox.Template,
			error) {
			return sandbox.Template{Args: []string{"/agent", p.Spec.Image},
				Ready: sandpool.Probe{HTTP: sandpool.HTTPProbe{Port: 8080}}, Start: sandbox.Restore,
				Limits: sandpool.Resources{CPU: 1, Memory: 1 << 30, PIDs: 64, Disk: 1 << 30}}, nil
		},
		Init: func(ctx context.Context, s sandpool.Sandbox, dial pool.Dialer) error {
			conn, err := dial(ctx, 8080)
			if err != nil {
				return err
			}
			return conn.Close()
		},
	}
}

// run starts a manager on the same store and engine: the first, or one after a restart.
func (w *world) run() {
	w.Helper()
	m, err := pool.New(w, w.store, w.fake, w.options)
	if err != nil {
		w.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	w.Manager = m
	w.stop = func() {
		cancel()
		if err := <-done; err != nil {
			w.Errorf("Run: %v", err)
		}
		w.stop = func() {}
	}
}

func (w *world) restart() {
	w.Helper()
	w.stop()
	w.fake = w.fake.Reopen()
	w.run()
}

// put creates or changes the pool and waits until nothing more happens by itself.
func (w *world) put(p sandpool.Pool) sandpool.Pool {
	w.Helper()
	got, err := w.Put(w.Context(), p, nil)
	if err != nil {
		w.Fatalf("Put: %v", err)
	}
	w.settle()
	return got
}

// settle waits until the manager has done what is due, refills that wait for calm included.
func (w *world) settle() {
	synctest.Wait()
	<-time.After(300 * time.Millisecond)
	synctest.Wait()
}

func (w *world) pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func (w *world) acquire(identifier sandpool.Identifier, want sandpool.ClaimOutcome) *pool.Lease {
	w.Helper()
	l, err := w.Acquire(w.Context(), python, identifier)
	if err != nil {
		w.Fatalf("Acquire(%s): %v", identifier, err)
	}
	if l.Claim().Outcome != want {
		w.Errorf("Acquire(%s) = %s, want %s", identifier, l.Claim().Outcome, want)
	}
	return l
}

func (w *world) status() pool.Status {
	w.Helper()
	s, err := w.Status(w.Context(), python)
	if err != nil {
		w.Fatalf("Status: %v", err)
	}
	return s
}

// wantCounts checks ready, starting, claimed and stopping, and that the engine runs no others.
func (w *world) wantCounts(ready, starting, claimed, stopping int) {
	w.Helper()
	s := w.status()
	if s.Ready != ready || s.Starting != starting || s.Claimed != claimed ||
		s.Stopping != stopping {
		w.Errorf("pool has %d ready, %d starting, %d claimed, %d stopping; want %d, %d, %d, %d",
			s.Ready, s.Starting, s.Claimed, s.Stopping, ready, starting, claimed, stopping)
	}
	if starting+stopping == 0 {
		if n := len(w.fake.Running()); n != ready+claimed {
			w.Errorf("the engine runs %d sandboxes, want %d", n, ready+claimed)
		}
	}
}

func (w *world) wantClass(err error, want sandpool.Class) {
	w.Helper()
	if err == nil || sandpool.ClassOf(err) != want {
		w.Errorf("error is %v (class %s), want class %s", err, sandpool.ClassOf(err), want)
	}
}

// Observe implements event.Observer.
func (w *world) Observe(e event.Event) {
	w.Logf("%s %s %s %s %v", e.Name, e.Sandbox, e.Outcome, e.Message, e.Err)
	w.told.Lock()
	defer w.told.Unlock()
	w.events = append(w.events, e)
}

// take returns the events since the last call, without those of the name PoolPreparing, whose
// number is the engine's affair.
func (w *world) take() (names []event.Name, events []event.Event) {
	w.told.Lock()
	defer w.told.Unlock()
	for _, e := range w.events {
		if e.Name != event.PoolPreparing {
			names, events = append(names, e.Name), append(events, e)
		}
	}
	w.events = nil
	return names, events
}
