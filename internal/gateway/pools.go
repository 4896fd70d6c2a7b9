package gateway

import (
	"context"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/interpreter"
)

// Pools is what the gateway needs of the pool.
type Pools interface {
	// Acquire gives the identifier its sandbox, making one its own if it has
	// none, and keeps the session alive until the lease is released. Of a pool that has its
	// maximum of sessions the error is of class Full.
	Acquire(ctx context.Context, id sandpool.PoolID, identifier sandpool.Identifier) (Lease, error)
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

// Lease is a hold on a session's sandbox. The session, which lives on without it, does not end
// by its cooldown while a lease on it is out.
type Lease interface {
	interpreter.Session
	// ClaimTime is what the claim took; StartTime what starting a sandbox for it
	// took, zero if one was ready.
	ClaimTime() time.Duration
	StartTime() time.Duration
	// Release gives the hold back. Calling it again does nothing.
	Release()
}
