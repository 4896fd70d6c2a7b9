package pool

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/event"
	"github.com/sandpool/sandpool/internal/pool/plan"
	"github.com/sandpool/sandpool/internal/pool/room"
	"github.com/sandpool/sandpool/internal/sandbox"
)

// Machine measures the machine that sandboxes run on.
type Machine interface {
	// Measure says what the machine has left at now, and how much it waited for memory since the
	// last call. It is called once a second, and not twice at the same time.
	Measure(now time.Time) (room.Machine, error)
}

// maxSamples bounds the sandboxes that are measured in one second; each costs some 0.1 ms.
const maxSamples = 128

// comesBack is how long what a stopping sandbox holds counts as free: stops take a tenth of it.
const comesBack = 2 * time.Second

// sample is the measurement of one sandbox.
type sample struct {
	state *sandboxState
	used  room.Amount
	read  int64
}

// beginMeasure measures the machine and its sandboxes in a goroutine. The caller holds mu.
func (m *Manager) beginMeasure() {
	if m.options.Machine != nil && !m.measuring {
		m.measuring = m.spawn(func(ctx context.Context) { m.measure(ctx, maxSamples) })
	}
}

// measure measures the machine, and those most sandboxes whose last measurement is the oldest.
func (m *Manager) measure(ctx context.Context, most int) {
	samples := m.sample(ctx, most)
	now := time.Now()
	machine, err := m.options.Machine.Measure(now)
	if reader, ok := m.engine.(sandbox.RoomReader); ok && err == nil {
		var all sandbox.Room
		all, err = reader.Room(ctx)
		machine = machine.Within(m.options.Reserve,
			room.Amount{Memory: all.Memory.Limit, Disk: math.MaxInt64, Threads: all.Threads.Limit},
			room.Amount{Memory: all.Memory.Left, Disk: math.MaxInt64, Threads: all.Threads.Left})
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.measuring = false
	for _, s := range samples {
		s.state.took, s.state.measuredAt, s.state.read = s.used, now, s.read
	}
	if err != nil {
		m.events.Observe(event.Event{Name: event.MachineUnmeasured, Err: err})
		return // what was measured before still says more than nothing
	}
	m.learn()
	m.room.Measure(machine, m.options.Reserve, m.promised(now))
	m.exhausted = ""
	m.starts.resize(room.Starts(m.options.MaxStarts, m.room.Strain()))
	m.kick()
}

// sample measures sandboxes.
func (m *Manager) sample(ctx context.Context, most int) (samples []sample) {
	reader, ok := m.engine.(sandbox.StatsReader)
	if !ok {
		return nil
	}
	m.mu.Lock()
	var sandboxes []*sandboxState
	for _, b := range m.sandboxes {
		if b.row.State == sandpool.Ready || b.row.State == sandpool.Claimed {
			sandboxes = append(sandboxes, b)
		}
	}
	slices.SortFunc(sandboxes, func(a, b *sandboxState) int {
		return a.measuredAt.Compare(b.measuredAt)
	})
	sandboxes = sandboxes[:min(most, len(sandboxes))]
	handles := make([]sandbox.Handle, len(sandboxes))
	for i, b := range sandboxes {
		handles[i] = handleOf(b.row)
	}
	m.mu.Unlock()
	for i, h := range handles {
		if s, err := reader.Stats(ctx, h); err == nil { // otherwise it has just ended
			m.options.Meter.Measured(h.ID, s)
			samples = append(samples, sample{sandboxes[i], room.Amount{Memory: s.Held(),
				Threads: s.Threads}, s.Read})
		}
	}
	return samples
}

// learn follows what the sandboxes of each pool take. The caller holds mu.
func (m *Manager) learn() {
	type sizes struct{ ready, used []room.Amount }
	of := map[*poolState]*sizes{}
	for _, b := range m.sandboxes {
		if b.pool == nil || b.measuredAt.IsZero() {
			continue
		}
		s := of[b.pool]
		if s == nil {
			s = &sizes{}
			of[b.pool] = s
		}
		switch b.row.State {
		case sandpool.Ready:
			s.ready = append(s.ready, b.took)
		case sandpool.Claimed:
			s.used = append(s.used, b.took)
		}
	}
	for p, s := range of {
		p.size = p.size.Learn(s.ready, s.used)
	}
}

// limits are those of one sandbox of the pool, zero if they are not known yet.
func (p *poolState) limits() room.Amount {
	l := p.prep.prepared.Template.Limits
	return room.Amount{Memory: l.Memory, Disk: l.Disk, Threads: l.PIDs}
}

// perSession is the room that a new session of the pool needs, and what of it a ready sandbox
// holds already.
func (p *poolState) perSession() (need, ready room.Amount) {
	limit := p.limits()
	return p.size.Promise(room.Amount{}, limit), p.size.Within(limit).Ready
}

// promised is what starts in progress, preparations and sessions may still take, without what
// comes back from sandboxes that are just being stopped. The caller holds mu.
func (m *Manager) promised(now time.Time) (sum room.Amount) {
	for _, p := range m.pools {
		if p.prep.running {
			sum = sum.Plus(p.view("", nil).NeedsToPrepare())
		}
	}
	for _, b := range m.sandboxes {
		switch {
		case b.row.State == sandpool.Stopping && now.Sub(b.since) < comesBack:
			sum = sum.Minus(b.took)
		case b.row.State != sandpool.Stopping:
			sum = sum.Plus(b.promise())
		}
	}
	return sum
}

// promise is what the sandbox may still take. The caller holds Manager.mu.
func (b *sandboxState) promise() room.Amount {
	if b.pool == nil || b.row.State == sandpool.Ready {
		return room.Amount{} // a ready one needs no more until it is claimed
	}
	need, ready := b.pool.perSession()
	switch {
	case b.row.State == sandpool.Starting && b.row.Identifier == "":
		return ready
	case b.row.State == sandpool.Starting:
		return need
	case b.measuredAt.IsZero():
		return need.Minus(ready)
	}
	return b.pool.size.Promise(b.took, b.pool.limits())
}

// holds is what the sandbox takes, as far as it is known. The caller holds Manager.mu.
func (b *sandboxState) holds() room.Amount {
	if b.measuredAt.IsZero() && b.row.State != sandpool.Starting {
		_, ready := b.pool.perSession()
		return ready
	}
	return b.took
}

// vacate gives back what a sandbox that ends holds, and was to have. The caller holds
// mu.
func (m *Manager) vacate(b *sandboxState) {
	if b.pool != nil {
		m.room.Give(b.holds().Plus(b.promise()))
		m.exhausted = ""
	}
}

// admit takes room for a new session of p, from ready sandboxes if there is none else, and returns
// what it took. The caller holds mu.
func (m *Manager) admit(p *poolState, identifier sandpool.Identifier) (room.Amount, error) {
	need, ready := p.perSession()
	if m.room.Lacks(need) == "" {
		m.room.Take(need)
		return need, nil
	}
	if m.exhausted != "" {
		return room.Amount{}, m.machineFull(p, identifier, m.exhausted)
	}
	view := m.look()
	i := slices.IndexFunc(view.Pools, func(v plan.Pool) bool { return v.Key == p.pool.ID.Key() })
	if i < 0 || view.Pools[i].IsFull() {
		return room.Amount{}, nil // the store says so, and needs no room for it
	}
	if view.Pools[i].HasReady() {
		need = need.Minus(ready)
	}
	gone, enough := m.giveWay(plan.Spare(view.Pools), need)
	if !enough {
		m.exhausted = m.room.Lacks(need)
		m.events.Observe(event.Event{Name: event.MachineFull, Outcome: string(m.exhausted)})
		return room.Amount{}, m.machineFull(p, identifier, m.exhausted)
	}
	for _, b := range gone {
		m.retire(b, ended("%s", plan.ReasonRoom))
	}
	m.room.Take(need)
	return need, nil
}

// giveWay picks the ready sandboxes whose room makes enough for need, if there are: none is given
// up for a claim that is refused all the same. The caller holds mu.
func (m *Manager) giveWay(spare plan.Spares, need room.Amount) (gone []*sandboxState, enough bool) {
	left := m.room.Left()
	for left.Minus(need).Lacks() != "" {
		_, id := spare.Next()
		b := m.sandboxes[id]
		if b == nil {
			return nil, false
		}
		gone, left = append(gone, b), left.Plus(b.holds())
	}
	return gone, true
}

// admitted corrects what a claim took by its outcome. The caller holds mu.
func (m *Manager) admitted(p *poolState, took room.Amount, outcome sandpool.ClaimOutcome,
	err error) {
	if p.pool.Spec.Ready.ForecastMost > 0 && err == nil && outcome != sandpool.ClaimExisting {
		p.ahead.Note(time.Now())
		p.ahead.unsaved = true
	}
	need, ready := p.perSession()
	switch {
	case err != nil, outcome == sandpool.ClaimFull, outcome == sandpool.ClaimExisting:
		need = room.Amount{}
	case outcome == sandpool.ClaimReady:
		need = need.Minus(ready)
	}
	m.room.Give(took.Minus(need))
}

// Bounds of what is said of a full machine's next room.
const (
	soonest = 2 * time.Second
	latest  = time.Minute
)

// machineFull is the error of a claim that the machine has no room for. The caller holds mu.
func (m *Manager) machineFull(p *poolState, identifier sandpool.Identifier,
	lack room.Resource) error {
	p.refused++
	m.events.Observe(event.Event{Name: event.SessionRefused, Pool: p.pool.ID,
		Outcome: "machine full: " + string(lack)})
	return &sandpool.Error{Class: sandpool.Unavailable, Code: "MachineFull", Target: "identifier",
		Message: fmt.Sprintf("Error happened when allocating pod for identifier %s in pool %s: "+
			"the machine has not enough %s for another session. "+
			"Delete a session, or try again when one has ended.", identifier, p.pool.ID.Name,
			words[lack]),
		RetryAfter: m.nextEnd(time.Now())}
}

// nextEnd is when the first session ends by itself. The caller holds mu.
func (m *Manager) nextEnd(now time.Time) time.Duration {
	next := latest
	for _, b := range m.sandboxes {
		if b.pool == nil || b.row.State != sandpool.Claimed || b.leases > 0 {
			continue
		}
		if at := b.pool.expires(b, b.used); !at.IsZero() {
			next = min(next, at.Sub(now))
		}
	}
	return max(next, soonest)
}

// words are the resources for people.
var words = map[room.Resource]string{room.Memory: "memory", room.Disk: "disk space",
	room.Threads: "threads"}

// notice says what the owner of a pool should know of the machine, and what of its sandboxes: one
// is often why the other lasts. The caller holds mu.
func (m *Manager) notice(p *poolState) string {
	said := m.shortage(p)
	if n, ok := m.engine.(sandbox.Noticer); ok && p.prep.done {
		said = strings.TrimSpace(said + " " + n.Notice(p.prep.prepared))
	}
	return said
}

// shortage says what the machine lacks for a pool, and how many sandboxes are ready. The caller
// holds mu.
func (m *Manager) shortage(p *poolState) string {
	if p.short == "" {
		return ""
	}
	if !p.prep.done {
		return fmt.Sprintf("The machine has not enough %s to prepare the pool's sandboxes; they "+
			"are prepared when it has.", words[p.short])
	}
	ready := 0
	for _, b := range m.sandboxes {
		if b.pool == p && b.row.State == sandpool.Ready && b.row.Revision == p.pool.Revision {
			ready++
		}
	}
	return fmt.Sprintf("The machine has not enough %s for all ready sandboxes: %d of %d are "+
		"ready. Ask for fewer, or give the machine more.",
		words[p.short], ready, p.wanted(time.Now()))
}
