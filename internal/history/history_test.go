package history_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/event"
	"github.com/sandpool/sandpool/internal/history"
	"github.com/sandpool/sandpool/internal/pool"
	"github.com/sandpool/sandpool/internal/sandbox"
)

var (
	_ event.Sink    = (*history.History)(nil)
	_ history.Pools = (*pool.Manager)(nil)
)

// fake is a pool whose numbers the test sets.
type fake struct {
	id     sandpool.PoolID
	status pool.Status
	rows   []sandpool.Sandbox
	memory int64
	asked  func() // once its sandboxes were read
}

func (f *fake) Pools(context.Context) ([]sandpool.Pool, error) {
	if f.id.Name == "" {
		return nil, nil
	}
	return []sandpool.Pool{{ID: f.id, MaxSessions: 20, ReadySessions: 3}}, nil
}

func (f *fake) Status(context.Context, sandpool.PoolID) (pool.Status, error) {
	return f.status, nil
}

func (f *fake) Sandboxes(context.Context, sandpool.PoolID) ([]sandpool.Sandbox, error) {
	rows := f.rows
	if f.asked != nil {
		f.asked()
	}
	return rows, nil
}

func (f *fake) Stats(context.Context, sandpool.Sandbox) (sandbox.Stats, error) {
	if f.memory == 0 {
		return sandbox.Stats{}, errors.New("it has ended")
	}
	return sandbox.Stats{Memory: f.memory, CPUTime: time.Second}, nil
}

// world is a History with a clock and a pool.
type world struct {
	*testing.T
	*history.History
	now   time.Time
	pools *fake
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{T: t, now: time.Unix(1e9, 0), pools: &fake{id: sandpool.PoolID{Name: "Python"},
		rows:   []sandpool.Sandbox{{ID: "one", State: sandpool.Claimed}},
		status: pool.Status{Ready: 2, Claimed: 1, Wanted: 3}, memory: 50 << 20}}
	var err error
	if w.History, err = history.New(slog.New(slog.DiscardHandler),
		func() time.Time { return w.now }); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) happens(events ...event.Event) {
	for i := range events {
		events[i].Pool, events[i].Time = w.pools.id, w.now
	}
	w.Consume(w.Context(), events)
}

func (w *world) sample() {
	w.Helper()
	if err := w.Sample(w.Context(), w.pools); err != nil {
		w.Fatal(err)
	}
}

func (w *world) points(window string) []api.HistoryPoint {
	w.Helper()
	h, err := w.Pool(sandpool.PoolID{Name: "python"}, window) // in whichever case
	if err != nil {
		w.Fatal(err)
	}
	return h.Points
}

func TestPool(t *testing.T) {
	w := newWorld(t)
	for i := range 100 {
		w.happens(event.Event{Name: event.SessionAllocated, Outcome: "ready",
			Took: time.Duration(i+1) * time.Millisecond},
			event.Event{Name: event.ExecutionEnded, Outcome: "ok", Took: time.Second})
	}
	w.happens(event.Event{Name: event.SessionAllocated, Outcome: "new", Took: time.Second},
		event.Event{Name: event.SessionRefused}, event.Event{Name: event.SandboxEnded},
		event.Event{Name: event.ExecutionEnded, Outcome: "failed"},
		event.Event{Name: event.SessionAnswered, Took: 200 * time.Millisecond})
	w.sample()
	for _, window := range []string{"hour", "day", "week"} {
		all := w.points(window)
		if len(all) != 1 {
			t.Fatalf("%s: %d steps, want 1", window, len(all))
		}
		p := all[0]
		if p.ClaimsReady != 100 || p.ClaimsNew != 1 || p.ClaimsFull != 1 || p.Lost != 1 ||
			p.Executions != 101 || p.ExecutionFailures != 1 {
			t.Errorf("%s: counts %+v", window, p)
		}
		if p.Level == nil || p.Level.Ready != 2 || p.Level.MaxSessions != 20 ||
			p.Level.MemoryBytes != 50<<20 {
			t.Errorf("%s: level %+v", window, p.Level)
		}
		about := func(what string, got *float64, want float64) {
			if got == nil || *got < want*.87 || *got > want*1.13 {
				t.Errorf("%s: %s is %v, want about %v", window, what, got, want)
			}
		}
		about("median of claims", p.ClaimP50, .051)
		about("99th of claims", p.ClaimP99, .1)
		about("answers", p.AnswerP50, .2)
		about("executions", p.ExecutionP99, 1)
	}
	if _, err := w.Pool(w.pools.id, "year"); sandpool.ClassOf(err) != sandpool.Invalid {
		t.Errorf("an unknown window: %v", err)
	}
}

// TestWindows: what is too old is not told, and what is kept is bounded.
func TestWindows(t *testing.T) {
	w := newWorld(t)
	for range 8 * 24 * 12 { // eight days, and an hour
		w.now = w.now.Add(5 * time.Minute)
		w.happens(event.Event{Name: event.SessionRefused})
	}
	for range 240 {
		w.now = w.now.Add(15 * time.Second)
		w.happens(event.Event{Name: event.SessionRefused})
	}
	for window, want := range map[string]int{"hour": 240, "day": 288, "week": 336} {
		if got := w.points(window); len(got) != want {
			t.Errorf("%s: %d steps, want %d", window, len(got), want)
		}
	}
	w.now = w.now.Add(30 * time.Minute)
	if got := len(w.points("hour")); got != 120 {
		t.Errorf("half an hour later %d steps, want 120", got)
	}
	w.happens(event.Event{Name: event.PoolDeleted})
	if got := w.points("week"); len(got) != 0 {
		t.Errorf("of a deleted pool %d steps", len(got))
	}
}

// TestLag: a pool is behind for as long as it has fewer ready than it keeps and may have.
func TestLag(t *testing.T) {
	w := newWorld(t)
	lag := func(ready, claimed int) time.Duration {
		w.pools.status = pool.Status{Ready: ready, Claimed: claimed, Wanted: 3}
		w.now = w.now.Add(15 * time.Second)
		w.sample()
		return w.Lag(w.pools.id)
	}
	for _, step := range []struct {
		ready, claimed int
		want           time.Duration
	}{{3, 0, 0}, {2, 1, 0}, {2, 1, 15 * time.Second}, {3, 1, 0}, {1, 19, 0}, {0, 20, 0}} {
		if got := lag(step.ready, step.claimed); got != step.want {
			t.Errorf("with %d ready and %d claimed the lag is %s, want %s", step.ready,
				step.claimed, got, step.want)
		}
	}
}

func TestSession(t *testing.T) {
	w := newWorld(t)
	for i := range 300 {
		w.now = w.now.Add(15 * time.Second)
		w.happens(event.Event{Name: event.ExecutionEnded, Sandbox: "one", Outcome: "ok",
			By: fmt.Sprint("token:", i), Took: time.Second})
		w.sample()
	}
	detail := func() (d api.SessionDetail) {
		w.Session(sandpool.Session{Sandbox: "one"}, &d)
		return d
	}
	if d := detail(); d.Executions != 300 || len(d.Runs) != 20 || len(d.Use) != 240 ||
		len(d.Callers) != 8 || d.Runs[19].By != "token:299" ||
		d.Use[239].MemoryBytes != 50<<20 {
		t.Errorf("the session: %d executions, %d notes, %d samples, callers %v", d.Executions,
			len(d.Runs), len(d.Use), d.Callers)
	}
	w.pools.rows = nil
	w.sample()
	if d := detail(); d.Executions != 0 || len(d.Use) != 0 {
		t.Errorf("a session that is over: %+v", d)
	}
	w.pools.id = sandpool.PoolID{}
	w.sample()
	w.pools.id.Name = "python"
	if got := w.points("hour"); len(got) != 0 {
		t.Errorf("a pool that is gone has %d steps", len(got))
	}
}

// TestSessionMeanwhile: what a session did that began while the pools were asked is not forgotten.
func TestSessionMeanwhile(t *testing.T) {
	w := newWorld(t)
	w.pools.asked = func() {
		w.now = w.now.Add(time.Second)
		w.happens(event.Event{Name: event.ExecutionEnded, Sandbox: "two", Outcome: "ok"})
	}
	w.sample()
	var d api.SessionDetail
	w.Session(sandpool.Session{Sandbox: "two"}, &d)
	if d.Executions != 1 {
		t.Errorf("it has run %d times", d.Executions)
	}
}
