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
// in the pool's row: who the owner is, until when, and an epoch that grows with every owner.
//
//	        CreatePool                       Renew
//	(no row) ─────────▶ owned, epoch 1 ◀──────────────┐
//	                        │  └───────────────────────┘
//	                        │ its time has passed, or the same owner in a new life
//	                        ▼ Own
//	                    owned, epoch + 1
//
// Whoever owns a pool renews it in time. After a crash the same owner takes it back at once, and
// another one when its time has passed. A server that was cut off, stopped for a while or replaced
// does not know that it is the owner no more. So every write names the epoch, in the same
// transaction it is compared with the row, and a write of an earlier owner changes nothing and is
// ErrNotOwner. Time alone decides who may become the owner, and never who may write: clocks that
// differ cost a change of owner, and no row.
package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sandpool/sandpool"
)

// ErrNotOwner is in the error of a write that names another epoch than the pool's row.
var ErrNotOwner = errors.New("another server owns the session pool")

// NotOwner is the error of a write by somebody who is not the owner any more. The caller is to try
// again: the request finds the owner then.
func NotOwner(id sandpool.PoolID) error {
	return &sandpool.Error{Class: sandpool.Unavailable, Code: "SessionPoolOwnerChanged",
		Target: "sessionPool",
		Message: fmt.Sprintf("The session pool %q has moved to another server; try again.",
			id.Name),
		RetryAfter: time.Second, Err: ErrNotOwner}
}

// Pools keeps pools. Ids are compared by PoolID.Key.
type Pools interface {
	// Pools returns all pools, ordered by key, whoever owns them.
	Pools(ctx context.Context) ([]sandpool.Pool, error)
	// CreatePool inserts a pool that the owner then owns until the given time, with epoch 1. One
	// that exists is an error of class Conflict.
	CreatePool(ctx context.Context, p sandpool.Pool, secrets sandpool.Secrets, owner string,
		until time.Time) (epoch int64, err error)
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

// Owners decides who owns pools.
type Owners interface {
	// Own makes owner the owner of a pool until the given time and returns the new epoch: if
	// nobody owns it, the owner's time has passed at now, or owner is the owner already. A pool
	// of somebody else is ErrNotOwner, an unknown one an error of class NotFound.
	Own(ctx context.Context, id sandpool.PoolID, owner string, now, until time.Time) (epoch int64,
		err error)
	// Renew moves the time of the pools with these epochs, and returns those that somebody else
	// owns now or that do not exist. A time that has passed gives them up.
	Renew(ctx context.Context, epochs map[sandpool.PoolID]int64,
		until time.Time) (lost []sandpool.PoolID, err error)
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
	Sandboxes
	Losses
}
