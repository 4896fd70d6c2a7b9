package interpreter

import (
	"context"
	"errors"

	"github.com/sandpool/sandpool/internal/agent"
)

// Emit takes a record of an execution; more says that the next one is there already. What it
// returns is then called without the memory that a large record has taken: its caller may be slow.
type Emit func(r agent.Record, more bool) (send func() error, err error)

// Running is an execution that was started by Run, and goes on.
type Running struct {
	in    *Interpreter
	id    string
	live  *agent.Live // nil if its records come in another way
	ended *agent.Execution
}

// Run is Start and Follow in one: it starts an execution that goes on by itself, and calls emit
// with all of its records. Without a Running the execution was not begun, and the error says why.
// With one, an error, which may be that of emit, says why its reader has not got all records.
func (in *Interpreter) Run(ctx context.Context, id string, x Execution, emit Emit) (*Running,
	error) {
	recorder, ok := in.agent.(Recorder)
	if !ok {
		return in.runByCalls(ctx, id, x, emit)
	}
	c := in.begin(ctx, in.quietTime())
	defer c.end()
	r := &room{in: in, sent: x.Sent}
	defer r.giveBack()
	x.Room = r
	live, err := recorder.Run(c.ctx, agent.StartRequest{ID: id, ExecuteRequest: x.ExecuteRequest})
	if errors.Is(err, agent.ErrNoRecords) {
		return in.runByCalls(ctx, id, x, emit)
	}
	x = Execution{} // the execution may take long, and its code is the sandbox's
	if err != nil {
		return nil, c.explain(err)
	}
	run := &Running{in: in, id: id, live: live}
	rec, more, err := live.Next(c.ctx, r)
	if err != nil && asError(err) != nil && ctx.Err() == nil {
		return nil, c.explain(err)
	}
	for err == nil {
		c.pause()
		if own := run.pass(rec, more, r, emit); own != nil {
			return run, own
		}
		if run.ended != nil {
			return run, nil
		}
		c.renew(in.quietTime())
		rec, more, err = live.Next(c.ctx, r)
	}
	return run, c.explain(err)
}

// pass passes a record on.
func (run *Running) pass(rec agent.Record, more bool, r *room, emit Emit) error {
	run.ended = rec.Execution
	send, err := emit(rec, more)
	r.giveBack()
	if err != nil {
		return err
	}
	return send()
}

// runByCalls is Run of an agent that has no records on its links.
func (in *Interpreter) runByCalls(ctx context.Context, id string, x Execution, emit Emit) (*Running,
	error) {
	if _, err := in.Start(ctx, id, x); err != nil {
		return nil, err
	}
	run := &Running{in: in, id: id}
	err := in.Follow(ctx, id, 0, func(r agent.Record) (func() error, error) {
		run.ended = r.Execution
		return emit(r, false)
	})
	return run, err
}

// Ended is how the execution ended, as far as its records were read to their end, without its
// result; else it is nil.
func (run *Running) Ended() *agent.Execution { return run.ended }

// Wait returns when the execution has ended, as the method of Interpreter. Its reader has left:
// what it has not read is read, so that the sandbox need not be asked anew.
func (run *Running) Wait(ctx context.Context) (agent.Execution, error) {
	if run.ended == nil && run.live != nil {
		run.drain(ctx)
	}
	if run.ended != nil {
		e := *run.ended
		e.Result = nil
		return e, nil
	}
	return run.in.Wait(ctx, run.id)
}

// drain reads to the end of the records, if it can.
func (run *Running) drain(ctx context.Context) {
	c := run.in.begin(ctx, run.in.quietTime())
	defer c.end()
	r := &room{in: run.in}
	defer r.giveBack()
	defer run.live.Close()
	for run.ended == nil {
		rec, _, err := run.live.Next(c.ctx, r)
		if err != nil {
			return
		}
		run.ended = rec.Execution
		r.giveBack()
		c.renew(run.in.quietTime())
	}
}
