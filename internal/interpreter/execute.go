package interpreter

import (
	"context"

	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/budget"
)

// Execution is one to be run.
type Execution struct {
	agent.ExecuteRequest
	// Sent, if not nil, is called when the request is on its way to the sandbox, and the server
	// needs to hold its code no more.
	Sent func()
}

// Result is what became of an execution.
type Result struct {
	agent.ExecuteResult
	share *budget.Share // nil of a small answer
}

// Release gives back the room of a large answer, once nothing of it is needed any more. Calling
// it again does nothing.
func (r *Result) Release() {
	if r.share != nil {
		r.share.Release()
	}
}

// Execute runs a cell. Whatever the code does to itself is a result; its caller releases it.
//
// The cells of a session run in their order, so that one waits for another, which may take
// the longest timeout. With more cells before it, it is given up, unless the sandbox gets to
// it in time.
func (in *Interpreter) Execute(ctx context.Context, x Execution) (Result, error) {
	c := in.begin(ctx, x.Timeout+in.set.options.MaxTimeout+executionGrace)
	defer c.end()
	r := &room{in: in, sent: x.Sent}
	x.Room = r
	res, err := in.agent.Execute(c.ctx, x.ExecuteRequest)
	if err != nil {
		r.giveBack()
		return Result{}, c.explain(err)
	}
	return Result{ExecuteResult: res, share: r.share}, nil
}
