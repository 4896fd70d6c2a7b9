// Package store is the contract of what the pool needs kept: pools, their secrets, the rows of
// sandboxes, and which sessions were lost. Its conformance suite is package storetest.
//
// # The allocator
//
// Which identifier owns which sandbox is one row, and is true once Claim has returned, and not
// before. Each method is one transaction that has reached the disk's journal when it returns.
// Memory only mirrors it, so a crash loses no session, and no sandbox ever serves a second
// identifier.
//
// # Owners
//
// At any time one server owns a pool: it alone plans, claims, starts and stops for it. Ownership is
// in the pool's row: who the owner is, and an epoch that grows with every owner.
//
//	        CreatePool                Own, by whoever has seen this epoch
//	(no row) ─────────▶ owned, epoch 1 ─────────▶ owned, epoch 2 ─────────▶ …
//
// Own compares and swaps: of several servers that want a pool at the same time one gets it. The
// owner itself passes a pool on in the same way. A server that was cut off, stopped for a while or
// replaced does not know that it is the owner no more. So every write names the epoch, in the same
// transaction it is compared with the row, and a write of an earlier owner changes nothing and is
// ErrNotOwner.
//
// Whether an owner lives is in its server's row: a number that the server counts up every second.
// Others see whether it has changed, each by its own clock, which need not agree with anybody's.
// So no time of one machine is ever compared with that of another, a server costs the store one
// write a second whatever it owns, and it decides who may take a pool and never who may write.
package store

import (
	"context"
	"time"

	"github.com/sandpool/sandpool"
)

// Pools keeps pools. Ids are compared by PoolID.Key.
type Pools interface {
	// Pools returns all pools, ordered by key, whoever owns them.
	Pools(ctx context.Context) ([]sandpool.Pool, error)
	// PoolsBetween returns those pools whose keys are at least from and less than below, at most
	// limit of them, ordered by key. It reads no others.
	PoolsBetween(ctx context.Context, from, below string, limit int) ([]sandpool.Pool, error)
	// PoolsNamed looks at the names of those pools whose keys are at least from and less than
	// below, in the order of keys, at most look of them, and returns those that have part in them,
	// at most limit. Names are compared in lower case, part is in lower case. It reads no more than
	// the keys of the others.
	PoolsNamed(ctx context.Context, from, below, part string, look, limit int) (Found, error)
	// CreatePool inserts a pool that the owner then owns, with epoch 1. One that exists is an error
	// of class Conflict.
	CreatePool(ctx context.Context, p sandpool.Pool, secrets sandpool.Secrets,
		owner string) (epoch int64, err error)
	// PutPool replaces the pool of p's id. In the same transaction secrets become its only ones;
	// nil leaves them as they are.
	PutPool(ctx context.Context, p sandpool.Pool, secrets sandpool.Secrets, epoch int64) error
	// Secrets returns the secrets of a pool, none for an unknown one. Nothing else that a store
	// returns holds them.
	Secrets(ctx context.Context, id sandpool.PoolID) (sandpool.Secrets, error)
	// DeletePool removes the pool's row, secrets and losses. A pool that still has sandbox rows is
	// an error of class Conflict; an unknown one is not an error.
	DeletePool(ctx context.Context, id sandpool.PoolID, epoch int64) error
}

// Found is what a look at the names of pools has found.
type Found struct {
	Pools  []sandpool.Pool // ordered by key
	Looked int             // how many names there were, at most as many as were to be looked at
	Last   string          // the key of the last of them; empty if there was none
}

// Sandboxes keeps the rows of sandboxes. A sandbox starts, is ready, is claimed and stops, in this
// order; steps may be skipped. Other changes are errors of class Conflict, unknown ids are errors
// of class NotFound.
type Sandboxes interface {
	// Sandboxes returns all rows, oldest first, whoever owns their pools.
	Sandboxes(ctx context.Context) ([]sandpool.Sandbox, error)
	// Insert writes a new row in state Starting without an identifier.
	Insert(ctx context.Context, s sandpool.Sandbox, epoch int64) error
	// Claim gives r.Identifier a sandbox, as sandpool.ClaimOutcome describes.
	// If several are ready it takes the oldest of r.Revision. At any time at most one
	// row that is starting or claimed has a given pool and identifier.
	Claim(ctx context.Context, r sandpool.ClaimRequest) (sandpool.Sandbox, sandpool.ClaimOutcome,
		error)
	// SessionsOf counts the rows that are starting or claimed and were claimed by a principal, in
	// pools of whatever owner, besides that of one identifier of one pool.
	SessionsOf(ctx context.Context, by string, besides sandpool.PoolID,
		identifier sandpool.Identifier) (int, error)
	// Started records the handle of a starting sandbox, which becomes Claimed
	// if it has an identifier and Ready if not. It returns the new row.
	Started(ctx context.Context, id sandpool.SandboxID, handle []byte, now time.Time,
		epoch int64) (sandpool.Sandbox, error)
	// Stopping moves a row to Stopping, from any state; from then on its
	// identifier is free for a new claim. Repeating it is not an error.
	Stopping(ctx context.Context, id sandpool.SandboxID, reason string, epoch int64) error
	// Touch moves LastUsedAt forward for each, never back. Unknown ids, and those of pools with
	// another epoch, are left out.
	Touch(ctx context.Context, uses []sandpool.Use) error
	// Remove deletes the row of a sandbox of which nothing is left. Unknown ids are ignored.
	Remove(ctx context.Context, id sandpool.SandboxID, epoch int64) error
}

// Losses keeps which sessions were lost, for as long as their callers do not know of it.
type Losses interface {
	// Losses returns all that are kept, whoever owns their pools, ordered by pool and identifier.
	Losses(ctx context.Context) ([]sandpool.Loss, error)
	// Mourn keeps a loss, in place of an earlier one of the same pool and identifier, and forgets
	// those of the pool whose time has passed at now. An unknown pool is an error of class
	// NotFound.
	Mourn(ctx context.Context, l sandpool.Loss, now time.Time, epoch int64) error
	// Forget forgets the loss of an identifier. Unknown pools and identifiers are ignored.
	Forget(ctx context.Context, id sandpool.PoolID, identifier sandpool.Identifier,
		epoch int64) error
}

// Store is everything that the pool needs kept.
type Store interface {
	Pools
	Owners
	Servers
	Sandboxes
	Losses
}
