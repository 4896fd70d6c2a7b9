package interpreter

import (
	"cmp"
	"context"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/budget"
)

const (
	// allRoom is the bytes of large answers that are in work at the same time, as they come
	// from the sandbox; what is made of them takes up to ten times as much. The sandboxes of a pool
	// have poolRoom of it: one that announces much and sends little holds up its own kin.
	allRoom  = 64 << 20
	poolRoom = 32 << 20
	// roomTime is how long an answer waits for room.
	roomTime = 30 * time.Second
)

// room is what one call has of the host's memory. It implements agent.Room. Small answers
// pass by.
type room struct {
	in    *Interpreter
	sent  func()
	full  string        // what to say to the caller if there is no room; "" is of executions
	share *budget.Share // nil until the answer turns out to be large
}

// Sent implements agent.Room.
func (r *room) Sent() {
	if r.sent != nil {
		r.sent()
	}
}

// Take implements agent.Room.
func (r *room) Take(ctx context.Context, size int64) error {
	holder := budget.Holder{}
	if pool := r.in.session.Sandbox().Pool; pool != (sandpool.PoolID{}) {
		holder.Pool = pool.Key()
	}
	r.giveBack() // of a record before this one
	r.share = r.in.set.work.Share(holder)
	wait, cancel := context.WithTimeout(ctx, roomTime)
	defer cancel()
	if err := r.share.Take(wait, size); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return &sandpool.Error{Class: sandpool.Unavailable, Err: err,
			Message: cmp.Or(r.full, "The code ran, but the server has too many large answers to "+
				"send. Write large results to files in /mnt/data and download them.")}
	}
	return nil
}

// giveBack gives the room back. Calling it again does nothing.
func (r *room) giveBack() {
	if r.share != nil {
		r.share.Release()
	}
}
