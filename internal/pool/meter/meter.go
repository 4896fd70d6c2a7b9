// Package meter is how the pool tells of what its sessions use. Package usage records it.
package meter

import (
	"context"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/sandbox"
)

// Meter is told of sessions, by the rows of their sandboxes. Began, Ended, Measured and Left are
// called with locks held, and do not block.
type Meter interface {
	// Resume is told of the sessions of pools that their owner has just taken, those whose
	// sandboxes have a row.
	Resume(ctx context.Context, all []Resumed) error
	// Began is told of a new session, and of the epoch of its pool's owner.
	Began(row sandpool.Sandbox, epoch int64)
	// Measured is told what a sandbox takes of the machine, whether or not it serves a session.
	Measured(id sandpool.SandboxID, s sandbox.Stats)
	// Ended is told of the end of a session. It may be told again, and of one that Began was not
	// told of.
	Ended(row sandpool.Sandbox, epoch int64)
	// Settle returns when the record of a session that has ended is kept.
	Settle(ctx context.Context, id sandpool.SandboxID) error
	// Left is told that another server owns the pool of a session.
	Left(id sandpool.SandboxID)
	// Save writes what a later owner is to go on with.
	Save(ctx context.Context) error
}

// Resumed is a session that an earlier owner of its pool has left.
type Resumed struct {
	Row   sandpool.Sandbox
	Epoch int64
	// Lives says that its sandbox runs, and serves it.
	Lives bool
}

// None is a Meter that records nothing.
type None struct{}

var _ Meter = None{}

// Resume implements Meter.
func (None) Resume(context.Context, []Resumed) error { return nil }

// Began implements Meter.
func (None) Began(sandpool.Sandbox, int64) {}

// Measured implements Meter.
func (None) Measured(sandpool.SandboxID, sandbox.Stats) {}

// Ended implements Meter.
func (None) Ended(sandpool.Sandbox, int64) {}

// Settle implements Meter.
func (None) Settle(context.Context, sandpool.SandboxID) error { return nil }

// Left implements Meter.
func (None) Left(sandpool.SandboxID) {}

// Save implements Meter.
func (None) Save(context.Context) error { return nil }
