package interpreter

import (
	"context"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
)

// Background is what an Agent does that keeps executions without a caller; agent.Client describes
// it.
type Background interface {
	Start(ctx context.Context, r agent.StartRequest) (agent.Execution, error)
	Executions(ctx context.Context) ([]agent.Execution, error)
	Execution(ctx context.Context, id string, room agent.Room) (agent.Execution, error)
	Cancel(ctx context.Context, id string) (agent.Execution, error)
	Wait(ctx context.Context, id string) (agent.Execution, error)
	Follow(ctx context.Context, id string, after int64, room agent.Room,
		emit func(agent.Record) error) error
}

// Recorder is a Background that can send the records of an execution as it starts it.
type Recorder interface {
	Run(ctx context.Context, r agent.StartRequest) (*agent.Live, error)
}

var _ interface {
	Background
	Recorder
} = (*agent.Client)(nil)

// background asks the agent something about executions without a caller.
func background[T any](ctx context.Context, in *Interpreter, fn func(*call, Background) (T,
	error)) (T, error) {
	return ask(ctx, in, answerTime, func(c *call) (T, error) {
		b, ok := in.agent.(Background)
		if !ok {
			var none T
			return none, sandpool.Errorf(sandpool.Unsupported, "", "executionType",
				"The session's sandbox runs no code in the background.")
		}
		return fn(c, b)
	})
}

// Start begins an execution that goes on whether or not anybody waits for it. The sandbox keeps
// its record and its result, within bounds, for as long as the session lives.
func (in *Interpreter) Start(ctx context.Context, id string, x Execution) (agent.Execution, error) {
	return background(ctx, in, func(c *call, b Background) (agent.Execution, error) {
		x.Room = &room{in: in, sent: x.Sent}
		return b.Start(c.ctx, agent.StartRequest{ID: id, ExecuteRequest: x.ExecuteRequest})
	})
}

// Executions lists the executions that were started, the oldest first, without results.
func (in *Interpreter) Executions(ctx context.Context) ([]agent.Execution, error) {
	return background(ctx, in, func(c *call, b Background) ([]agent.Execution, error) {
		return b.Executions(c.ctx)
	})
}

// Cancel ends an execution, and does not wait for that.
func (in *Interpreter) Cancel(ctx context.Context, id string) (agent.Execution, error) {
	return background(ctx, in, func(c *call, b Background) (agent.Execution, error) {
		return b.Cancel(c.ctx, id)
	})
}

// Execution returns an execution, with its result if it has ended. release gives back the memory
// of a large one.
func (in *Interpreter) Execution(ctx context.Context, id string) (e agent.Execution, release func(),
	err error) {
	r := &room{in: in}
	e, err = background(ctx, in, func(c *call, b Background) (agent.Execution, error) {
		return b.Execution(c.ctx, id, r)
	})
	return e, r.giveBack, err
}

// Wait returns when an execution has ended. Another one may be before it, which takes the longest
// timeout; with more, Wait gives up.
func (in *Interpreter) Wait(ctx context.Context, id string) (agent.Execution, error) {
	return background(ctx, in, func(c *call, b Background) (agent.Execution, error) {
		c.renew(in.quietTime())
		return b.Wait(c.ctx, id)
	})
}

// quietTime is how long an execution may say nothing.
func (in *Interpreter) quietTime() time.Duration {
	return 2*in.set.options.MaxTimeout + executionGrace
}

// Follow calls emit with the records of an execution after the given number, those that are there
// and those to come, until the last. What emit returns is then called without the memory that a
// large record has taken: its caller may be slow. An error of either ends the call and is returned
// as it is.
func (in *Interpreter) Follow(ctx context.Context, id string, after int64,
	emit func(agent.Record) (send func() error, err error)) error {
	r := &room{in: in}
	defer r.giveBack()
	var own error
	_, err := background(ctx, in, func(c *call, b Background) (struct{}, error) {
		c.renew(in.quietTime())
		return struct{}{}, b.Follow(c.ctx, id, after, r, func(rec agent.Record) error {
			c.pause()
			send, err := emit(rec)
			r.giveBack()
			if err == nil {
				err = send()
			}
			c.renew(in.quietTime())
			own = err
			return err
		})
	})
	if own != nil {
		return own
	}
	return err
}
