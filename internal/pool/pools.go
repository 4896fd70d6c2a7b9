package pool

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/sandpool/sandpool"
)

// Put creates the pool, or changes it to what want says, and returns it as
// stored. It does not wait for the pool's sandboxes: State goes from
// InProgress to Succeeded or Failed when the template is prepared. A change of what sandboxes
// are started from makes a new revision; sessions keep the sandboxes they have.
func (m *Manager) Put(ctx context.Context, want sandpool.Pool) (sandpool.Pool, error) {
	if err := checkPool(want); err != nil {
		return sandpool.Pool{}, err
	}
	if err := m.ready(ctx); err != nil {
		return sandpool.Pool{}, err
	}
	m.rows.Lock()
	defer m.rows.Unlock()
	m.mu.Lock()
	next, err := m.merge(want, time.Now())
	m.mu.Unlock()
	if err != nil {
		return sandpool.Pool{}, err
	}
	if err := m.store.PutPool(ctx, next); err != nil {
		return sandpool.Pool{}, fmt.Errorf("put pool %q: %w", want.ID.Name, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.pools[next.ID.Key()]
	if p == nil {
		p = newPoolState(next)
		m.pools[next.ID.Key()] = p
	}
	m.adoptPool(p, next)
	return clonePool(p.pool), nil
}

// adoptPool makes next the pool. The store has it already, but a preparation may have
// ended since merge looked. The caller holds rows and mu.
func (m *Manager) adoptPool(p *poolState, next sandpool.Pool) {
	old, stored := p.pool, next
	same := sameTemplate(old, next)
	if same {
		next.Revision, next.Template = old.Revision, old.Template
	} else {
		next.Revision = max(next.Revision, old.Revision+1)
	}
	if same && old.State != sandpool.Failed {
		next.State, next.Problem = old.State, old.Problem
	} else {
		p.prep.backoff.reset()
		p.backoff.reset()
		p.prep.done, p.prep.err = false, nil
		if p.prep.running {
			p.prep.cancel()
		}
		p.prep.change()
	}
	p.pool = next
	p.unsaved = next.Revision != stored.Revision || next.Template != stored.Template ||
		next.State != stored.State || next.Problem != stored.Problem
	m.kick()
}

func checkPool(p sandpool.Pool) error {
	switch {
	case p.ID.Name == "":
		return sandpool.Errorf(sandpool.Invalid, "", "name", "A session pool needs a name.")
	case p.MaxSessions < 1:
		return sandpool.Errorf(sandpool.Invalid, "", "maxConcurrentSessions", "The maximum of sessions must be at least 1.")
	case p.ReadySessions < 0:
		return sandpool.Errorf(sandpool.Invalid, "", "readySessionInstances", "The number of ready sessions must not be negative.")
	case p.Cooldown <= 0:
		return sandpool.Errorf(sandpool.Invalid, "", "cooldownPeriodInSeconds", "The cooldown must be longer than zero.")
	}
	return nil
}

// merge is want with what the pool it replaces decides. The caller holds mu.
func (m *Manager) merge(want sandpool.Pool, now time.Time) (sandpool.Pool, error) {
	next := clonePool(want)
	next.State, next.Problem, next.Revision, next.Template = sandpool.InProgress, "", 1, ""
	next.CreatedAt, next.UpdatedAt = now, now
	p := m.pools[want.ID.Key()]
	if p == nil {
		return next, nil
	}
	old := p.pool
	if old.State == sandpool.Deleting {
		return next, BeingDeleted(want.ID, "sessionPool")
	}
	next.ID, next.CreatedAt, next.Revision = old.ID, old.CreatedAt, old.Revision
	if !sameTemplate(old, next) {
		next.Revision++
		return next, nil
	}
	next.Template = old.Template
	if old.State != sandpool.Failed {
		next.State, next.Problem = old.State, old.Problem
	}
	return next, nil
}

// sameTemplate reports whether sandboxes of a may serve as sandboxes of b.
func sameTemplate(a, b sandpool.Pool) bool {
	return a.ContainerType == b.ContainerType && a.Image == b.Image && a.Network == b.Network && a.Resources == b.Resources
}

func clonePool(p sandpool.Pool) sandpool.Pool {
	p.Tags = maps.Clone(p.Tags)
	return p
}

// Pool returns a pool, or an error of class NotFound.
func (m *Manager) Pool(ctx context.Context, id sandpool.PoolID) (sandpool.Pool, error) {
	if err := m.ready(ctx); err != nil {
		return sandpool.Pool{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	p, err := m.pool(id)
	if err != nil {
		return sandpool.Pool{}, err
	}
	return clonePool(p.pool), nil
}

// Pools returns all pools, ordered by PoolID.Key.
func (m *Manager) Pools(ctx context.Context) ([]sandpool.Pool, error) {
	if err := m.ready(ctx); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []sandpool.Pool
	for _, p := range m.pools {
		list = append(list, clonePool(p.pool))
	}
	slices.SortFunc(list, func(a, b sandpool.Pool) int { return cmp.Compare(a.ID.Key(), b.ID.Key()) })
	return list, nil
}

// Delete ends the pool: its sessions end at once, State is Deleting while its
// sandboxes are stopped, and then the pool is gone. Deleting it again is not an error.
func (m *Manager) Delete(ctx context.Context, id sandpool.PoolID) error {
	if err := m.ready(ctx); err != nil {
		return err
	}
	m.rows.Lock()
	defer m.rows.Unlock()
	m.mu.Lock()
	p := m.pools[id.Key()]
	if p == nil || p.pool.State == sandpool.Deleting {
		m.mu.Unlock()
		return nil
	}
	next := clonePool(p.pool)
	m.mu.Unlock()
	next.State, next.Problem, next.UpdatedAt = sandpool.Deleting, "", time.Now()
	if err := m.store.PutPool(ctx, next); err != nil {
		return fmt.Errorf("delete pool %q: %w", id.Name, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	p.pool, p.unsaved = next, false
	if p.prep.running {
		p.prep.cancel()
	}
	p.prep.change()
	cause := ended("the session pool was deleted")
	p.cancelClaims(cause)
	for _, b := range m.boxes {
		if b.pool == p {
			m.retire(b, cause)
		}
	}
	m.kick()
	return nil
}

// BeingDeleted is the error of a call for a pool that is on its way out; target is how the
// caller named it.
func BeingDeleted(id sandpool.PoolID, target string) error {
	e := sandpool.Errorf(sandpool.Conflict, "SessionPoolIsBeingDeleted", target,
		"The session pool %q is being deleted. Wait until it is gone, then create it again.", id.Name)
	e.RetryAfter = 2 * time.Second
	return e
}
