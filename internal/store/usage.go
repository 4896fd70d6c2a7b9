package store

import (
	"context"
	"time"

	"github.com/sandpool/sandpool"
)

// Mark says how long a life of a server has gone on, so that what it has not written any more can
// be told after its end.
type Mark struct {
	// Meter names the life: a server that is started again has another one.
	Meter string
	// Elapsed is the time since it began, which no change of a clock moves.
	Elapsed time.Duration
	// At is when that was by the machine's clock.
	At time.Time
}

// UsageQuery says which records of usage are wanted.
type UsageQuery struct {
	// Live wants records whose sandboxes have a row, and no others.
	Live bool
	// Since and Until bound the time: the session was there after Since and before Until. Zero
	// means no bound.
	Since, Until time.Time
	// After is the number after which the records begin.
	After int64
}

// UsageBounds says how much is kept of sessions that have ended.
type UsageBounds struct {
	// Before is when a session must have ended to be forgotten.
	Before time.Time
	// Most is how many records are kept.
	Most int64
}

// Usages keeps what sessions have used. Records outlive their pools and sandboxes.
type Usages interface {
	// PutUsage writes records and a mark in one transaction. A record replaces that of the same
	// sandbox, unless that was written by a later owner of its pool. A power cut of the store's
	// machine may lose what was written last, as it may with rows of sandboxes.
	PutUsage(ctx context.Context, records []sandpool.Usage, m Mark) error
	// Usage calls each for the records that q wants, ordered by number, until it returns an error,
	// which is returned. A session that has not ended has lasted until its meter's mark.
	Usage(ctx context.Context, q UsageQuery, each func(sandpool.Usage) error) error
	// TidyUsage ends the records whose sandboxes have no row any more, when they were last seen,
	// and forgets old records, some of them if there are many. It returns how many it forgot.
	TidyUsage(ctx context.Context, b UsageBounds) (forgotten int64, err error)
}
