package pool

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/event"
	"github.com/sandpool/sandpool/internal/pool/plan"
	"github.com/sandpool/sandpool/internal/pool/quota"
	"github.com/sandpool/sandpool/internal/store"
)

// claim is a claim in progress, on which every caller of its identifier waits. It
// belongs to Run, not to the request that caused it: a caller that gives up leaves it to the
// others.
type claim struct {
	cancel context.CancelCauseFunc
	by     string        // who asked first
	done   chan struct{} // closed when the fields below are set

	state     *sandboxState
	outcome   sandpool.ClaimOutcome
	claimTime time.Duration
	startTime time.Duration
	steps     []sandpool.Step
	err       error

	beyondQuota bool // err says that by has as many sessions as it may
}

// Acquire gives the identifier its sandbox: the one it holds, or a ready
// one, or one that is started now. In a pool with its maximum of sessions the caller waits
// for a slot as long as the pool's queue lets it; then that is an error of class Full. The session
// stays alive until the lease is released and the pool's cooldown has passed.
func (m *Manager) Acquire(ctx context.Context, id sandpool.PoolID,
	identifier sandpool.Identifier) (*Lease, error) {
	if err := m.ready(ctx); err != nil {
		return nil, err
	}
	began := time.Now()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	p, err := m.pool(id)
	if err != nil {
		m.mu.Unlock()
		return nil, err
	}
	if b := p.live(identifier); b != nil {
		p.claims[sandpool.ClaimExisting]++
		lease := m.lease(b, sandpool.ClaimExisting)
		m.mu.Unlock()
		lease.claim.Took = time.Since(began)
		return lease, nil
	}
	if lost := p.tell(identifier, began); lost != nil {
		m.mu.Unlock()
		m.forgetLoss(ctx, p, identifier)
		return nil, lost
	}
	mark := p.line.Mark()
	if p.line.Len() > 0 && !p.claiming(identifier) {
		return m.lineUp(ctx, p, identifier, mark)
	}
	lease, err := m.attempt(ctx, p, identifier)
	if sandpool.ClassOf(err) != sandpool.Full {
		return lease, err
	}
	m.mu.Lock()
	return m.lineUp(ctx, p, identifier, mark)
}

// attempt is one claim, or what it finds that another caller began. The caller holds mu, which
// it gives up.
func (m *Manager) attempt(ctx context.Context, p *poolState,
	identifier sandpool.Identifier) (*Lease, error) {
	c, first, err := m.join(ctx, p, identifier)
	m.mu.Unlock()
	if err != nil {
		return nil, err
	}
	select {
	case <-c.done:
		if c.beyondQuota && !first && c.by != m.options.By(ctx) { // another principal's
			m.mu.Lock()
			return m.attempt(ctx, p, identifier)
		}
		return m.take(p, c, first)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// claiming reports whether a claim for the identifier is in progress. The caller holds mu.
func (p *poolState) claiming(identifier sandpool.Identifier) bool {
	e := p.sessions[identifier]
	return e != nil && e.claim != nil
}

// queueOf is how a pool's callers may wait for a slot. The caller holds mu.
func (m *Manager) queueOf(p *poolState) sandpool.Queue {
	if q := p.pool.Spec.Queue; q != nil {
		return *q
	}
	return m.options.Queue
}

// lineUp waits for a slot of a full pool, behind those who came before. A question for a slot
// that began at mark was in vain. The caller holds mu, which it gives up.
func (m *Manager) lineUp(ctx context.Context, p *poolState, identifier sandpool.Identifier,
	mark int64) (_ *Lease, err error) {
	q, began := m.queueOf(p), time.Now()
	if p.line.Len() >= q.Length {
		defer m.mu.Unlock()
		return nil, m.refuse(p, identifier)
	}
	defer func() { m.queued(p, began, err); m.mu.Unlock() }()
	place := p.line.Join(identifier)
	defer func() { p.line.Leave(place) }()
	timer := time.NewTimer(q.Wait)
	defer timer.Stop()
	for {
		turn := p.line.Wait(place, mark)
		m.mu.Unlock()
		var err error
		late := false
		select {
		case <-turn:
		case <-timer.C:
			late = true
		case <-ctx.Done():
			err = ctx.Err()
		case <-m.life.Done():
			err = unavailable("The server is shutting down.", nil)
		}
		m.mu.Lock()
		switch {
		case err != nil:
			return nil, err
		case late:
			return nil, m.refuse(p, identifier)
		}
		if now, err := m.pool(p.pool.ID); err != nil {
			return nil, err // deleted, or somebody else's by now
		} else if now != p {
			return nil, unavailable("The session pool was created anew; try again.", nil)
		}
		if b := p.live(identifier); b != nil {
			p.claims[sandpool.ClaimExisting]++
			return m.lease(b, sandpool.ClaimExisting), nil
		}
		mark = p.line.Mark()
		lease, err := m.attempt(ctx, p, identifier)
		m.mu.Lock()
		if sandpool.ClassOf(err) != sandpool.Full {
			return lease, err
		}
	}
}

// refuse is the end of a claim for which there is no slot. The caller holds mu.
func (m *Manager) refuse(p *poolState, identifier sandpool.Identifier) error {
	p.claims[sandpool.ClaimFull]++
	m.events.Observe(event.Event{Name: event.SessionRefused, Pool: p.pool.ID})
	return m.full(p, identifier)
}

// take turns a finished claim into a lease of one caller.
func (m *Manager) take(p *poolState, c *claim, first bool) (*Lease, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c.err != nil {
		return nil, c.err
	}
	if c.state.row.State != sandpool.Claimed {
		return nil, context.Cause(c.state.ctx)
	}
	outcome := c.outcome
	if !first {
		outcome = sandpool.ClaimExisting
	}
	p.claims[outcome]++
	lease := m.lease(c.state, outcome)
	lease.claim.Took, lease.claim.Start = c.claimTime, c.startTime
	lease.claim.Steps = c.steps
	return lease, nil
}

// join returns the claim in progress for the identifier, and begins one if
// there is none; first says so. The caller holds mu.
func (m *Manager) join(asked context.Context, p *poolState, identifier sandpool.Identifier) (
	c *claim, first bool, err error) {
	if p.pool.State == sandpool.Deleting {
		return nil, false, BeingDeleted(p.pool.ID, "sessionPool")
	}
	if m.draining {
		return nil, false, unavailable("The server is stopping its sessions.", nil)
	}
	e := p.sessions[identifier]
	if e == nil {
		e = &entry{}
		p.sessions[identifier] = e
	}
	if e.claim != nil {
		return e.claim, false, nil
	}
	ctx, cancel := context.WithCancelCause(m.life)
	c = &claim{done: make(chan struct{}), cancel: cancel, by: m.options.By(asked)}
	prior := e.state
	if !m.spawn(func(context.Context) { m.run(ctx, p, identifier, c, prior) }) {
		cancel(nil)
		p.tidy(identifier)
		return nil, false, unavailable("The server is shutting down.", nil)
	}
	e.claim = c
	return c, true, nil
}

// run carries a claim out and publishes its result.
func (m *Manager) run(ctx context.Context, p *poolState, identifier sandpool.Identifier, c *claim,
	prior *sandboxState) {
	b, err := m.claim(ctx, p, identifier, c, prior)
	if err != nil && ctx.Err() != nil {
		err = m.cutShort(ctx)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	c.cancel(nil)
	e := p.sessions[identifier]
	e.claim, c.state, c.err, c.beyondQuota = nil, b, err, quota.Refused(err)
	if err == nil && b.row.State == sandpool.Claimed {
		e.state = b
		m.shares.Serve(b.row.ID, b.tenant(), false)
		m.options.Meter.Began(b.row, p.epoch)
		m.events.Observe(event.Event{Name: event.SessionAllocated, Pool: p.pool.ID,
			Sandbox: b.row.ID,
			Outcome: c.outcome.String(), Took: c.claimTime + c.startTime})
	}
	p.tidy(identifier)
	close(c.done)
	p.line.Serve(identifier)
	m.nudge()
}

// maxAsks bounds how often a claim begins anew because a session was ended to make room, or the
// pool was changed.
const maxAsks = 3

// errGone says that the sandbox that the store gave a claim had ended, which the store knows now.
var errGone = errors.New("the sandbox had ended")

// claim asks the store for a sandbox and starts it if the store says so.
func (m *Manager) claim(ctx context.Context, p *poolState, identifier sandpool.Identifier, c *claim,
	prior *sandboxState) (*sandboxState, error) {
	if prior != nil {
		// Memory knows that the identifier's sandbox ended; make sure that the store does.
		if err := m.markStopping(ctx, prior); err != nil {
			return nil, err
		}
	}
	for asks, gone := 0, 0; asks < maxAsks && gone <= m.count()+maxAsks; {
		if err := m.awaitStartable(ctx, p, identifier); err != nil {
			return nil, err
		}
		b, err := m.ask(ctx, p, identifier, c)
		switch {
		case errors.Is(err, errGone):
			// Of those that a full machine gives up there may be as many as were ready.
			gone++
			continue
		case errors.Is(err, errSuperseded):
			// The pool was changed meanwhile: start from its new template.
		case err != nil || b != nil:
			return b, err
		}
		asks++
	}
	return nil, unavailable("The sandboxes of this pool ended, or the pool was changed, as soon "+
		"as they were claimed; try again.", nil)
}

// count is how many sandboxes memory knows.
func (m *Manager) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.sandboxes)
}

// ask is one question to the store. It returns nil without an error if it may be asked again,
// because a session was ended to make room.
func (m *Manager) ask(ctx context.Context, p *poolState, identifier sandpool.Identifier,
	c *claim) (*sandboxState, error) {
	began := time.Now()
	leave, err := m.withinQuota(ctx, p, identifier, c)
	if err != nil {
		return nil, err
	}
	defer leave()
	m.mu.Lock()
	if p.lost {
		m.mu.Unlock()
		return nil, store.NotOwner(p.pool.ID)
	}
	if p.pool.State == sandpool.Deleting {
		m.mu.Unlock()
		return nil, ended("the session pool was deleted")
	}
	took, err := m.admit(p, identifier)
	if err != nil {
		m.mu.Unlock()
		return nil, err
	}
	spare := m.reserve(p, identifier, began)
	spare.row.ClaimedBy = c.by
	r := sandpool.ClaimRequest{Pool: p.pool.ID, Identifier: identifier, Revision: m.offered(p),
		Max: p.pool.MaxSessions, Epoch: p.epoch, By: c.by,
		Now: began, NewID: spare.row.ID, NewSecret: spare.row.Secret}
	m.mu.Unlock()
	row, outcome, err := m.store.Claim(ctx, r)
	leave()
	err = m.fenced(p, err)
	c.claimTime, c.outcome = time.Since(began), outcome
	if outcome == sandpool.ClaimNew && err == nil {
		m.mu.Lock()
		m.admitted(p, took, outcome, nil)
		m.mu.Unlock()
		started := time.Now()
		err := m.start(ctx, spare, true)
		c.startTime = time.Since(started)
		m.mu.Lock()
		defer m.mu.Unlock()
		c.steps, spare.steps = spare.steps, nil
		return spare, err
	}
	m.mu.Lock()
	m.forget(spare)
	if err != nil {
		m.admitted(p, took, outcome, err)
		m.mu.Unlock()
		return nil, fmt.Errorf("claim a session: %w", err)
	}
	if outcome == sandpool.ClaimFull {
		m.admitted(p, took, outcome, nil)
		idle := m.evict(p, time.Now())
		if idle == nil {
			defer m.mu.Unlock()
			return nil, m.full(p, identifier)
		}
		m.mu.Unlock()
		return nil, m.markStopping(ctx, idle)
	}
	b, dead := m.own(ctx, p, row)
	if dead {
		m.room.Give(took)
		m.mu.Unlock()
		if err := m.markStopping(ctx, b); err != nil {
			return nil, err
		}
		return nil, errGone
	}
	m.admitted(p, took, outcome, nil)
	if outcome == sandpool.ClaimReady {
		p.burst.Note(time.Now())
		m.lull.Reset(plan.Calm) // refills wait for this
	}
	m.mu.Unlock()
	return b, nil
}

// reserve makes the state of a sandbox that may have to be started, before its
// row exists, so that no sweep takes it for a stray. The caller holds mu.
func (m *Manager) reserve(p *poolState, identifier sandpool.Identifier,
	now time.Time) *sandboxState {
	row := sandpool.Sandbox{ID: newID(), Pool: p.pool.ID, Revision: p.pool.Revision,
		State:      sandpool.Starting,
		Identifier: identifier, Secret: newSecret(), CreatedAt: now, ClaimedAt: now,
		LastUsedAt: now}
	if identifier == "" {
		row.ClaimedAt, row.LastUsedAt = time.Time{}, time.Time{}
	}
	b := newSandboxState(m.life, p, row, now)
	b.starting = true
	m.sandboxes[row.ID] = b
	return b
}

// own makes the sandbox that the store gave the identifier's in memory; dead
// says that it has ended. The caller holds mu.
func (m *Manager) own(ctx context.Context, p *poolState,
	row sandpool.Sandbox) (b *sandboxState, dead bool) {
	now := time.Now()
	b = m.sandboxes[row.ID]
	if b == nil || b.row.State == sandpool.Stopping || row.State != sandpool.Claimed {
		// Memory mirrors the store; where it does not, the sandbox is not one to trust.
		if b == nil {
			b = newSandboxState(ctx, p, row, now)
			m.sandboxes[row.ID] = b
		}
		m.retire(b, ended("the sandbox has ended"))
		return b, true
	}
	b.row, b.since, b.used = row, now, now
	return b, false
}

// evict ends the session that a claim on a full pool may end, and returns it; nil if there is
// none. The caller holds mu.
func (m *Manager) evict(p *poolState, now time.Time) *sandboxState {
	var idlest *sandboxState
	for _, e := range p.sessions {
		b := e.state
		if b != nil && b.row.State == sandpool.Claimed && b.leases == 0 &&
			(idlest == nil || b.used.Before(idlest.used)) {
			idlest = b
		}
	}
	if most := p.pool.Spec.EvictIdle; idlest == nil || most == 0 || now.Sub(idlest.used) < most {
		return nil
	}
	m.makeRoom(idlest, now)
	return idlest
}

// full is the error of a claim beyond the maximum of sessions. Clients look
// for the phrase "Error happened when allocating pod" to try again. The caller holds mu.
func (m *Manager) full(p *poolState, identifier sandpool.Identifier) error {
	now := time.Now()
	var frees []time.Duration // when the sessions end, if nobody uses or deletes them
	for _, e := range p.sessions {
		b := e.state
		if b == nil || b.row.State != sandpool.Claimed {
			continue
		}
		used := b.used
		if b.leases > 0 {
			used = now
		}
		at := p.expires(b, used)
		if idle := used.Add(p.pool.Spec.EvictIdle); p.pool.Spec.EvictIdle > 0 &&
			(at.IsZero() || idle.Before(at)) {
			at = idle
		}
		if !at.IsZero() {
			frees = append(frees, at.Sub(now))
		}
	}
	slices.Sort(frees)
	wait := p.pool.Cooldown
	if len(frees) > 0 {
		wait = frees[min(p.line.Len(), len(frees)-1)] // those who wait come first
	}
	return &sandpool.Error{Class: sandpool.Full, Code: "SessionPoolMaxSessionsReached",
		Target: "identifier",
		Message: fmt.Sprintf("Error happened when allocating pod for identifier %s in pool %s: "+
			"the pool has reached its maximum of %d sessions. Delete a session, or try again "+
			"when one has ended.",
			identifier, p.pool.ID.Name, p.pool.MaxSessions),
		RetryAfter: max(wait, time.Second)}
}
