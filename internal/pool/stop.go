package pool

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/event"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/store"
)

// markStopping makes the store say what memory knows: the sandbox is on its way out.
func (m *Manager) markStopping(ctx context.Context, b *sandboxState) error {
	if err := m.recordLoss(ctx, b); err != nil {
		return err
	}
	m.mu.Lock()
	id, reason, epoch := b.row.ID, b.row.Reason, b.pool.ownEpoch()
	m.mu.Unlock()
	err := m.fenced(b.pool, m.store.Stopping(ctx, id, reason, epoch))
	if err != nil && sandpool.ClassOf(err) != sandpool.NotFound {
		return fmt.Errorf("end sandbox %q: %w", id, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if b.pool != nil && b.row.Identifier != "" && !b.left {
		b.left = true
		b.pool.line.Free()
	}
	return nil
}

// beginStop stops a retired sandbox in a goroutine. The caller holds mu.
func (m *Manager) beginStop(b *sandboxState) {
	b.stopping = true
	// One that is given time does next to nothing meanwhile, and must not hold up others.
	turn := 1
	if m.graceOf(b) > 0 {
		turn = 0
	}
	m.stops += turn
	if !m.spawn(func(ctx context.Context) { m.stop(ctx, b, turn) }) {
		b.stopping = false
		m.stops -= turn
	}
}

// graceOf is how long the sandbox of b may take to end by itself. One that nobody had claimed has
// nothing to bring to an end. The caller holds mu.
func (m *Manager) graceOf(b *sandboxState) time.Duration {
	if b.pool == nil || b.row.Identifier == "" {
		return 0
	}
	return b.pool.guest.Grace
}

// stop is one attempt to give back everything of a sandbox, row last. turn is what it counts for
// among the attempts in progress.
func (m *Manager) stop(ctx context.Context, b *sandboxState, turn int) {
	m.mu.Lock()
	grace := m.graceOf(b)
	m.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, m.options.StopTimeout+grace)
	defer cancel()
	err := m.giveBack(ctx, b, grace)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stops -= turn
	b.stopping = false
	if err == nil {
		m.events.Observe(event.Event{Name: event.SandboxStopped, Pool: b.row.Pool,
			Sandbox: b.row.ID})
		m.forget(b)
		m.kick()
		return
	}
	b.backoff.fail(time.Now())
	if ctx.Err() == nil {
		m.events.Observe(event.Event{Name: event.SandboxNotStopped, Pool: b.row.Pool,
			Sandbox: b.row.ID, Err: err, Retry: b.backoff.next()})
	}
}

func (m *Manager) giveBack(ctx context.Context, b *sandboxState, grace time.Duration) error {
	if err := m.markStopping(ctx, b); err != nil {
		return err
	}
	m.mu.Lock()
	counts := b.counts()
	m.mu.Unlock()
	if counts { // the engine forgets it with the sandbox
		m.tally(ctx, b)
	}
	if err := m.settle(ctx, b); err != nil {
		return err
	}
	h := handleOf(b.row)
	if grace == 0 {
		h.Data = nil // so it is killed at once
	}
	if err := m.engine.Stop(ctx, h); err != nil {
		return fmt.Errorf("stop sandbox: %w", err)
	}
	if err := m.fenced(b.pool, m.store.Remove(ctx, b.row.ID, b.pool.ownEpoch())); err != nil {
		return fmt.Errorf("remove the sandbox's row: %w", err)
	}
	return nil
}

// settle makes the record of a session whole, before nothing of its sandbox is left.
func (m *Manager) settle(ctx context.Context, b *sandboxState) error {
	if b.row.Identifier == "" {
		return nil
	}
	if s, err := m.Stats(ctx, b.row); err == nil { // otherwise the last measurement counts
		m.options.Meter.Measured(b.row.ID, s)
	}
	return m.options.Meter.Settle(ctx, b.row.ID)
}

// watch retires the sandbox when it ends by itself. The caller holds mu.
func (m *Manager) watch(b *sandboxState) {
	h := handleOf(b.row)
	m.spawn(func(life context.Context) {
		ctx, cancel := context.WithCancel(life)
		defer cancel()
		defer context.AfterFunc(b.ctx, cancel)()
		exit, err := m.await(ctx, b, h)
		if err != nil {
			return // it was retired, or Run ended
		}
		m.mu.Lock()
		ready, cause := b.row.State == sandpool.Ready, b.endedBy(exit)
		m.died(b, exit)
		m.mu.Unlock()
		if ready {
			m.quote(life, b, cause)
		}
	})
	m.attend(b)
}

// await is Wait, repeated while the engine cannot say.
func (m *Manager) await(ctx context.Context, b *sandboxState,
	h sandbox.Handle) (sandbox.Exit, error) {
	var pause backoff
	for {
		exit, err := m.engine.Wait(ctx, h)
		if err == nil || ctx.Err() != nil {
			return exit, errors.Join(err, ctx.Err())
		}
		pause.fail(time.Now())
		m.events.Observe(event.Event{Name: event.SandboxUnwatched, Pool: b.row.Pool, Sandbox: h.ID,
			Err: err, Retry: pause.next()})
		timer := time.NewTimer(time.Until(pause.next()))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return exit, ctx.Err()
		}
	}
}

// StopAll ends every session and every sandbox, and returns when nothing is
// left or ctx ends. What runs and nobody knows ends too: no sweep may have met it yet, and none
// will. From then on the Manager gives no session. Run must be running.
func (m *Manager) StopAll(ctx context.Context) error {
	if err := m.ready(ctx); err != nil {
		return err
	}
	m.mu.Lock()
	m.draining = true
	for _, p := range m.pools {
		p.line.FreeAll()
		p.cancelClaims(ended("the server is stopping its sessions"))
	}
	for _, b := range m.sandboxes {
		m.retire(b, ended("the server is stopping its sessions"))
	}
	m.mu.Unlock()
	unknown := m.adoptStrays(ctx)
	if unknown != nil {
		unknown = fmt.Errorf("stop sandboxes that nobody knows: %w", unknown)
	}
	m.mu.Lock()
	if len(m.sandboxes) == 0 {
		m.mu.Unlock()
		return unknown
	}
	if m.empty == nil {
		m.empty = make(chan struct{})
	}
	empty, life := m.empty, m.life
	m.mu.Unlock()
	select {
	case <-empty:
		return unknown
	case <-ctx.Done():
		return fmt.Errorf("stop all sandboxes: %w", ctx.Err())
	case <-life.Done():
		return errors.New("stop all sandboxes: the server is shutting down")
	}
}

// cancelClaims ends the claims in progress. The caller holds Manager.mu.
func (p *poolState) cancelClaims(cause *sandpool.Error) {
	for _, e := range p.sessions {
		if e.claim != nil {
			e.claim.cancel(cause)
		}
	}
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
	if _, known := m.owned.holds[id.Key()]; p == nil && known {
		m.mu.Unlock()
		return store.NotOwner(id)
	}
	if p == nil || p.pool.State == sandpool.Deleting {
		m.mu.Unlock()
		return nil
	}
	next := p.pool.Clone()
	m.mu.Unlock()
	next.State, next.Problem, next.UpdatedAt = sandpool.Deleting, "", time.Now()
	if m.options.Author != nil {
		next.UpdatedBy = m.options.Author(ctx)
	}
	if err := m.fenced(p, m.store.PutPool(ctx, next, sandpool.Secrets{}, p.epoch)); err != nil {
		return fmt.Errorf("delete pool %q: %w", id.Name, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	p.pool, p.unsaved = next, false
	if p.prep.running {
		p.prep.cancel()
	}
	p.prep.change()
	m.options.Keep(id, nil)
	cause := ended("the session pool was deleted")
	p.line.FreeAll()
	p.cancelClaims(cause)
	for _, b := range m.sandboxes {
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
		"The session pool %q is being deleted. Wait until it is gone, then create it again.",
		id.Name)
	e.RetryAfter = 2 * time.Second
	return e
}
