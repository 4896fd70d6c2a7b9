package pool

import (
	"context"
	"net"
	"sync/atomic"
	"time"

	"github.com/sandpool/sandpool"
)

// Lease is the right to use a session for one request. It keeps the session alive until Release.
type Lease struct {
	manager   *Manager
	box       *box
	sandbox   sandpool.Sandbox
	outcome   sandpool.ClaimOutcome
	claimTime time.Duration
	startTime time.Duration
	released  atomic.Bool
}

// lease returns a lease on a claimed sandbox. The caller holds mu.
func (m *Manager) lease(b *box, outcome sandpool.ClaimOutcome) *Lease {
	b.leases++
	return &Lease{manager: m, box: b, sandbox: b.row, outcome: outcome}
}

// Sandbox returns the sandbox's row as it was when the lease began.
func (l *Lease) Sandbox() sandpool.Sandbox { return l.sandbox }

// Session returns the session as it is now.
func (l *Lease) Session() sandpool.Session {
	l.manager.mu.Lock()
	defer l.manager.mu.Unlock()
	return l.box.session(time.Now())
}

// Context returns a context that ends when the session does, not when the lease is
// released. Its cause is then a *sandpool.Error of class Ended that says why.
func (l *Lease) Context() context.Context { return l.box.ctx }

// Outcome says how the sandbox was found.
func (l *Lease) Outcome() sandpool.ClaimOutcome { return l.outcome }

// ClaimTime is what finding the sandbox took: memory, or the store's transaction.
func (l *Lease) ClaimTime() time.Duration { return l.claimTime }

// StartTime is what starting the sandbox took; zero if it ran already.
func (l *Lease) StartTime() time.Duration { return l.startTime }

// Dial opens a byte stream to a port of the sandbox. Once the session has
// ended the error says why.
func (l *Lease) Dial(ctx context.Context, port int) (net.Conn, error) {
	conn, err := l.manager.engine.Dial(ctx, handleOf(l.sandbox), port)
	if err != nil && l.box.ctx.Err() != nil {
		return nil, context.Cause(l.box.ctx)
	}
	return conn, err
}

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
	if b.leases == 0 && b.used.Sub(b.since) < calm {
		m.nudge() // refills may wait for a first request
	}
}
