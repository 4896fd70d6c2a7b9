package pool

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/event"
	"github.com/sandpool/sandpool/internal/pool/lease"
	"github.com/sandpool/sandpool/internal/pool/meter"
	"github.com/sandpool/sandpool/internal/pool/plan"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/store"
)

// adopt learns what an earlier process left, and tries again until it can, or until another server
// turns out to have its name.
func (m *Manager) adopt(ctx context.Context) error {
	var pause backoff
	for {
		err := m.adoptOnce(ctx)
		if err == nil || ctx.Err() != nil || errors.Is(err, store.ErrNameTaken) {
			return errors.Join(err, ctx.Err())
		}
		pause.fail(time.Now())
		m.events.Observe(event.Event{Name: event.AdoptionFailed, Err: err, Retry: pause.next()})
		timer := time.NewTimer(time.Until(pause.next()))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

func (m *Manager) adoptOnce(ctx context.Context) error {
	holds, err := m.inherited(ctx)
	if err != nil {
		return fmt.Errorf("adopt: %w", err)
	}
	m.prune(ctx)
	if err := m.adoptPools(ctx, holds); err != nil {
		return fmt.Errorf("adopt: %w", err)
	}
	if err := m.adoptStrays(ctx); err != nil {
		return fmt.Errorf("adopt: %w", err)
	}
	return nil
}

// inherited says which pools are this Manager's from the beginning: all if it is alone with its
// store, or those that it had and those of servers that are known to be gone.
func (m *Manager) inherited(ctx context.Context) (holds []store.Hold, err error) {
	if !m.shared() {
		return m.store.Holds(ctx)
	}
	if err := m.enrol(ctx); err != nil {
		return nil, err
	}
	if err := m.survey(ctx); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range lease.Next(m.view()) {
		if a.To == m.options.Owner {
			holds = append(holds, a.Hold)
		}
	}
	return holds, nil
}

// adoptPools makes this Manager the owner of those of the pools that nobody else takes, and learns
// what they have.
func (m *Manager) adoptPools(ctx context.Context, holds []store.Hold) error {
	mine, err := m.ownPools(ctx, holds)
	if err != nil || len(mine) == 0 {
		return err
	}
	// Now nobody else changes what these pools have.
	pools, err := m.store.Pools(ctx)
	if err != nil {
		return err
	}
	all, err := m.store.Sandboxes(ctx)
	if err != nil {
		return err
	}
	found, err := m.list(ctx)
	if err != nil {
		return err
	}
	losses, err := m.store.Losses(ctx)
	if err != nil {
		return err
	}
	pools = slices.DeleteFunc(pools, func(p sandpool.Pool) bool { return mine[p.ID.Key()] == 0 })
	rows := slices.DeleteFunc(all, func(s sandpool.Sandbox) bool { return mine[s.Pool.Key()] == 0 })
	reasons := m.judge(ctx, pools, rows, found)
	if err := m.options.Meter.Resume(ctx, resumed(rows, found, mine)); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range pools {
		if p.State == sandpool.Failed {
			// it is tried again now, and may have been mended
			p.State, p.Problem = sandpool.InProgress, ""
		}
		s := m.newPoolState(p)
		s.epoch = mine[p.ID.Key()]
		m.pools[p.ID.Key()] = s
		if m.shared() {
			m.owned.holds[p.ID.Key()] = store.Hold{Pool: p.ID, Owner: m.options.Owner,
				Epoch: s.epoch}
			m.events.Observe(event.Event{Name: event.PoolTaken, Pool: p.ID})
		}
	}
	for _, l := range losses {
		if p := m.pools[l.Pool.Key()]; p != nil && mine[l.Pool.Key()] != 0 {
			p.losses[l.Identifier] = &l
		}
	}
	for i, row := range rows {
		m.adoptRow(row, reasons[i])
	}
	m.kick()
	return nil
}

// adoptStrays finds what the engine has and the store does not know.
func (m *Manager) adoptStrays(ctx context.Context) error {
	found, err := m.list(ctx)
	if err != nil {
		return err
	}
	rows, err := m.store.Sandboxes(ctx)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.strays(found, rows)
	return nil
}

// strays makes states, to be stopped, of sandboxes that memory does not have and should: of the
// engine's those without a row, and the rows of this Manager's own pools. The caller holds mu, and
// has asked the engine before the store.
func (m *Manager) strays(found map[sandpool.SandboxID]bool, rows []sandpool.Sandbox) {
	known := map[sandpool.SandboxID]bool{}
	for _, row := range rows {
		known[row.ID] = true
		if p := m.pools[row.Pool.Key()]; p != nil && m.sandboxes[row.ID] == nil {
			m.adoptStray(row, p)
		}
	}
	for id := range found {
		if !known[id] && m.sandboxes[id] == nil {
			m.adoptStray(sandpool.Sandbox{ID: id, State: sandpool.Starting}, nil)
		}
	}
}

// list is what the engine knows, with whether it runs.
func (m *Manager) list(ctx context.Context) (map[sandpool.SandboxID]bool, error) {
	list, err := m.engine.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list sandboxes: %w", err)
	}
	found := map[sandpool.SandboxID]bool{}
	for _, f := range list {
		found[f.ID] = f.Running
	}
	return found, nil
}

// checkTimeout bounds the check of a ready sandbox that is adopted.
const checkTimeout = 5 * time.Second

// judge says for each row why its sandbox must not be used; "" means that it may.
func (m *Manager) judge(ctx context.Context, pools []sandpool.Pool, rows []sandpool.Sandbox,
	running map[sandpool.SandboxID]bool) []string {
	byKey := map[string]sandpool.Pool{}
	for _, p := range pools {
		byKey[p.ID.Key()] = p
	}
	reasons := make([]string, len(rows))
	var wait sync.WaitGroup
	turns := make(chan struct{}, plan.MaxChecks)
	for i, row := range rows {
		reasons[i] = unfit(byKey[row.Pool.Key()], row, running[row.ID])
		guest, err := m.options.Guest(byKey[row.Pool.Key()])
		if reasons[i] != "" || row.State != sandpool.Ready || err != nil || guest.Alive == nil {
			continue
		}
		turns <- struct{}{}
		wait.Go(func() {
			defer func() { <-turns }()
			ctx, cancel := context.WithTimeout(ctx, checkTimeout)
			defer cancel()
			if err := guest.Alive(ctx, row, m.dialer(row)); err != nil {
				reasons[i] = "the sandbox did not answer after a restart: " + err.Error()
			}
		})
	}
	wait.Wait()
	return reasons
}

// reasonGone is the end of a sandbox that a restarted server does not find running.
const reasonGone = "the sandbox ended while no server ran"

// unfit judges a row by what is written down.
func unfit(p sandpool.Pool, row sandpool.Sandbox, running bool) string {
	switch {
	case row.State == sandpool.Stopping:
		return row.Reason
	case row.State == sandpool.Starting:
		return "the server ended while the sandbox started"
	case !running:
		return reasonGone
	case p.State == sandpool.Deleting:
		return plan.ReasonDeleted
	case row.State == sandpool.Ready && row.Revision != p.Revision:
		return plan.ReasonStale
	}
	return ""
}

// resumed returns the sessions among the rows, with the epochs of their pools by key.
func resumed(rows []sandpool.Sandbox, running map[sandpool.SandboxID]bool,
	epochs map[string]int64) (list []meter.Resumed) {
	for _, row := range rows {
		// One that stops without having started has served nobody.
		served := row.State == sandpool.Claimed ||
			row.State == sandpool.Stopping && row.Handle != nil
		if row.Identifier != "" && served {
			list = append(list, meter.Resumed{Row: row, Epoch: epochs[row.Pool.Key()],
				Lives: row.State == sandpool.Claimed && running[row.ID]})
		}
	}
	return list
}

// adoptRow makes the state of a row. Its idle time begins now: nobody could use the session
// while no server ran. The caller holds mu.
func (m *Manager) adoptRow(row sandpool.Sandbox, reason string) {
	now := time.Now()
	p := m.pools[row.Pool.Key()]
	b := newSandboxState(m.life, p, row, now)
	m.sandboxes[row.ID] = b
	if row.Identifier == "" && row.Revision != p.pool.Revision {
		p.rolling = true // the earlier process was cut off in a change
	}
	if reason != "" || row.State == sandpool.Stopping {
		if row.State != sandpool.Stopping {
			cause := ended("%s", reason)
			if row.State == sandpool.Claimed && reason == reasonGone {
				p.mourn(b, cause, now)
			}
			m.retire(b, cause)
			m.events.Observe(event.Event{Name: event.SandboxDropped, Pool: row.Pool,
				Sandbox: row.ID, Outcome: string(row.State), Err: errors.New(reason)})
		}
		return
	}
	m.events.Observe(event.Event{Name: event.SandboxAdopted, Pool: row.Pool, Sandbox: row.ID,
		Outcome: string(row.State)})
	if row.State == sandpool.Claimed {
		p.sessions[row.Identifier] = &entry{state: b}
		b.dirty = true
		m.shares.Serve(row.ID, b.tenant(), true)
	}
	m.watch(b)
	b.checkAt = now
}

// adoptStray makes the state of a sandbox that is to be stopped. The caller holds mu.
func (m *Manager) adoptStray(row sandpool.Sandbox, p *poolState) {
	m.events.Observe(event.Event{Name: event.SandboxStray, Pool: row.Pool, Sandbox: row.ID})
	row.Identifier = "" // nobody is served by it
	if row.State != sandpool.Stopping {
		row.State = sandpool.Starting
	}
	b := newSandboxState(m.life, p, row, time.Now())
	m.sandboxes[row.ID] = b
	m.retire(b, ended("the server does not know the sandbox"))
}

// shareSweeping is how many times as long as a sweep took there is none after it: where there are
// very many sandboxes, to list them is work for the engine and for the store.
const (
	shareSweeping = 50
	longestSweep  = 10 * time.Second // that counts
)

// beginSweep begins a sweep, unless the last one has taken too long. The caller holds mu.
func (m *Manager) beginSweep() {
	if m.sweeping || time.Now().Before(m.sweepAt) {
		return
	}
	m.sweeping = m.spawn(func(ctx context.Context) {
		began := time.Now()
		ok := m.sweep(ctx)
		m.mu.Lock()
		defer m.mu.Unlock()
		m.sweeping = false
		if ok {
			took := min(time.Since(began), longestSweep)
			m.sweepAt = time.Now().Add(shareSweeping * took)
		}
	})
}

// sweep compares memory, store and engine: what nobody knows is stopped, and a
// session whose sandbox is gone ends. It sees what the watchers missed. It reports whether it could
// look.
func (m *Manager) sweep(ctx context.Context) bool {
	m.mu.Lock()
	var live []*sandboxState
	for _, b := range m.sandboxes {
		if b.row.State == sandpool.Ready || b.row.State == sandpool.Claimed {
			live = append(live, b)
		}
	}
	m.mu.Unlock()
	// Memory was read before the engine, so that a state in live must be found; and memory is
	// read again after it, so that a sandbox found must have a state.
	found, err := m.list(ctx)
	if err != nil {
		m.events.Observe(event.Event{Name: event.SweepFailed, Err: err})
		return false
	}
	rows, err := m.store.Sandboxes(ctx)
	if err != nil {
		m.events.Observe(event.Event{Name: event.SweepFailed, Err: err})
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unpruned = true // of an attempt that failed
	for _, b := range live {
		if !found[b.row.ID] {
			m.died(b, sandbox.Exit{Reason: sandbox.Killed})
		}
	}
	m.strays(found, rows)
	return true
}

// ownPools takes those of the pools that nobody else takes, and returns their epochs by their keys.
func (m *Manager) ownPools(ctx context.Context, holds []store.Hold) (map[string]int64, error) {
	mine := map[string]int64{}
	for _, h := range holds {
		m.mu.Lock()
		skip := m.pools[h.Pool.Key()] != nil || m.overdue()
		m.mu.Unlock()
		if skip {
			continue
		}
		epoch, err := m.store.Own(ctx, h.Pool, m.owner(), h.Epoch)
		switch {
		case err == nil:
			mine[h.Pool.Key()] = epoch
		case errors.Is(err, store.ErrNotOwner): // somebody else was quicker
		case sandpool.ClassOf(err) != sandpool.NotFound: // it was deleted meanwhile
			return nil, err
		}
	}
	return mine, nil
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
	m.options.Keep(p.pool.ID, nil)
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
		if b.pool != p {
			continue
		}
		if b.leases == 0 || !p.keeps {
			b.end(cause)
		}
		m.options.Meter.Left(id)
		m.shares.Ended(id)
		delete(m.sandboxes, id)
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
