package pool

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/event"
	"github.com/sandpool/sandpool/internal/pool/ahead"
	"github.com/sandpool/sandpool/internal/pool/plan"
	"github.com/sandpool/sandpool/internal/pool/room"
	"github.com/sandpool/sandpool/internal/store"
)

// pulse is the time between looks at what time alone brings about: cooldowns,
// retries, and writing down when sessions were used.
const pulse = time.Second

// Run adopts what an earlier process left, then keeps the pools until ctx
// ends. Sandboxes keep running when it returns; the next Run adopts them. It
// may be called once, and must have returned before the store is closed.
func (m *Manager) Run(ctx context.Context) error {
	m.mu.Lock()
	if m.life != nil {
		m.mu.Unlock()
		return errors.New("run pool manager: it ran already")
	}
	m.life = ctx
	m.mu.Unlock()
	defer m.close(ctx)
	if err := m.adopt(ctx); err != nil {
		return ignoreEnd(ctx, err)
	}
	if m.shared() {
		m.mu.Lock()
		m.spawn(m.keepOwning)
		m.mu.Unlock()
	}
	if m.options.Machine != nil {
		m.measure(ctx, math.MaxInt) // what is adopted would seem to be about to grow
	}
	m.spreadNetwork(ctx)
	close(m.opened)
	beat, sweep := time.NewTicker(pulse), time.NewTicker(m.options.SweepInterval)
	defer beat.Stop()
	defer sweep.Stop()
	for ctx.Err() == nil {
		m.rest(ctx, m.act())
		m.save(ctx)
		select {
		case <-ctx.Done():
		case <-m.wake:
		case <-beat.C:
			m.touch(ctx)
			m.mu.Lock()
			m.beginMeasure()
			m.beginTally()
			m.beginRemember(time.Now())
			m.mu.Unlock()
			m.spreadNetwork(ctx)
		case <-sweep.C:
			m.mu.Lock()
			m.beginSweep()
			m.mu.Unlock()
		}
	}
	return nil
}

// close waits for the goroutines of this Manager and writes down what only memory knows.
func (m *Manager) close(ctx context.Context) {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.work.Wait()
	ctx, cancel := m.undo(ctx)
	defer cancel()
	m.touch(ctx)
	m.save(ctx)
	m.rememberAll(ctx)
	if err := m.options.Meter.Save(ctx); err != nil {
		m.events.Observe(event.Event{Name: event.UsageUnsaved, Err: err})
	}
	select {
	case <-m.opened:
	default:
		return
	}
	if !m.shared() {
		return
	}
	if err := m.farewell(ctx); err != nil { // others may have the pools at once
		m.events.Observe(event.Event{Name: event.OwnershipUnsaved, Err: err})
	}
}

// ignoreEnd returns nil if ctx has ended, of which err tells then.
func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// shareActing is how many times as long as a plan took nothing is planned after it, so that claims,
// which wait for it, find more time between plans than plans, however many sandboxes there are.
// One that took less than shortAct keeps nobody waiting.
const (
	shareActing = 8
	shortAct    = time.Millisecond
	longestRest = 250 * time.Millisecond
)

// rest waits after a plan that took long.
func (m *Manager) rest(ctx context.Context, took time.Duration) {
	if took < shortAct {
		return
	}
	pause := time.NewTimer(min(shareActing*took, longestRest))
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-ctx.Done():
	}
}

// act carries the plan out, and returns how long it kept claims waiting. Nothing in it blocks.
func (m *Manager) act() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	for _, p := range m.pools {
		p.short = ""
	}
	for _, a := range plan.Next(m.look(), now) {
		p, b := m.pools[a.Pool], m.sandboxes[a.Sandbox]
		switch a.Act {
		case plan.Prepare:
			m.beginPrepare(p)
		case plan.Refill:
			m.beginRefill(p)
		case plan.Forgive:
			p.backoff.reset()
			p.pool.Problem, p.pool.Cause, p.unsaved = p.prep.note, p.prep.cause, true
			m.kick()
		case plan.Check:
			m.beginCheck(b)
		case plan.Retire:
			if a.Reason == plan.ReasonEvicted {
				m.makeRoom(b, time.Now())
			} else {
				m.retire(b, ended("%s", a.Reason))
			}
		case plan.Stop:
			m.beginStop(b)
		case plan.Remove:
			m.beginRemove(p)
		case plan.Short:
			p.short = room.Resource(a.Reason)
		}
	}
	m.beginPrune()
	return time.Since(now)
}

// look takes the snapshot. The caller holds mu.
func (m *Manager) look() plan.Snapshot {
	s := plan.Snapshot{Starts: m.starts.free(), Stops: m.stops, Checks: m.checks,
		StopMost: m.options.MaxStarts, // what can be started so fast can be stopped so fast
		Draining: m.draining, Room: m.room}
	views := map[*poolState][]plan.Sandbox{}
	for _, b := range m.bySince() {
		views[b.pool] = append(views[b.pool], b.view())
	}
	s.Strays = views[nil]
	now := time.Now()
	for key, p := range m.pools {
		v := p.view(key, views[p])
		v.Pool.ReadySessions = p.wanted(now)
		s.Pools = append(s.Pools, v)
	}
	slices.SortFunc(s.Pools, func(a, b plan.Pool) int { return cmp.Compare(a.Key, b.Key) })
	return s
}

// bySince returns all sandboxes, those first that are longest in their state. The caller holds mu.
func (m *Manager) bySince() []*sandboxState {
	type place struct {
		since time.Duration // negative
		state *sandboxState
	}
	now, places := time.Now(), make([]place, 0, len(m.sandboxes))
	for _, b := range m.sandboxes {
		places = append(places, place{b.since.Sub(now), b})
	}
	slices.SortFunc(places, func(a, b place) int {
		if a.since != b.since {
			return cmp.Compare(a.since, b.since)
		}
		return cmp.Compare(a.state.row.ID, b.state.row.ID)
	})
	list := make([]*sandboxState, len(places))
	for i, p := range places {
		list[i] = p.state
	}
	return list
}

// wanted is how many sandboxes are to be ready now.
func (p *poolState) wanted(now time.Time) int {
	n, _ := ahead.Want(now, p.pool.ReadySessions, p.pool.Spec.Ready, &p.ahead.Claims)
	return n
}

func (p *poolState) view(key string, sandboxes []plan.Sandbox) plan.Pool {
	claims := 0
	for _, e := range p.sessions {
		if e.claim != nil {
			claims++
		}
	}
	return plan.Pool{Key: key, Pool: p.pool, Sandboxes: sandboxes, Claims: claims,
		Waiting: p.line.Waiting(), Removing: p.removing, Burst: p.burst,
		Prepared:  p.prep.done && p.prep.revision == p.pool.Revision,
		Preparing: p.prep.running, PrepareAt: p.prep.backoff.next(), RefillAt: p.backoff.next(),
		Size:  p.size.Within(p.limits()),
		Renew: p.prep.renew, Roll: p.stay,
		Trial: p.trial, Liveness: p.guest.Liveness != nil && p.guest.Alive != nil}
}

// touch writes down when sessions were last used.
func (m *Manager) touch(ctx context.Context) {
	m.mu.Lock()
	var used []sandpool.Use
	now := time.Now()
	for id, b := range m.sandboxes {
		if b.leases > 0 {
			b.used, b.dirty = now, true
		}
		if b.dirty && b.row.State == sandpool.Claimed {
			used = append(used, sandpool.Use{ID: id, At: b.used, Epoch: b.pool.epoch})
		}
		b.dirty = false
	}
	m.mu.Unlock()
	if len(used) == 0 {
		return
	}
	if err := m.store.Touch(ctx, used); err != nil {
		m.events.Observe(event.Event{Name: event.UseUnsaved, Err: err})
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, u := range used {
			if b := m.sandboxes[u.ID]; b != nil {
				b.dirty = true // the next pulse tries again
			}
		}
	}
}

// save writes the pools whose state or problem changed.
func (m *Manager) save(ctx context.Context) {
	m.mu.Lock()
	var changed []*poolState
	for _, p := range m.pools {
		if p.unsaved {
			changed = append(changed, p)
		}
	}
	m.mu.Unlock()
	for _, p := range changed {
		m.savePool(ctx, p)
	}
}

func (m *Manager) savePool(ctx context.Context, p *poolState) {
	m.rows.Lock()
	defer m.rows.Unlock()
	m.mu.Lock()
	row, needed := p.pool.Clone(), p.unsaved && m.pools[p.pool.ID.Key()] == p
	p.unsaved = false
	m.mu.Unlock()
	if !needed {
		return
	}
	if err := m.fenced(p, m.store.PutPool(ctx, row, nil, p.epoch)); err != nil {
		if ctx.Err() == nil { // otherwise it is close's to do
			m.events.Observe(event.Event{Name: event.PoolUnsaved, Pool: row.ID, Err: err})
		}
		m.mu.Lock()
		p.unsaved = true // the next pulse tries again
		m.mu.Unlock()
	}
}

// The claims of a pool that forecasts are a document, so that they outlive its owner: one that dies
// takes those of the last claimsEvery with it.

// claimsKind is the kind of these documents. Their keys are those of pools.
const claimsKind = "poolClaims"

// claimsEvery is how often a pool's claims are written down at most, and how soon it is tried again
// to read them.
const claimsEvery = time.Minute

// remembers reports whether the claims of a pool are kept. The caller holds mu.
func (m *Manager) remembers(p *poolState) bool {
	return m.options.Claims != nil && p.pool.Spec.Ready.ForecastMost > 0 &&
		p.pool.State != sandpool.Deleting
}

// beginRemember reads and writes the claims of pools for which it is time. The caller holds mu.
func (m *Manager) beginRemember(now time.Time) {
	if m.keeping {
		return
	}
	var due []*poolState
	for _, p := range m.pools {
		if m.remembers(p) && (!p.ahead.whole || p.ahead.unsaved) &&
			now.Sub(p.ahead.tried) >= claimsEvery {
			due = append(due, p)
		}
	}
	if len(due) == 0 {
		return
	}
	m.keeping = m.spawn(func(ctx context.Context) {
		for _, p := range due {
			m.remember(ctx, p)
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		m.keeping = false
	})
}

// rememberAll writes the claims of all pools, as far as they are not written.
func (m *Manager) rememberAll(ctx context.Context) {
	m.mu.Lock()
	var all []*poolState
	for _, p := range m.pools {
		all = append(all, p)
	}
	m.mu.Unlock()
	for _, p := range all {
		m.remember(ctx, p)
	}
}

// remember makes the claims of a pool in memory whole, and writes them down if there are new ones.
func (m *Manager) remember(ctx context.Context, p *poolState) {
	m.mu.Lock()
	id := p.pool.ID
	m.mu.Unlock()
	if err := m.rememberPool(ctx, p, id.Key()); err != nil && ctx.Err() == nil {
		m.events.Observe(event.Event{Name: event.UseUnsaved, Pool: id, Err: err})
	}
}

func (m *Manager) rememberPool(ctx context.Context, p *poolState, key string) error {
	m.remembered.Lock()
	defer m.remembered.Unlock()
	m.mu.Lock()
	whole, needed := p.ahead.whole, m.remembers(p) && (!p.ahead.whole || p.ahead.unsaved)
	p.ahead.tried = time.Now()
	m.mu.Unlock()
	if !needed {
		return nil
	}
	if !whole {
		d, err := m.options.Claims.Document(ctx, claimsKind, key)
		if err != nil && sandpool.ClassOf(err) != sandpool.NotFound {
			return err
		}
		m.mu.Lock()
		if err == nil {
			p.ahead.Add(d.Text)
		}
		p.ahead.whole = true
		m.mu.Unlock()
	}
	m.mu.Lock()
	unsaved, text := p.ahead.unsaved, ""
	if unsaved {
		text, p.ahead.unsaved = p.ahead.Text(), false
	}
	m.mu.Unlock()
	if !unsaved {
		return nil
	}
	err := m.options.Claims.PutDocument(ctx, store.Document{Kind: claimsKind, Key: key, Text: text})
	if err != nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		p.ahead.unsaved = true
	}
	return err
}

// forgetClaims removes what is kept of the claims of a pool that is about to be gone.
func (m *Manager) forgetClaims(ctx context.Context, id sandpool.PoolID) error {
	if m.options.Claims == nil {
		return nil
	}
	m.remembered.Lock()
	defer m.remembered.Unlock()
	return m.options.Claims.DeleteDocument(ctx, claimsKind, id.Key())
}

// beginRemove deletes the row of a pool that has nothing left. The caller holds mu.
func (m *Manager) beginRemove(p *poolState) {
	p.removing = m.spawn(func(ctx context.Context) {
		m.rows.Lock()
		defer m.rows.Unlock()
		err := m.forgetClaims(ctx, p.pool.ID)
		if err == nil {
			err = m.fenced(p, m.store.DeletePool(ctx, p.pool.ID, p.epoch))
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		p.removing = false
		if err != nil {
			m.events.Observe(event.Event{Name: event.PoolUnsaved, Pool: p.pool.ID, Err: err})
			return // the next pulse tries again
		}
		m.events.Observe(event.Event{Name: event.PoolDeleted, Pool: p.pool.ID})
		delete(m.pools, p.pool.ID.Key())
		m.unpruned = true
		m.kick()
	})
}

// queued tells how a caller's wait for a slot of a full pool ended. The caller holds mu.
func (m *Manager) queued(p *poolState, began time.Time, err error) {
	outcome := "left"
	switch {
	case err == nil:
		outcome = "served"
	case sandpool.ClassOf(err) == sandpool.Full:
		outcome = "refused"
	}
	m.events.Observe(event.Event{Name: event.SessionQueued, Pool: p.pool.ID, Outcome: outcome,
		Took: time.Since(began)})
}
