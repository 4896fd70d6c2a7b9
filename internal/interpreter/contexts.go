package interpreter

import (
	"context"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
)

// startTime is how long a kernel may take to start in a context of its own.
const startTime = 90 * time.Second

// Contexts is what an Agent does that has kernels besides its first; agent.Client describes it.
type Contexts interface {
	Kernels(ctx context.Context) ([]agent.Kernel, error)
	Contexts(ctx context.Context) ([]agent.Context, error)
	MakeContext(ctx context.Context, name, kernel string) (agent.Context, error)
	DeleteContext(ctx context.Context, name string) error
	RestartContext(ctx context.Context, name string) error
	InterruptContext(ctx context.Context, name string) error
}

var _ Contexts = (*agent.Client)(nil)

// inContexts asks the agent something about contexts.
func inContexts[T any](ctx context.Context, in *Interpreter, fn func(*call, Contexts) (T,
	error)) (T, error) {
	return ask(ctx, in, startTime, func(c *call) (T, error) {
		b, ok := in.agent.(Contexts)
		if !ok {
			var none T
			return none, sandpool.Errorf(sandpool.Unsupported, "", "context",
				"The session's sandbox has one context alone.")
		}
		return fn(c, b)
	})
}

// Kernels lists the kernels that contexts of the session can have.
func (in *Interpreter) Kernels(ctx context.Context) ([]agent.Kernel, error) {
	return inContexts(ctx, in, func(c *call, b Contexts) ([]agent.Kernel, error) {
		return b.Kernels(c.ctx)
	})
}

// Contexts lists the contexts of the session, the default one first.
func (in *Interpreter) Contexts(ctx context.Context) ([]agent.Context, error) {
	return inContexts(ctx, in, func(c *call, b Contexts) ([]agent.Context, error) {
		all, err := b.Contexts(c.ctx)
		if err == nil && len(all) == 0 {
			err = sandpool.Errorf(sandpool.Internal, "", "",
				"The sandbox has no context, which it always has.")
		}
		return all, err
	})
}

// MakeContext makes a context, unless it is there with the same kernel.
func (in *Interpreter) MakeContext(ctx context.Context, name, kernel string) (agent.Context,
	error) {
	return inContexts(ctx, in, func(c *call, b Contexts) (agent.Context, error) {
		return b.MakeContext(c.ctx, name, kernel)
	})
}

// DeleteContext ends a context and what runs in it.
func (in *Interpreter) DeleteContext(ctx context.Context, name string) error {
	return in.inContext(ctx, name, Contexts.DeleteContext)
}

// RestartContext replaces the kernel of a context.
func (in *Interpreter) RestartContext(ctx context.Context, name string) error {
	return in.inContext(ctx, name, Contexts.RestartContext)
}

// InterruptContext interrupts what runs in a context.
func (in *Interpreter) InterruptContext(ctx context.Context, name string) error {
	return in.inContext(ctx, name, Contexts.InterruptContext)
}

func (in *Interpreter) inContext(ctx context.Context, name string,
	do func(Contexts, context.Context, string) error) error {
	_, err := inContexts(ctx, in, func(c *call, b Contexts) (struct{}, error) {
		return struct{}{}, do(b, c.ctx, name)
	})
	return err
}
