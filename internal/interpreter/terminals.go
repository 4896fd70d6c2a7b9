package interpreter

import (
	"context"
	"fmt"
	"sync"
	"time"

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

// maxViews is how many views of terminals a session has at the same time: each holds memory of the
// server and of the sandbox for as long as its caller likes.
const maxViews = 64

// View is a terminal that a caller looks at.
type View struct {
	*agent.Terminal
	in     *Interpreter
	closed sync.Once
}

// Close leaves the terminal, which does not end it.
func (v *View) Close() error {
	v.closed.Do(func() { v.in.views.Add(-1) })
	return v.Terminal.Close()
}

// Terminal opens the terminal of that name, or joins it. The caller closes it, by which it does not
// end; ctx is for the opening alone.
func (in *Interpreter) Terminal(ctx context.Context, name string,
	size agent.TerminalSize) (*View, error) {
	if in.views.Add(1) > maxViews {
		in.views.Add(-1)
		return nil, &sandpool.Error{Class: sandpool.Unavailable, Code: "TooManyTerminals",
			Target: "terminal", RetryAfter: time.Second,
			Message: fmt.Sprintf("%d connections look at terminals of this session already. Close "+
				"one of them.", maxViews)}
	}
	t, err := inTerminals(ctx, in, func(c *call, t Terminals) (*agent.Terminal, error) {
		return t.AttachTerminal(c.ctx, name, size)
	})
	if err != nil {
		in.views.Add(-1)
		return nil, err
	}
	return &View{Terminal: t, in: in}, nil
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
