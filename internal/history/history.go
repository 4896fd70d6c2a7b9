package history

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/event"
	"github.com/sandpool/sandpool/internal/pool"
	"github.com/sandpool/sandpool/internal/sandbox"
)

// interval is how often the pools are asked, and the step of the finest window.
const interval = 15 * time.Second

// maxPools bounds the pools that are remembered; the others have no history.
const maxPools = 200

// Pools is what History asks.
type Pools interface {
	Pools(ctx context.Context) ([]sandpool.Pool, error)
	Status(ctx context.Context, id sandpool.PoolID) (pool.Status, error)
	Sandboxes(ctx context.Context, id sandpool.PoolID) ([]sandpool.Sandbox, error)
	Stats(ctx context.Context, s sandpool.Sandbox) (sandbox.Stats, error)
}

// History remembers. Use New.
type History struct {
	log *slog.Logger
	now func() time.Time

	mu       sync.Mutex          // guards the fields below
	series   map[string]*[3]ring // by the key of the pool
	sessions map[sandpool.SandboxID]*session
	behind   map[string]time.Time // by the key of the pool: since when a pool has had too few ready
}

// New returns a History that knows nothing yet. now is the clock; nil means time.Now.
func New(log *slog.Logger, now func() time.Time) (*History, error) {
	if log == nil {
		return nil, errors.New("history: the logger is nil")
	}
	if now == nil {
		now = time.Now
	}
	return &History{log: log, now: now, series: map[string]*[3]ring{},
		sessions: map[sandpool.SandboxID]*session{},
		behind:   map[string]time.Time{}}, nil
}

// Run asks the pools until ctx ends.
func (h *History) Run(ctx context.Context, pools Pools) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		if err := h.Sample(ctx, pools); err != nil && ctx.Err() == nil {
			h.log.Debug("the pools cannot be sampled", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// Consume implements event.Sink.
func (h *History) Consume(_ context.Context, events []event.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range events {
		if e.Pool == (sandpool.PoolID{}) {
			continue
		}
		if e.Name == event.PoolDeleted {
			delete(h.series, e.Pool.Key())
			continue
		}
		if e.Name.Level() == event.Debug || e.Name == event.SandboxNotStarted ||
			e.Name == event.SandboxEnded || e.Name == event.SandboxSick {
			if s := h.of(e.Pool); s != nil {
				for i := range s {
					s[i].now(e.Time).observe(e)
				}
			}
		}
		if e.Name == event.ExecutionEnded {
			if s := h.session(e.Sandbox); s != nil {
				s.ran(e)
			}
		}
	}
}

// of returns the rings of a pool; nil if there are too many pools. The caller holds mu.
func (h *History) of(id sandpool.PoolID) *[3]ring {
	key := id.Key()
	s := h.series[key]
	if s == nil && len(h.series) < maxPools {
		s = new([3]ring)
		for i, w := range windows() {
			s[i].window = w
		}
		h.series[key] = s
	}
	return s
}

// session returns what is known of a sandbox's session. The caller holds mu.
func (h *History) session(id sandpool.SandboxID) *session {
	s := h.sessions[id]
	if s == nil && len(h.sessions) < maxSessions {
		s = &session{since: h.now()}
		h.sessions[id] = s
	}
	return s
}

// Sample asks every pool how it is, and what its sessions take.
func (h *History) Sample(ctx context.Context, from Pools) error {
	began := h.now()
	pools, err := from.Pools(ctx)
	if err != nil {
		return err
	}
	there := map[sandpool.SandboxID]bool{}
	kept := map[string]bool{}
	whole := true // so that what is not there has gone
	for _, p := range pools {
		kept[p.ID.Key()] = true
		if err := h.samplePool(ctx, from, p, there); err != nil {
			whole = false
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	for id := range h.series {
		if !kept[id] {
			delete(h.series, id)
		}
	}
	for id := range h.behind {
		if !kept[id] {
			delete(h.behind, id)
		}
	}
	for id, s := range h.sessions {
		// One that has begun meanwhile may not have been there when its pool was asked.
		if whole && !there[id] && s.since.Before(began) {
			delete(h.sessions, id)
		}
	}
	return nil
}

func (h *History) samplePool(ctx context.Context, from Pools, p sandpool.Pool,
	there map[sandpool.SandboxID]bool) error {
	n, err := from.Status(ctx, p.ID)
	if err != nil {
		return err
	}
	rows, err := from.Sandboxes(ctx, p.ID)
	if err != nil {
		return err
	}
	at := h.now()
	used := map[sandpool.SandboxID]sandbox.Stats{}
	l := level{ready: n.Ready, claimed: n.Claimed, starting: n.Starting, waiting: n.Waiting,
		max: p.MaxSessions}
	for _, row := range rows {
		there[row.ID] = true
		if row.State != sandpool.Claimed && row.State != sandpool.Ready {
			continue
		}
		stats, err := from.Stats(ctx, row)
		if err != nil {
			continue // it has just ended, or the engine has no numbers
		}
		l.memory += stats.Memory
		if row.State == sandpool.Claimed {
			used[row.ID] = stats
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if key := p.ID.Key(); n.Ready >= min(n.Wanted, p.MaxSessions-n.Claimed) {
		delete(h.behind, key)
	} else if h.behind[key].IsZero() {
		h.behind[key] = at
	}
	if s := h.of(p.ID); s != nil {
		for i := range s {
			b := s[i].now(at)
			b.level, b.known = l, true
		}
	}
	for id, stats := range used {
		if s := h.session(id); s != nil {
			s.use(at, stats)
		}
	}
	return nil
}

// Pool returns a pool's history in a window, whose name the api package has.
func (h *History) Pool(id sandpool.PoolID, name string) (api.History, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, w := range windows() {
		if w.name != name {
			continue
		}
		out := api.History{Window: name, StepSeconds: int(w.step / time.Second),
			Points: []api.HistoryPoint{}}
		s := h.series[id.Key()]
		if s == nil {
			return out, nil
		}
		oldest := h.now().UnixNano()/int64(w.step) - int64(w.steps)
		for j := range s[i].buckets {
			if b := &s[i].buckets[j]; b.at > oldest {
				out.Points = append(out.Points, b.point(w.step))
			}
		}
		return out, nil
	}
	return api.History{}, sandpool.Errorf(sandpool.Invalid, "InvalidWindow", api.WindowParameter,
		"%s is %.60q; use %q, %q or %q.", api.WindowParameter, name, api.HistoryHour,
		api.HistoryDay, api.HistoryWeek)
}

// Lag is how long a pool has had fewer ready sandboxes than it keeps.
func (h *History) Lag(id sandpool.PoolID) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	since := h.behind[id.Key()]
	if since.IsZero() {
		return 0
	}
	return h.now().Sub(since)
}

// Session completes what is known of a session.
func (h *History) Session(s sandpool.Session, into *api.SessionDetail) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if known := h.sessions[s.Sandbox]; known != nil {
		into.Use = append(into.Use, known.samples...)
		into.Runs = append(into.Runs, known.runs...)
		into.Callers = append(into.Callers, known.callers...)
		into.Executions = known.count
	}
}
