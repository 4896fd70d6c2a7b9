package interpreter

import (
	"context"

	"github.com/sandpool/sandpool/internal/agent"
)

// Result is what became of an execution.
type Result struct {
	agent.ExecuteResult
	share *share
}

// Release gives back the room of a large answer, once it has been written or given up.
func (r *Result) Release() {
	if r.share != nil {
		r.share.giveBack()
	}
}

// Execute runs a cell. Whatever the code does to itself is a result; its caller releases it.
//
// The cells of a session run in their order, so that one waits for another, which may take
// the longest timeout. With more cells before it, it is given up, unless the sandbox gets to
// it in time.
func (in *Interpreter) Execute(ctx context.Context, r agent.ExecuteRequest) (Result, error) {
	c := in.begin(ctx, r.Timeout+in.set.options.MaxTimeout+executionGrace)
	defer c.end()
	s := &share{of: in.set.room}
	r.Room = s
	res, err := in.agent.Execute(c.ctx, r)
	if err != nil {
		s.giveBack()
		return Result{}, c.explain(err)
	}
	return Result{ExecuteResult: res, share: s}, nil
}
