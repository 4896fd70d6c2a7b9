package gateway

import (
	"context"
	"net"
	"time"

	"github.com/sandpool/sandpool"
)

// Pools is what the gateway needs of the pool.
type Pools interface {
	// Acquire gives the identifier its sandbox, making one its own if it has
	// none, and keeps the session alive until the lease is released. Of a pool that has its
	// maximum of sessions the error is of class Full.
	Acquire(ctx context.Context, id sandpool.PoolID, identifier sandpool.Identifier) (Lease, error)
	sessions
}

// sessions looks sessions up and ends them; it creates none.
type sessions interface {
	// Pool returns a pool.
	Pool(ctx context.Context, id sandpool.PoolID) (sandpool.Pool, error)
	// Session returns the identifier's session; an identifier
	// without one is an error of class NotFound and code SessionWithIdentifierNotFound.
	Session(ctx context.Context, id sandpool.PoolID, identifier sandpool.Identifier) (sandpool.Session, error)
	// Sessions returns at most limit sessions after the first skip ones, and whether there are more.
	Sessions(ctx context.Context, id sandpool.PoolID, skip, limit int) ([]sandpool.Session, bool, error)
	// StopSession ends the identifier's session; an identifier
	// without one is an error of class NotFound and code SessionWithIdentifierNotFound.
	StopSession(ctx context.Context, id sandpool.PoolID, identifier sandpool.Identifier) error
}

// Lease is a hold on a session's sandbox. The session does not end by its
// cooldown while a lease on it is out.
type Lease interface {
	// Sandbox and Session describe what is held.
	Sandbox() sandpool.Sandbox
	Session() sandpool.Session
	// Dial connects to a TCP port inside the sandbox, until the session ends: also
	// when the lease has been released.
	Dial(ctx context.Context, port int) (net.Conn, error)
	// Context ends when the session ends, for whatever reason; its cause is an
	// error of class Ended that says which.
	Context() context.Context
	// ClaimTime is what the claim took; StartTime what starting a sandbox for it
	// took, zero if one was ready.
	ClaimTime() time.Duration
	StartTime() time.Duration
	// Release gives the hold back. Calling it again does nothing.
	Release()
}

// manager is a Pools whose leases are of a type of its own.
type manager[L Lease] interface {
	Acquire(ctx context.Context, id sandpool.PoolID, identifier sandpool.Identifier) (L, error)
	sessions
}

// Adapt makes a Pools of m, whose Acquire returns some type of lease. It spares
// the gateway knowing which.
func Adapt[L Lease](m manager[L]) Pools { return adapted[L]{m, m} }

type adapted[L Lease] struct {
	sessions
	m manager[L]
}

func (a adapted[L]) Acquire(ctx context.Context, id sandpool.PoolID, identifier sandpool.Identifier) (Lease, error) {
	l, err := a.m.Acquire(ctx, id, identifier)
	if err != nil {
		return nil, err // not l: a nil pointer in an interface is not nil
	}
	return l, nil
}
