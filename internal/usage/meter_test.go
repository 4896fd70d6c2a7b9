package usage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/event"
	"github.com/sandpool/sandpool/internal/pool/meter"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sqlite"
	"github.com/sandpool/sandpool/internal/store"
)

// bench is meters on one store, whose clock the test moves.
type bench struct {
	*testing.T
	rows *faults
	at   time.Time     // the time of day
	went time.Duration // since the machine started
}

// faults is a store that can be down, and that counts transactions.
type faults struct {
	*sqlite.Store
	down    bool
	largest int
}

func (f *faults) PutUsage(ctx context.Context, rows []sandpool.Usage, m store.Mark) error {
	if f.largest = max(f.largest, len(rows)); f.down {
		return errors.New("the store is down")
	}
	return f.Store.PutUsage(ctx, rows, m)
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{T: t, rows: &faults{Store: rowsOf(t)}, at: noon}
	b.must(b.rows.createPool(t))
	return b
}

// createPool makes the pool of the sandboxes.
func (f *faults) createPool(t *testing.T) error {
	_, err := f.CreatePool(t.Context(), sandpool.Pool{ID: poolOf("alpha"), MaxSessions: 1000,
		State: sandpool.Succeeded}, nil, "alone")
	return err
}

func (b *bench) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// life is a new life of a server.
func (b *bench) life() *Meter {
	b.Helper()
	born := b.went
	m, err := New(event.Discard{}, b.rows, DefaultSettings(),
		func() (time.Time, time.Duration) { return b.at, b.went - born })
	b.must(err)
	return m
}

func (b *bench) pass(d time.Duration) { b.at, b.went = b.at.Add(d), b.went+d }

// claimed makes a session's sandbox in the store.
func (b *bench) claimed(name sandpool.Identifier) sandpool.Sandbox {
	b.Helper()
	row, _, err := b.rows.Claim(b.Context(), sandpool.ClaimRequest{Pool: poolOf("alpha"),
		Identifier: name, Max: 1000, Now: b.at, Epoch: 1, By: "token:t",
		NewID: sandpool.SandboxID("sandbox-" + name), NewSecret: "s"})
	b.must(err)
	row, err = b.rows.Started(b.Context(), row.ID, nil, b.at, 1)
	b.must(err)
	return row
}

// want checks all records, by their sandboxes: how long they lasted, whether they ended, and how
// often code ran.
func (b *bench) want(want map[string]string) {
	b.Helper()
	got := map[string]string{}
	b.must(b.rows.Usage(b.Context(), store.UsageQuery{}, func(u sandpool.Usage) error {
		got[string(u.Sandbox)] = fmt.Sprintf("%s ended=%t ran=%d", u.Lasted, u.Ended, u.Executions)
		return nil
	}))
	if fmt.Sprint(got) != fmt.Sprint(want) {
		b.Errorf("the records are %v, want %v", got, want)
	}
}

// TestClockIsSet: a session lasts as long as it lasts, whatever the clock of the machine says.
func TestClockIsSet(t *testing.T) {
	for _, jump := range []time.Duration{time.Hour, -time.Hour, -365 * 24 * time.Hour} {
		b := newBench(t)
		m := b.life()
		row := b.claimed("one-")
		m.Began(row, 1)
		b.pass(10 * time.Second)
		b.must(m.Save(t.Context()))
		b.at = b.at.Add(jump)
		b.pass(10 * time.Second)
		b.must(m.Save(t.Context()))
		b.want(map[string]string{"sandbox-one-": "20s ended=false ran=0"})
		// A new life goes on, and a session that begins after the jump counts as well.
		m = b.life()
		b.pass(5 * time.Second)
		b.must(m.Resume(t.Context(), []meter.Resumed{{Row: row, Epoch: 2, Lives: true}}))
		m.Began(b.claimed("two-"), 2)
		b.pass(5 * time.Second)
		m.Ended(row, 2)
		b.must(m.Settle(t.Context(), row.ID))
		b.must(m.Save(t.Context()))
		b.want(map[string]string{"sandbox-one-": "30s ended=true ran=0",
			"sandbox-two-": "5s ended=false ran=0"})
	}
}

// TestDied: what a server that died has not written is told by its mark.
func TestDied(t *testing.T) {
	b := newBench(t)
	m := b.life()
	written, unwritten := b.claimed("written"), b.claimed("unwritten")
	m.Began(written, 1)
	m.Ran(written.ID)
	b.must(m.Save(t.Context()))
	b.pass(7 * time.Second)
	b.must(m.Save(t.Context())) // nothing but a mark is due
	m.Began(unwritten, 1)
	m.Ran(written.ID)
	unwritten.LastUsedAt = b.at.Add(time.Second)
	b.pass(time.Minute) // dead
	next := b.life()
	b.must(next.Resume(t.Context(), []meter.Resumed{{Row: written, Epoch: 2},
		{Row: unwritten, Epoch: 2}}))
	b.must(next.Settle(t.Context(), written.ID))
	b.must(next.Settle(t.Context(), unwritten.ID))
	want := map[string]string{"sandbox-written": "7s ended=true ran=1",
		"sandbox-unwritten": "8s ended=true ran=0"}
	b.want(want)
	// What the first server still has to say, and a third life, change nothing.
	m.Ended(written, 1)
	b.must(m.Save(t.Context()))
	third := b.life()
	b.must(third.Resume(t.Context(), []meter.Resumed{{Row: written, Epoch: 3},
		{Row: unwritten, Epoch: 3}}))
	b.must(third.Settle(t.Context(), written.ID))
	b.pass(time.Hour)
	b.must(third.Save(t.Context()))
	b.want(want)
}

// TestStoreDown: what cannot be written is written later, once, and the end of a session waits.
func TestStoreDown(t *testing.T) {
	b := newBench(t)
	m := b.life()
	row := b.claimed("one-")
	m.Began(row, 1)
	b.rows.down = true
	for range 100 {
		b.pass(time.Second)
		m.Ran(row.ID)
		if m.Save(t.Context()) == nil {
			t.Fatal("a store that is down is no error")
		}
	}
	m.Ended(row, 1)
	if m.Settle(t.Context(), row.ID) == nil {
		t.Error("a record that is not written is taken for one")
	}
	b.pass(time.Minute)
	b.rows.down = false
	b.must(m.Settle(t.Context(), row.ID))
	b.want(map[string]string{"sandbox-one-": "1m40s ended=true ran=100"})
	// An execution that the end cut off is told after it.
	m.Ran(row.ID)
	b.must(m.Save(t.Context()))
	b.want(map[string]string{"sandbox-one-": "1m40s ended=true ran=101"})
	b.pass(late + time.Second)
	b.must(m.Save(t.Context()))
	if len(m.sessions) != 0 {
		t.Errorf("%d sessions are remembered", len(m.sessions))
	}
}

// TestHeld: memory and disk are what was held, times how long, across measurements and lives.
func TestHeld(t *testing.T) {
	b := newBench(t)
	m := b.life()
	row := b.claimed("one-")
	m.Began(row, 1)
	b.pass(10 * time.Second)
	m.Measured(row.ID, sandbox.Stats{Memory: 100, Disk: 10, CPUTime: time.Second, Sent: 5})
	b.pass(10 * time.Second)
	m.Measured(row.ID, sandbox.Stats{Memory: 300, Cache: 100, Disk: 20, CPUTime: 2 * time.Second})
	b.must(m.Save(t.Context()))
	m = b.life()
	b.pass(10 * time.Second)
	b.must(m.Resume(t.Context(), []meter.Resumed{{Row: row, Epoch: 2, Lives: true}}))
	b.pass(10 * time.Second)
	m.Measured(row.ID, sandbox.Stats{Memory: 50, Disk: 20, CPUTime: 3 * time.Second, Sent: 9})
	m.Ended(row, 2)
	b.must(m.Settle(t.Context(), row.ID))
	// 10 s of 100, 10 s of 150 on average, 20 s of 50, as the next life finds it
	want := [4]int64{1000 + 1500 + 1000, 100 + 150 + 400, int64(3 * time.Second), 9}
	b.must(b.rows.Usage(t.Context(), store.UsageQuery{}, func(u sandpool.Usage) error {
		if got := [4]int64{u.Memory, u.Disk, int64(u.CPU), u.Sent}; got != want ||
			u.Lasted != 40*time.Second || u.By != "token:t" {
			t.Errorf("%v, want %v: %+v", got, want, u)
		}
		return nil
	}))
}

// TestTransactions: many sessions are written in transactions that claims can wait for.
func TestTransactions(t *testing.T) {
	b := newBench(t)
	m := b.life()
	for i := range 3*atOnce + 1 {
		m.Began(sandpool.Sandbox{ID: sandpool.SandboxID(fmt.Sprint("sandbox-", i)),
			Pool: poolOf("alpha"), Identifier: "some", ClaimedAt: b.at}, 1)
	}
	b.must(m.Save(t.Context()))
	if b.rows.largest != atOnce {
		t.Errorf("a transaction wrote %d records, want %d", b.rows.largest, atOnce)
	}
}

// TestRace: whoever tells the meter, and whoever writes, may do so at the same time, and a record
// that has ended stays so.
func TestRace(t *testing.T) {
	db, err := sqlite.Open(t.Context(), slog.New(slog.DiscardHandler),
		filepath.Join(t.TempDir(), "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	m, err := New(event.Discard{}, db, DefaultSettings(), nil)
	if err != nil {
		t.Fatal(err)
	}
	const sessions, runs = 40, 25
	var wait sync.WaitGroup
	for i := range sessions {
		wait.Go(func() {
			row := sandpool.Sandbox{ID: sandpool.SandboxID(fmt.Sprint("sandbox-", i)),
				Pool: poolOf("alpha"), Identifier: "some", ClaimedAt: time.Now()}
			m.Began(row, 1)
			for range runs {
				m.Observer(event.Discard{}).Observe(event.Event{Name: event.ExecutionEnded,
					Sandbox: row.ID})
			}
			m.Ended(row, 1)
			if err := m.Settle(t.Context(), row.ID); err != nil {
				t.Error(err)
			}
		})
		wait.Go(func() {
			if err := m.Save(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	count := 0
	err = db.Usage(t.Context(), store.UsageQuery{}, func(u sandpool.Usage) error {
		if count++; !u.Ended || u.Executions != runs {
			t.Errorf("%+v", u)
		}
		return nil
	})
	if err != nil || count != sessions {
		t.Errorf("%d records, %v", count, err)
	}
}

func TestSettings(t *testing.T) {
	for s, want := range map[Settings]int{DefaultSettings(): 0, {Days: 0, Records: 1000}: 0,
		{Days: -1, Records: 1000}: 1, {Days: 4000, Records: 999}: 2} {
		if got := s.Validate(); len(got) != want {
			t.Errorf("%+v: %v", s, got)
		}
	}
}
