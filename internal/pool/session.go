package pool

import (
	"cmp"
	"context"
	"errors"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/pool/plan"
	"github.com/sandpool/sandpool/internal/sandbox"
)

// Session is a claimed sandbox, for as long as it serves its identifier. It can be used whether or
// not a lease on it is out; only a lease keeps it alive.
type Session struct {
	manager *Manager
	state   *sandboxState
	sandbox sandpool.Sandbox
	history *sandpool.History
}

// Sandbox returns the sandbox's row as it was when the lease began.
func (s *Session) Sandbox() sandpool.Sandbox { return s.sandbox }

// History says how what the session runs is to be kept, as its pool had it when the lease began;
// nil if it is not kept.
func (s *Session) History() *sandpool.History { return s.history }

// View returns the session as callers see it now.
func (s *Session) View() sandpool.Session {
	s.manager.mu.Lock()
	defer s.manager.mu.Unlock()
	return s.state.session(time.Now())
}

// Context returns a context that ends when the session does. Its cause is then a
// *sandpool.Error of class Ended that says why.
func (s *Session) Context() context.Context { return s.state.ctx }

// Dial opens a byte stream to a port of the sandbox. Once the session has
// ended the error says why.
func (s *Session) Dial(ctx context.Context, port int) (net.Conn, error) {
	conn, err := s.manager.engine.Dial(ctx, handleOf(s.sandbox), port)
	if sandpool.ClassOf(err) == sandpool.Ended {
		s.awaitEnd(ctx)
	}
	if err != nil && s.state.ctx.Err() != nil {
		return nil, context.Cause(s.state.ctx)
	}
	return conn, err
}

// noticeTime bounds how long the end of a sandbox that the engine knows of goes unnoticed here.
const noticeTime = 5 * time.Second

// awaitEnd waits until the end of a sandbox that has ended is known here. A caller that was told of
// it before would be told once more by its next call, since by then nobody would use the session.
func (s *Session) awaitEnd(ctx context.Context) {
	timer := time.NewTimer(noticeTime)
	defer timer.Stop()
	select {
	case <-s.state.ctx.Done():
	case <-ctx.Done():
	case <-timer.C:
	}
}

// session is a claimed sandbox as callers see it. The caller holds mu.
func (b *sandboxState) session(now time.Time) sandpool.Session {
	used := b.used
	if b.leases > 0 {
		used = now
	}
	return sandpool.Session{Pool: b.pool.pool.ID, Identifier: b.row.Identifier, Sandbox: b.row.ID,
		CreatedAt: b.row.ClaimedAt, LastUsedAt: used, ExpiresAt: b.pool.expires(b, used)}
}

// Refused returns what a sandbox was refused on the network; nil if it has none.
func (m *Manager) Refused(ctx context.Context, s sandpool.Sandbox) (*sandpool.Refusals, error) {
	reader, ok := m.engine.(sandbox.RefusalReader)
	m.mu.Lock()
	b := m.sandboxes[s.ID]
	if !ok || b == nil || !b.pool.pool.Spec.Network.Enabled() {
		m.mu.Unlock()
		return nil, nil
	}
	row := b.row
	m.mu.Unlock()
	out, err := reader.Refusals(ctx, handleOf(row))
	return &out, err
}

func noSession(id sandpool.PoolID, identifier sandpool.Identifier) error {
	return sandpool.Errorf(sandpool.NotFound, "SessionWithIdentifierNotFound", "identifier",
		"There is no session with identifier %s in pool %s.", identifier, id.Name)
}

// Session returns the identifier's session. It neither begins one nor counts as its use.
func (m *Manager) Session(ctx context.Context, id sandpool.PoolID,
	identifier sandpool.Identifier) (sandpool.Session, error) {
	if err := m.ready(ctx); err != nil {
		return sandpool.Session{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	p, err := m.pool(id)
	if err != nil {
		return sandpool.Session{}, err
	}
	if b := p.live(identifier); b != nil {
		return b.session(time.Now()), nil
	}
	return sandpool.Session{}, noSession(id, identifier)
}

// Sessions returns up to limit sessions after the first skip, oldest first, and whether there are
// more.
func (m *Manager) Sessions(ctx context.Context, id sandpool.PoolID, skip,
	limit int) (list []sandpool.Session, more bool, err error) {
	if skip < 0 || limit <= 0 {
		return nil, false, sandpool.Errorf(sandpool.Invalid, "", "skip",
			"skip must not be negative, and the page size must be at least 1.")
	}
	if err := m.ready(ctx); err != nil {
		return nil, false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	p, err := m.pool(id)
	if err != nil {
		return nil, false, err
	}
	now := time.Now()
	for identifier := range p.sessions {
		if b := p.live(identifier); b != nil {
			list = append(list, b.session(now))
		}
	}
	slices.SortFunc(list, func(a, b sandpool.Session) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.Identifier, b.Identifier))
	})
	list = list[min(skip, len(list)):]
	return list[:min(limit, len(list))], len(list) > limit, nil
}

// StopSession ends the identifier's session. When it returns, the identifier is
// free: the next Acquire gets another sandbox. A session that is still starting is cut short.
func (m *Manager) StopSession(ctx context.Context, id sandpool.PoolID,
	identifier sandpool.Identifier) error {
	if err := m.ready(ctx); err != nil {
		return err
	}
	m.mu.Lock()
	p, err := m.pool(id)
	if err != nil {
		m.mu.Unlock()
		return err
	}
	if p.losses[identifier] != nil {
		delete(p.losses, identifier) // who deletes a session does not miss it
		defer m.forgetLoss(ctx, p, identifier)
	}
	cause := ended("the session was deleted")
	b, e := p.live(identifier), p.sessions[identifier]
	if b == nil && e != nil && e.claim != nil {
		c, prior := e.claim, e.state
		c.cancel(cause)
		m.mu.Unlock()
		select {
		case <-c.done:
		case <-ctx.Done():
			return ctx.Err()
		}
		m.mu.Lock()
		if c.state == nil {
			m.mu.Unlock()
			if prior == nil {
				return nil
			}
			// The claim was to tell the store first that an earlier sandbox has ended, and perhaps
			// has not: another server could adopt it.
			return m.markStopping(ctx, prior)
		}
		b = c.state // it was claimed at the same moment
	}
	if b == nil && e != nil && e.state != nil {
		// It has ended, but another server could adopt it until the store knows.
		ending := e.state
		m.mu.Unlock()
		if err := m.markStopping(ctx, ending); err != nil {
			return err
		}
		return noSession(id, identifier)
	}
	if b == nil {
		m.mu.Unlock()
		return noSession(id, identifier)
	}
	m.retire(b, cause)
	m.mu.Unlock()
	return m.markStopping(ctx, b)
}

// withinQuota waits until the claim may be carried out as far as the quota of its principal goes;
// leave is to be called when the store has answered.
func (m *Manager) withinQuota(ctx context.Context, p *poolState, identifier sandpool.Identifier,
	c *claim) (leave func(), err error) {
	if m.options.Quota == 0 {
		return func() {}, nil
	}
	m.mu.Lock()
	id := p.pool.ID
	m.mu.Unlock()
	return m.quota.Enter(ctx, c.by, id, identifier)
}

// cutShort is the error of a claim whose context ended: its session was stopped while it
// started, or the server is shutting down.
func (m *Manager) cutShort(ctx context.Context) error {
	var why *sandpool.Error
	if errors.As(context.Cause(ctx), &why) {
		return why
	}
	return unavailable("The server is shutting down.", context.Cause(ctx))
}

// Lease is a hold on a session, for one request. It keeps the session alive until Release.
type Lease struct {
	Session
	claim    sandpool.Claim
	released atomic.Bool

	unattended bool // guarded by Manager.mu
}

// lease returns a lease on a claimed sandbox. The caller holds mu.
func (m *Manager) lease(b *sandboxState, outcome sandpool.ClaimOutcome) *Lease {
	b.leases++
	m.shares.Called(b.row.ID)
	l := &Lease{Session: Session{manager: m, state: b, sandbox: b.row},
		claim: sandpool.Claim{Outcome: outcome}}
	if b.pool != nil {
		l.history = b.pool.pool.Spec.History
	}
	return l
}

// Claim says how the identifier came to the sandbox.
func (l *Lease) Claim() sandpool.Claim { return l.claim }

// Unattended says that nobody waits for what the lease is for: whoever calls next is told if the
// session is lost meanwhile.
func (l *Lease) Unattended() {
	l.manager.mu.Lock()
	defer l.manager.mu.Unlock()
	if !l.unattended && !l.released.Load() {
		l.unattended = true
		l.state.unattended++
	}
}

// Release ends the lease; the session's idle time begins with the last one. Further calls do
// nothing.
func (l *Lease) Release() {
	if l.released.Swap(true) {
		return
	}
	m := l.manager
	m.mu.Lock()
	defer m.mu.Unlock()
	b := l.state
	b.leases--
	m.shares.Answered(b.row.ID)
	if l.unattended {
		b.unattended--
	}
	b.used, b.dirty = time.Now(), true
	if p := b.pool; b.leases == 0 && p != nil && p.lost { // see passOn
		b.end(ended("the session pool has moved to another server"))
		return
	}
	if b.leases == 0 && b.used.Sub(b.since) < plan.Calm {
		m.nudge() // refills may wait for a first request
	}
}
