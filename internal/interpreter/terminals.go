package interpreter

import (
	"context"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
)

// Terminals is what an Agent does that has terminals; agent.Client describes it.
type Terminals interface {
	AttachTerminal(ctx context.Context, name string, size agent.TerminalSize) (*agent.Terminal,
		error)
	Terminals(ctx context.Context) ([]agent.TerminalInfo, error)
	EndTerminal(ctx context.Context, name string) error
}

var _ Terminals = (*agent.Client)(nil)

func inTerminals[T any](ctx context.Context, in *Interpreter, fn func(*call, Terminals) (T,
	error)) (T, error) {
	return ask(ctx, in, answerTime, func(c *call) (T, error) {
		t, ok := in.agent.(Terminals)
		if !ok {
			var none T
			return none, sandpool.Errorf(sandpool.Unsupported, "", "terminal",
				"The session's sandbox has no terminals.")
		}
		return fn(c, t)
	})
}

// Terminal opens the terminal of that name, or joins it. The caller closes it, by which it does not
// end; ctx is for the opening alone.
func (in *Interpreter) Terminal(ctx context.Context, name string,
	size agent.TerminalSize) (*agent.Terminal, error) {
	return inTerminals(ctx, in, func(c *call, t Terminals) (*agent.Terminal, error) {
		return t.AttachTerminal(c.ctx, name, size)
	})
}

// Terminals lists the terminals of the session.
func (in *Interpreter) Terminals(ctx context.Context) ([]agent.TerminalInfo, error) {
	return inTerminals(ctx, in, func(c *call, t Terminals) ([]agent.TerminalInfo, error) {
		return t.Terminals(c.ctx)
	})
}

// EndTerminal hangs a terminal up.
func (in *Interpreter) EndTerminal(ctx context.Context, name string) error {
	_, err := inTerminals(ctx, in, func(c *call, t Terminals) (struct{}, error) {
		return struct{}{}, t.EndTerminal(c.ctx, name)
	})
	return err
}
