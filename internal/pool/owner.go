package pool

import (
	"context"
	"errors"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/event"
	"github.com/sandpool/sandpool/internal/store"
)

// Ownership of a pool lasts for ownTime after the last renewal, which comes every renewTime. So a
// pool whose server has died has another one after some 20 s, and a renewal may fail twice.
const (
	ownTime   = 15 * time.Second
	renewTime = 5 * time.Second
)

// alone is the owner's name in the store of a server that shares it with none.
const alone = "alone"

func (m *Manager) owner() string {
	if m.options.Owner == "" {
		return alone
	}
	return m.options.Owner
}

// overdue reports whether the ownership could not be renewed in time. Another server may serve the
// pool's sessions then, and this one learns of it when it reaches the store again. Until then it
// serves none from memory. One that is alone goes on. The caller holds mu.
func (m *Manager) overdue(p *poolState) bool {
	return m.options.Owner != "" && !time.Now().Before(p.until)
}

// keepOwning renews the ownership of this Manager's pools, drops those that somebody else has
// taken, and takes those that nobody owns any more.
func (m *Manager) keepOwning(ctx context.Context) {
	m.mu.Lock()
	if time.Since(m.renewed) < renewTime || m.owning {
		m.mu.Unlock()
		return
	}
	m.renewed = time.Now()
	m.owning = m.spawn(func(ctx context.Context) {
		err := errors.Join(m.renew(ctx, time.Now().Add(ownTime)), m.takeOver(ctx))
		m.mu.Lock()
		defer m.mu.Unlock()
		m.owning = false
		if err != nil && ctx.Err() == nil {
			m.events.Observe(event.Event{Name: event.OwnershipUnsaved, Err: err})
		}
	})
	m.mu.Unlock()
}

// renew moves the time until which this Manager owns its pools.
func (m *Manager) renew(ctx context.Context, until time.Time) error {
	m.mu.Lock()
	epochs := map[sandpool.PoolID]int64{}
	for _, p := range m.pools {
		epochs[p.pool.ID] = p.epoch
	}
	m.mu.Unlock()
	lost, err := m.store.Renew(ctx, epochs, until)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, epoch := range epochs {
		if p := m.pools[id.Key()]; p != nil && p.epoch == epoch {
			p.until = until
		}
	}
	for _, id := range lost {
		if p := m.pools[id.Key()]; p != nil && p.epoch == epochs[id] && !p.removing {
			m.disown(p)
		}
	}
	return nil
}

// takeOver adopts the pools of the store that this Manager does not have and may own.
func (m *Manager) takeOver(ctx context.Context) error {
	pools, err := m.store.Pools(ctx)
	if err != nil {
		return err
	}
	m.mu.Lock()
	var others []sandpool.Pool
	for _, p := range pools {
		if m.pools[p.ID.Key()] == nil {
			others = append(others, p)
		}
	}
	m.mu.Unlock()
	if len(others) == 0 {
		m.setForeign(nil)
		return nil
	}
	// A Put that makes a pool has the row before memory: it must not be taken for a pool without
	// an owner.
	m.rows.Lock()
	defer m.rows.Unlock()
	return m.adoptPools(ctx, others)
}

// ownPools takes those of the pools that it may, and says which belong to somebody else.
func (m *Manager) ownPools(ctx context.Context, pools []sandpool.Pool) (mine map[string]int64,
	foreign []sandpool.PoolID, err error) {
	mine = map[string]int64{}
	for _, p := range pools {
		m.mu.Lock()
		have := m.pools[p.ID.Key()] != nil
		m.mu.Unlock()
		if have {
			continue
		}
		now := time.Now()
		epoch, err := m.store.Own(ctx, p.ID, m.owner(), now, now.Add(ownTime))
		switch {
		case err == nil:
			mine[p.ID.Key()] = epoch
		case errors.Is(err, store.ErrNotOwner):
			foreign = append(foreign, p.ID)
		case sandpool.ClassOf(err) != sandpool.NotFound: // it was deleted meanwhile
			return nil, nil, err
		}
	}
	return mine, foreign, nil
}

// setForeign notes which pools exist and are another server's.
func (m *Manager) setForeign(ids []sandpool.PoolID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.foreign = map[string]bool{}
	for _, id := range ids {
		m.foreign[id.Key()] = true
	}
}

// fenced returns err, and forgets the pool if that says that somebody else owns it.
func (m *Manager) fenced(p *poolState, err error) error {
	if p != nil && errors.Is(err, store.ErrNotOwner) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.disown(p)
	}
	return err
}

// disown forgets a pool that somebody else owns now, and its sandboxes: they are the new owner's,
// who has adopted them. The caller holds mu.
func (m *Manager) disown(p *poolState) {
	key := p.pool.ID.Key()
	if m.pools[key] != p {
		return
	}
	m.events.Observe(event.Event{Name: event.PoolLost, Pool: p.pool.ID})
	delete(m.pools, key)
	m.foreign[key] = true
	cause := &sandpool.Error{}
	errors.As(store.NotOwner(p.pool.ID), &cause)
	p.lost = true
	p.line.FreeAll()
	p.cancelClaims(cause)
	if p.prep.running {
		p.prep.cancel()
	}
	p.prep.change()
	for id, b := range m.sandboxes {
		if b.pool == p {
			b.end(cause)
			delete(m.sandboxes, id)
		}
	}
	m.tellEmpty()
}

// ownEpoch is what writes for a sandbox name. A stray has no pool, and no row.
func (p *poolState) ownEpoch() int64 {
	if p == nil {
		return 0
	}
	return p.epoch
}
