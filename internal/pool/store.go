package pool

import (
	"context"
	"time"

	"github.com/sandpool/sandpool"
)

// PoolStore keeps pools. Ids are compared by PoolID.Key.
type PoolStore interface {
	// Pools returns all pools, ordered by key.
	Pools(ctx context.Context) ([]sandpool.Pool, error)
	// PutPool inserts p or replaces the pool of the same id. In the same transaction secrets
	// become its only secrets; nil leaves them as they are.
	PutPool(ctx context.Context, p sandpool.Pool, secrets sandpool.Secrets) error
	// Secrets returns the secrets of a pool, none for an unknown one. Nothing else that a store
	// returns holds them.
	Secrets(ctx context.Context, id sandpool.PoolID) (sandpool.Secrets, error)
	// DeletePool removes the pool's row and secrets. A pool that still has sandbox rows is
	// an error of class Conflict; an unknown one is not an error.
	DeletePool(ctx context.Context, id sandpool.PoolID) error
}

// SandboxStore keeps the rows of sandboxes and is the allocator: which identifier
// owns which sandbox is true once Claim has returned, and not before. Each
// method is one transaction that has reached the disk's journal when it returns.
// A sandbox starts, is ready, is claimed and stops, in this order, of which it may leave steps out;
// other changes are errors of class Conflict;
// unknown ids are errors of class NotFound.
type SandboxStore interface {
	// Sandboxes returns all rows, oldest first.
	Sandboxes(ctx context.Context) ([]sandpool.Sandbox, error)
	// Insert writes a new row in state Starting without an identifier.
	Insert(ctx context.Context, s sandpool.Sandbox) error
	// Claim gives r.Identifier a sandbox, as sandpool.ClaimOutcome describes.
	// Of several ready sandboxes it takes the oldest of r.Revision. At any time at most one
	// row that is starting or claimed has a given pool and identifier.
	Claim(ctx context.Context, r sandpool.ClaimRequest) (sandpool.Sandbox, sandpool.ClaimOutcome, error)
	// Started records the handle of a starting sandbox, which becomes Claimed
	// if it has an identifier and Ready if not. It returns the new row.
	Started(ctx context.Context, id sandpool.SandboxID, handle []byte, now time.Time) (sandpool.Sandbox, error)
	// Stopping moves a row to Stopping, from any state; from then on its
	// identifier is free for a new claim. Repeating it is not an error.
	Stopping(ctx context.Context, id sandpool.SandboxID, reason string) error
	// Touch moves LastUsedAt forward for each id given, never back. Unknown ids are ignored.
	Touch(ctx context.Context, used map[sandpool.SandboxID]time.Time) error
	// Remove deletes the row of a sandbox of which nothing is left. Unknown ids are ignored.
	Remove(ctx context.Context, id sandpool.SandboxID) error
}

// Store is everything the pool needs kept. Its conformance suite is package storetest.
type Store interface {
	PoolStore
	SandboxStore
}
