package pool

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/event"
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
	if !m.adopt(ctx) {
		return nil
	}
	close(m.opened)
	beat, sweep := time.NewTicker(pulse), time.NewTicker(m.options.SweepInterval)
	defer beat.Stop()
	defer sweep.Stop()
	for ctx.Err() == nil {
		m.act()
		m.save(ctx)
		select {
		case <-ctx.Done():
		case <-m.wake:
		case <-beat.C:
			m.touch(ctx)
		case <-sweep.C:
			m.mu.Lock()
			m.spawn(m.sweep)
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
}

// act carries the plan out. Nothing in it blocks.
func (m *Manager) act() {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	for _, a := range plan(m.look(), now) {
		p, b := m.pools[a.pool], m.boxes[a.box]
		switch a.act {
		case actPrepare:
			m.beginPrepare(p)
		case actRefill:
			m.beginRefill(p)
		case actForgive:
			p.backoff.reset()
			p.pool.Problem, p.unsaved = "", true
			m.kick()
		case actRetire:
			m.retire(b, ended("%s", a.reason))
		case actStop:
			m.beginStop(b)
		case actRemove:
			m.beginRemove(p)
		}
	}
}

// look takes the snapshot. The caller holds mu.
func (m *Manager) look() snapshot {
	s := snapshot{starts: m.starts.free(), stops: m.stops, draining: m.draining}
	views := map[*poolState][]boxView{}
	for _, b := range m.boxes {
		views[b.pool] = append(views[b.pool], b.view())
	}
	for _, boxes := range views {
		slices.SortFunc(boxes, func(a, b boxView) int {
			return cmp.Or(a.since.Compare(b.since), cmp.Compare(a.id, b.id))
		})
	}
	s.strays = views[nil]
	for key, p := range m.pools {
		s.pools = append(s.pools, p.view(key, views[p]))
	}
	slices.SortFunc(s.pools, func(a, b poolView) int { return cmp.Compare(a.key, b.key) })
	return s
}

func (p *poolState) view(key string, boxes []boxView) poolView {
	claims := 0
	for _, e := range p.sessions {
		if e.claim != nil {
			claims++
		}
	}
	return poolView{key: key, pool: p.pool, boxes: boxes, claims: claims, removing: p.removing,
		burstAt: p.burstAt, claimedAt: p.claimedAt,
		prepared:  p.prep.done && p.prep.revision == p.pool.Revision,
		preparing: p.prep.running, prepareAt: p.prep.backoff.next(), refillAt: p.backoff.next()}
}

func (b *box) view() boxView {
	return boxView{id: b.row.ID, state: b.row.State, revision: b.row.Revision, session: b.row.Identifier != "",
		leases: b.leases, used: b.used, since: b.since, busy: b.starting || b.stopping, retryAt: b.backoff.next()}
}

// touch writes down when sessions were last used.
func (m *Manager) touch(ctx context.Context) {
	m.mu.Lock()
	used := map[sandpool.SandboxID]time.Time{}
	now := time.Now()
	for id, b := range m.boxes {
		if b.leases > 0 {
			b.used, b.dirty = now, true
		}
		if b.dirty && b.row.State == sandpool.Claimed {
			used[id] = b.used
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
		for id := range used {
			if b := m.boxes[id]; b != nil {
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
	if err := m.store.PutPool(ctx, row, nil); err != nil {
		if ctx.Err() == nil { // else it is close's to do
			m.events.Observe(event.Event{Name: event.PoolUnsaved, Pool: row.ID, Err: err})
		}
		m.mu.Lock()
		p.unsaved = true // the next pulse tries again
		m.mu.Unlock()
	}
}

// beginRemove deletes the row of a pool that has nothing left. The caller holds mu.
func (m *Manager) beginRemove(p *poolState) {
	p.removing = m.spawn(func(ctx context.Context) {
		m.rows.Lock()
		defer m.rows.Unlock()
		err := m.store.DeletePool(ctx, p.pool.ID)
		m.mu.Lock()
		defer m.mu.Unlock()
		p.removing = false
		if err != nil {
			m.events.Observe(event.Event{Name: event.PoolUnsaved, Pool: p.pool.ID, Err: err})
			return // the next pulse tries again
		}
		m.events.Observe(event.Event{Name: event.PoolDeleted, Pool: p.pool.ID})
		delete(m.pools, p.pool.ID.Key())
	})
}
