package pool

import (
	"context"
	"net"
	"sync/atomic"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/pool/plan"
)

// Session is a claimed sandbox, for as long as it serves its identifier. It can be used whether or
// not a lease on it is out; only a lease keeps it alive.
type Session struct {
	manager *Manager
	box     *box
	sandbox sandpool.Sandbox
}

// Lease is a hold on a session, for one request. It keeps the session alive until Release.
type Lease struct {
	Session
	outcome   sandpool.ClaimOutcome
	claimTime time.Duration
	startTime time.Duration
	released  atomic.Bool
}

// lease returns a lease on a claimed sandbox. The caller holds mu.
func (m *Manager) lease(b *box, outcome sandpool.ClaimOutcome) *Lease {
	b.leases++
	return &Lease{Session: Session{manager: m, box: b, sandbox: b.row}, outcome: outcome}
}

// Sandbox returns the sandbox's row as it was when the lease began.
func (s *Session) Sandbox() sandpool.Sandbox { return s.sandbox }

// View returns the session as callers see it now.
func (s *Session) View() sandpool.Session {
	s.manager.mu.Lock()
	defer s.manager.mu.Unlock()
	return s.box.session(time.Now())
}

// Context returns a context that ends when the session does. Its cause is then a
// *sandpool.Error of class Ended that says why.
func (s *Session) Context() context.Context { return s.box.ctx }

// Dial opens a byte stream to a port of the sandbox. Once the session has
// ended the error says why.
func (s *Session) Dial(ctx context.Context, port int) (net.Conn, error) {
	conn, err := s.manager.engine.Dial(ctx, handleOf(s.sandbox), port)
	if err != nil && s.box.ctx.Err() != nil {
		return nil, context.Cause(s.box.ctx)
	}
	return conn, err
}

// Outcome says how the sandbox was found.
func (l *Lease) Outcome() sandpool.ClaimOutcome { return l.outcome }

// ClaimTime is what finding the sandbox took: memory, or the store's transaction.
func (l *Lease) ClaimTime() time.Duration { return l.claimTime }

// StartTime is what starting the sandbox took; zero if it ran already.
func (l *Lease) StartTime() time.Duration { return l.startTime }

// Release ends the lease; the session's idle time begins with the last one. Further calls do nothing.
func (l *Lease) Release() {
	if l.released.Swap(true) {
		return
	}
	m := l.manager
	m.mu.Lock()
	defer m.mu.Unlock()
	b := l.box
	b.leases--
	b.used, b.dirty = time.Now(), true
	if b.leases == 0 && b.used.Sub(b.since) < plan.Calm {
		m.nudge() // refills may wait for a first request
	}
}
