package pool_test

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/event"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sqlite"
	"github.com/sandpool/sandpool/internal/store"
	"github.com/sandpool/sandpool/internal/usage"
)

// metered is a world whose sessions are recorded, in a bubble.
type metered struct {
	*world
	rows  *usageFaults
	meter *usage.Meter
	end   func()
}

// usageFaults is a store whose writes of usage can be made to fail.
type usageFaults struct {
	*sqlite.Store
	down atomic.Bool
}

func (s *usageFaults) PutUsage(ctx context.Context, records []sandpool.Usage,
	m store.Mark) error {
	if s.down.Load() {
		return errors.New("the store is down")
	}
	return s.Store.PutUsage(ctx, records, m)
}

func withUsage(t *testing.T, do func(*metered)) {
	within(t, func(w *world) {
		m := &metered{world: w, rows: &usageFaults{Store: w.store.Store.(*sqlite.Store)}}
		w.stop()
		host := &machine{}
		host.fake.Store(w.fake)
		host.memory.Store(64 << 30)
		host.disk.Store(64 << 30)
		w.options.Machine = host
		w.options.By = func(ctx context.Context) string {
			who, _ := ctx.Value(asker{}).(string)
			return who
		}
		m.life()
		do(m)
		w.stop()
		m.end()
	})
}

type asker struct{}

// life begins a life of the server.
func (m *metered) life() {
	m.Helper()
	meter, err := usage.New(event.Discard{}, m.rows, usage.DefaultSettings(), nil)
	if err != nil {
		m.Fatal(err)
	}
	ctx, cancel := context.WithCancel(m.Context())
	done := make(chan error, 1)
	go func() { done <- meter.Run(ctx) }()
	m.meter, m.options.Meter = meter, meter
	m.end = func() {
		cancel()
		if err := <-done; err != nil {
			m.Error(err)
		}
	}
	m.fake = m.fake.Reopen()
	m.run()
}

// kill ends the life of the server as kill -9 does: what is not written is lost.
func (m *metered) kill() {
	m.rows.down.Store(true)
	m.stop()
	m.end()
	m.rows.down.Store(false)
}

func (m *metered) records() map[string]sandpool.Usage {
	m.Helper()
	out := map[string]sandpool.Usage{}
	err := m.rows.Usage(m.Context(), store.UsageQuery{},
		func(u sandpool.Usage) error {
			if _, twice := out[u.Identifier]; twice {
				m.Errorf("two records of %s", u.Identifier)
			}
			out[u.Identifier] = u
			return nil
		})
	if err != nil {
		m.Fatal(err)
	}
	return out
}

// want checks the record of an identifier: how long it lasted to a second, the rest exactly.
func (m *metered) want(identifier sandpool.Identifier, lasted time.Duration, ended bool,
	executions int64) sandpool.Usage {
	m.Helper()
	u, ok := m.records()[identifier.Hash()]
	if off := u.Lasted - lasted; !ok || off < -time.Second || off > time.Second ||
		u.Ended != ended || u.Executions != executions {
		m.Errorf("the record of %s is %+v (there: %t), want %s, ended %t, %d executions",
			identifier, u, ok, lasted, ended, executions)
	}
	return u
}

func TestUsage(t *testing.T) {
	withUsage(t, func(m *metered) {
		m.put(spec(1, 5))
		ctx := context.WithValue(m.Context(), asker{}, "token:one")
		l, err := m.Acquire(ctx, python, "user-1")
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			m.meter.Observer(m).Observe(event.Event{Name: event.ExecutionEnded,
				Sandbox: l.Sandbox().ID})
		}
		m.fake.Use(l.Sandbox().ID, sandbox.Stats{Memory: 100, Cache: 40, Disk: 10, Sent: 7,
			CPUTime: 2 * time.Second})
		m.pass(20 * time.Second)
		m.want("user-1", 20*time.Second, false, 3)
		l.Release()
		if err := m.StopSession(m.Context(), python, "user-1"); err != nil {
			t.Fatal(err)
		}
		m.settle()
		u := m.want("user-1", 20*time.Second, true, 3)
		if u.By != "token:one" || u.CPU != 2*time.Second || u.Memory != (1<<20+60)*20 || u.Disk != 10*20 ||
			u.Sent != 7 {
			t.Errorf("%+v", u)
		}
		m.pass(5 * time.Minute)
		m.want("user-1", 20*time.Second, true, 3)
	})
}

// TestUsageKilled: the server is killed; its sessions go on, or have ended meanwhile.
func TestUsageKilled(t *testing.T) {
	withUsage(t, func(m *metered) {
		m.put(spec(3, 5))
		on, gone := m.acquire("goes-on", sandpool.ClaimReady), m.acquire("is-gone",
			sandpool.ClaimReady)
		m.meter.Ran(on.Sandbox().ID)
		m.meter.Ran(gone.Sandbox().ID)
		m.pass(30 * time.Second)
		m.acquire("short", sandpool.ClaimReady) // nothing is written of it
		m.kill()
		m.fake.End(gone.Sandbox().ID, sandbox.Exit{Reason: sandbox.Killed})
		m.pass(10 * time.Second)
		m.life()
		m.pass(2 * time.Second)
		m.want("is-gone", 30*time.Second, true, 1)
		m.want("goes-on", 42*time.Second, false, 1)
		m.want("short", 12*time.Second, false, 0)
		m.pass(20 * time.Second)
		if err := m.StopAll(m.Context()); err != nil {
			t.Fatal(err)
		}
		m.settle()
		m.want("goes-on", 62*time.Second, true, 1)
		m.want("short", 32*time.Second, true, 0)
		m.want("is-gone", 30*time.Second, true, 1)
	})
}

// TestUsageDeleted: what was used outlives its pool.
func TestUsageDeleted(t *testing.T) {
	withUsage(t, func(m *metered) {
		m.put(spec(1, 5))
		m.acquire("user-1", sandpool.ClaimReady).Release()
		m.pass(3 * time.Second)
		if err := m.Delete(m.Context(), python); err != nil {
			t.Fatal(err)
		}
		m.settle()
		m.want("user-1", 3*time.Second, true, 0)
	})
}

// metering makes the servers that are made next record usage in the file, by a connection that can
// be cut.
func (w *world) metering(path string) (rows *usageFaults, m *usage.Meter, end func()) {
	w.Helper()
	db, err := sqlite.Open(w.Context(), slog.New(slog.DiscardHandler), path)
	w.must(err)
	rows = &usageFaults{Store: db}
	m, err = usage.New(event.Discard{}, rows, usage.DefaultSettings(), nil)
	w.must(err)
	ctx, cancel := context.WithCancel(w.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	w.options.Meter = m
	return rows, m, func() {
		cancel()
		w.must(errors.Join(<-done, db.Close()))
	}
}

// TestUsageAmongServers: a pool moves to a server that misses its owner, and back when that one is
// stopped in order. Its session has one record, which goes on; what the first owner still has to
// say changes nothing.
func TestUsageAmongServers(t *testing.T) {
	among(t, func(w *world, path string) {
		rows, first, endFirst := w.metering(path)
		one := w.serve(path, "one")
		_, second, endSecond := w.metering(path)
		two := w.serve(path, "two")
		_, err := one.Put(w.Context(), spec(1, 5), nil)
		w.must(err)
		w.pass(10 * time.Second)
		l, err := one.Acquire(w.Context(), python, "user-1")
		w.must(err)
		l.Release()
		first.Ran(l.Sandbox().ID)
		w.pass(20 * time.Second)

		one.over.Store(true)
		rows.down.Store(true)
		first.Ran(l.Sandbox().ID) // nobody can know of it any more
		w.pass(30 * time.Second)
		l, err = two.Acquire(w.Context(), python, "user-1")
		w.must(err)
		second.Ran(l.Sandbox().ID)
		w.pass(2 * time.Second)
		want := func(lasted time.Duration, ended bool, executions int64) {
			t.Helper()
			m := &metered{world: w, rows: rows}
			m.want("user-1", lasted, ended, executions)
		}
		want(52*time.Second, false, 2)

		one.over.Store(false) // it writes what it has, and learns that the pool is not its own
		rows.down.Store(false)
		w.pass(10 * time.Second)
		want(62*time.Second, false, 2)
		l.Release()
		two.stop() // gives the pool up, with its session
		w.pass(10 * time.Second)
		want(72*time.Second, false, 2)
		l, err = one.Acquire(w.Context(), python, "user-1")
		w.must(err)
		first.Ran(l.Sandbox().ID)
		l.Release()
		w.must(one.StopSession(w.Context(), python, "user-1"))
		w.pass(2 * time.Second)
		want(72*time.Second, true, 3)
		one.stop()
		endFirst()
		endSecond()
	})
}
