package pool_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/event"
	"github.com/sandpool/sandpool/internal/pool"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/sandboxtest"
	"github.com/sandpool/sandpool/internal/sqlite"
	"github.com/sandpool/sandpool/internal/store/storetest"
)

// inRealTime returns a running manager in real time, with a pool.
func inRealTime(t testing.TB, p sandpool.Pool) (*pool.Manager, *sandboxtest.Fake) {
	log := slog.New(slog.DiscardHandler)
	db, err := sqlite.Open(t.Context(), log, filepath.Join(t.TempDir(), "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	fake := sandboxtest.New(nil)
	m, err := pool.New(event.Discard{}, db, fake, options())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		fake.Close()
		if err := db.Close(); err != nil {
			t.Errorf("close store: %v", err)
		}
	})
	if _, err := m.Put(t.Context(), p, nil); err != nil {
		t.Fatal(err)
	}
	return m, fake
}

// TestHistory lets clients claim, stop and crash sessions of three identifiers, and
// asks whether what they saw can be explained one step at a time.
func TestHistory(t *testing.T) {
	const clients, steps = 8, 60
	m, fake := inRealTime(t, spec(3, 10))
	fake.Order(sandboxtest.Start, -1, sandboxtest.Fault{After: time.Millisecond})
	var history storetest.History
	var wait sync.WaitGroup
	for client := range clients {
		dice := rand.New(rand.NewPCG(1, uint64(client)))
		wait.Go(func() {
			for range steps {
				identifier := sandpool.Identifier(fmt.Sprintf("user-%d", dice.IntN(3)))
				switch dice.IntN(8) {
				case 0:
					history.StopSession(client, identifier, func() bool {
						err := m.StopSession(t.Context(), python, identifier)
						if err != nil && sandpool.ClassOf(err) != sandpool.NotFound {
							t.Errorf("StopSession: %v", err)
						}
						return err == nil
					})
				case 1:
					crashOne(t, m, fake, &history, client, identifier)
				default:
					history.Acquire(client, identifier, func() sandpool.SandboxID {
						return acquireOnce(t, m, identifier)
					})
				}
			}
		})
	}
	wait.Wait()
	history.Check(t)
}

// acquireOnce returns the sandbox that the identifier got; "" if it ended at that moment.
func acquireOnce(t *testing.T, m *pool.Manager, identifier sandpool.Identifier) sandpool.SandboxID {
	l, err := m.Acquire(t.Context(), python, identifier)
	if err != nil {
		if class := sandpool.ClassOf(err); class != sandpool.Ended &&
			class != sandpool.Unavailable {
			t.Errorf("Acquire: %v", err)
		}
		return ""
	}
	defer l.Release()
	return l.Sandbox().ID
}

// crashOne ends the identifier's sandbox, if it has one, and waits until the session has ended with
// it.
func crashOne(t *testing.T, m *pool.Manager, fake *sandboxtest.Fake, history *storetest.History,
	client int, identifier sandpool.Identifier) {
	var l *pool.Lease
	history.Acquire(client, identifier, func() sandpool.SandboxID {
		var err error
		if l, err = m.Acquire(t.Context(), python, identifier); err != nil {
			l = nil
			return ""
		}
		return l.Sandbox().ID
	})
	if l == nil {
		return
	}
	defer l.Release()
	history.Stop(client, l.Sandbox().ID, func() {
		fake.End(l.Sandbox().ID, sandbox.Exit{Reason: sandbox.OutOfMemory})
		<-l.Context().Done()
	})
}

// TestFiftyCallers: fifty at once, one identifier, nothing ready: one sandbox.
func TestFiftyCallers(t *testing.T) {
	m, fake := inRealTime(t, spec(0, 100))
	fake.Order(sandboxtest.Start, -1, sandboxtest.Fault{After: 5 * time.Millisecond})
	var history storetest.History
	for round := range 5 {
		identifier := sandpool.Identifier(fmt.Sprintf("user-%d", round))
		var wait sync.WaitGroup
		for client := range 50 {
			wait.Go(func() {
				history.Acquire(client, identifier, func() sandpool.SandboxID {
					return acquireOnce(t, m, identifier)
				})
			})
		}
		wait.Wait()
	}
	history.Check(t)
	if n := fake.Count(sandboxtest.Start); n != 5 {
		t.Errorf("%d sandboxes were started for 5 identifiers", n)
	}
}
