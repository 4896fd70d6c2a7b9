package postgres_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/postgres"
	"github.com/sandpool/sandpool/internal/store/storetest"
)

// TestBrokenConnections: connections end in the middle of claims, starts and stops. No caller
// learns of it, and nothing is done twice.
func TestBrokenConnections(t *testing.T) {
	s := running(t)
	underFaults(t, 60, func() error {
		return s.Exec(t.Context(),
			"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'sandpool'")
	})
}

// TestDatabaseCrashes: the database itself is killed and started again.
func TestDatabaseCrashes(t *testing.T) {
	s := running(t)
	underFaults(t, 3, func() error {
		if err := s.Kill(); err != nil {
			return err
		}
		return s.Restart(t.Context())
	})
}

// underFaults has two servers' worth of callers claim, start and stop while faults come, and checks
// that what they saw can be explained one step at a time.
func underFaults(t *testing.T, faults int, fault func() error) {
	address := database(t)
	stores := []*postgres.Store{open(t, address), open(t, address)}
	for _, s := range stores {
		s.SetPatience(5 * time.Minute) // a busy machine takes its time for a restart
	}
	pool := sandpool.Pool{ID: sandpool.PoolID{Subscription: "s", ResourceGroup: "g", Name: "p"},
		State: sandpool.Succeeded}
	if _, err := stores[0].CreatePool(t.Context(), pool, nil, "me"); err != nil {
		t.Fatal(err)
	}
	var history storetest.History
	var wait sync.WaitGroup
	over := make(chan struct{})
	for client := range 6 {
		wait.Go(func() {
			c := caller{t: t, store: stores[client%2], pool: pool.ID, client: client,
				history: &history}
			for step := 0; ; step++ {
				select {
				case <-over:
					return
				default:
					c.step(step)
				}
			}
		})
	}
	pause := time.NewTicker(20 * time.Millisecond)
	defer pause.Stop()
	for range faults {
		<-pause.C
		if err := fault(); err != nil {
			t.Error(err)
			break
		}
	}
	close(over)
	wait.Wait()
	history.Check(t)
}

// caller claims, starts and stops.
type caller struct {
	t       *testing.T
	store   *postgres.Store
	pool    sandpool.PoolID
	client  int
	history *storetest.History
	mine    sandpool.SandboxID
}

func (c *caller) step(step int) {
	ctx := c.t.Context()
	id := sandpool.SandboxID(fmt.Sprintf("box-%d-%d", c.client, step))
	switch step % 4 {
	case 0:
		c.check(c.store.Insert(ctx, sandpool.Sandbox{ID: id, Pool: c.pool, State: sandpool.Starting,
			CreatedAt: time.Now()}, 1))
		_, err := c.store.Started(ctx, id, []byte(id), time.Now(), 1)
		c.check(err)
	case 1, 2:
		identifier := sandpool.Identifier(fmt.Sprintf("user-%d", (c.client+step)%5))
		c.mine = c.history.Claim(c.client, identifier,
			func() (sandpool.SandboxID, sandpool.ClaimOutcome) {
				b, outcome, err := c.store.Claim(ctx,
					sandpool.ClaimRequest{Pool: c.pool, Identifier: identifier, Max: 3,
						Now: time.Now(), Epoch: 1, NewID: id, NewSecret: "s"})
				c.check(err)
				return b.ID, outcome
			})
	case 3:
		if c.mine != "" {
			c.history.Stop(c.client, c.mine, func() {
				c.check(c.store.Stopping(ctx, c.mine, "over", 1))
			})
			c.check(c.store.Remove(ctx, c.mine, 1))
		}
	}
}

// check accepts that the sandbox that is to be stopped was removed by another caller.
func (c *caller) check(err error) {
	if err != nil && sandpool.ClassOf(err) != sandpool.NotFound && !strings.Contains(err.Error(),
		"context canceled") {
		c.t.Errorf("client %d: %v", c.client, err)
	}
}
