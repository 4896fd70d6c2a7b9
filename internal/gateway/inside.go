package gateway

import (
	"context"
	"io"
	"net/http"
	"strings"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/gateway/terminal"
	"github.com/sandpool/sandpool/internal/gateway/wire"
	"github.com/sandpool/sandpool/internal/interpreter"
)

// inside calls fn with the name of the context or the terminal in the call's path and the
// interpreter of its session, which must be there.
func (g *Gateway) inside(c *call, fn func(in *interpreter.Interpreter,
	name string) error) error {
	name := c.name
	c.name = "" // else a session that is not there would be one without the execution of that name
	return g.existing(c, func(in *interpreter.Interpreter, _ wire.About) error {
		return fn(in, name)
	})
}

// listContexts lists the contexts of a session.
func (g *Gateway) listContexts(c *call) error {
	return g.inside(c, func(in *interpreter.Interpreter, _ string) error {
		all, err := in.Contexts(c.r.Context())
		if err != nil {
			return err
		}
		list := api.Contexts{Value: make([]api.Context, len(all))}
		for i, one := range all {
			list.Value[i] = wire.Context(one)
		}
		return arm.WriteJSON(c.w, http.StatusOK, list)
	})
}

// listKernels lists the kernels that code of a session can name. The session is made if there is
// none: what kernels there are is for its sandbox to say.
func (g *Gateway) listKernels(c *call) error {
	return g.use(c, func(ctx context.Context, in *interpreter.Interpreter) error {
		all, err := in.Kernels(ctx)
		if err != nil {
			return err
		}
		list := api.Kernels{Value: make([]api.Kernel, len(all))}
		for i, k := range all {
			list.Value[i] = api.Kernel{Name: k.Name, DisplayName: k.DisplayName,
				Language: k.Language, Jupyter: k.Jupyter}
		}
		return arm.WriteJSON(c.w, http.StatusOK, list)
	})
}

// getContext describes one context.
func (g *Gateway) getContext(c *call) error {
	return g.inside(c, func(in *interpreter.Interpreter, name string) error {
		all, err := in.Contexts(c.r.Context())
		if err != nil {
			return err
		}
		for _, one := range all {
			if one.Name == name {
				return arm.WriteJSON(c.w, http.StatusOK, wire.Context(one))
			}
		}
		return sandpool.Errorf(sandpool.NotFound, "ContextNotFound", "context",
			"The session has no context %q. PUT makes it.", clip(name))
	})
}

// maxContextBody bounds the body of a call that makes a context.
const maxContextBody = 4 << 10

// makeContext starts a kernel in a context of its own. The session is made if there is none.
func (g *Gateway) makeContext(c *call) error {
	body, err := io.ReadAll(newSteady(c.w, http.MaxBytesReader(c.w, c.r.Body, maxContextBody),
		g.options.Stall))
	if err != nil {
		return sandpool.Errorf(sandpool.Invalid, codeValidation, "body",
			`The request's body is not small JSON such as {"kernel":"shell"}.`)
	}
	var want api.ContextRequest
	if len(strings.TrimSpace(string(body))) > 0 {
		if err := arm.Unmarshal(body, &want); err != nil {
			return jsonError(err)
		}
	}
	if err := agent.CheckName("context", c.name); err != nil {
		return err
	}
	return g.use(c, func(ctx context.Context, in *interpreter.Interpreter) error {
		if want.Kernel == "" {
			all, err := in.Contexts(ctx)
			if err != nil {
				return err
			}
			want.Kernel = all[0].Kernel
		}
		made, err := in.MakeContext(ctx, c.name, want.Kernel)
		if err != nil {
			return err
		}
		return arm.WriteJSON(c.w, http.StatusOK, wire.Context(made))
	})
}

// changeInside is an operation on a context or a terminal that answers with nothing.
func changeInside(do func(*interpreter.Interpreter, *http.Request, string) error) func(*Gateway,
	*call) error {
	return func(g *Gateway, c *call) error {
		return g.inside(c, func(in *interpreter.Interpreter, name string) error {
			if err := do(in, c.r, name); err != nil {
				return err
			}
			c.w.WriteHeader(http.StatusNoContent)
			return nil
		})
	}
}

func deleteContext(in *interpreter.Interpreter, r *http.Request, name string) error {
	return in.DeleteContext(r.Context(), name)
}

func restartContext(in *interpreter.Interpreter, r *http.Request, name string) error {
	return in.RestartContext(r.Context(), name)
}

func interruptContext(in *interpreter.Interpreter, r *http.Request, name string) error {
	return in.InterruptContext(r.Context(), name)
}

// terminal views the terminal that the call's path names over a WebSocket.
func (g *Gateway) terminal(c *call) error {
	if err := terminal.Wanted(c.w, c.r); err != nil {
		return err
	}
	columns, err := c.query.Get("columns")
	if err != nil {
		return err
	}
	rows, err := c.query.Get("rows")
	if err != nil {
		return err
	}
	size, err := terminal.Size(columns, rows)
	if err != nil {
		return err
	}
	identifier, err := c.identifier()
	if err != nil {
		return err
	}
	lease, err := g.pools.Acquire(c.r.Context(), c.pool, identifier)
	if err != nil {
		return err
	}
	defer lease.Release()
	t, err := g.within.Of(lease).Terminal(c.r.Context(), c.name, size)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(c.r.Context())
	defer cancel()
	defer context.AfterFunc(lease.Context(), cancel)()
	go func() {
		select {
		case <-g.over:
			cancel()
		case <-ctx.Done():
		}
	}()
	terminal.Carry(ctx, c.w, c.r, t, g.options.Stall)
	return nil
}

// listTerminals lists the terminals of a session.
func (g *Gateway) listTerminals(c *call) error {
	return g.inside(c, func(in *interpreter.Interpreter, _ string) error {
		all, err := in.Terminals(c.r.Context())
		if err != nil {
			return err
		}
		list := api.Terminals{Value: make([]api.Terminal, len(all))}
		for i, t := range all {
			list.Value[i] = api.Terminal{Name: t.Name, PID: t.PID, CreatedAt: wire.Stamp(t.Created),
				Columns: t.Columns, Rows: t.Rows, Viewers: t.Viewers}
		}
		return arm.WriteJSON(c.w, http.StatusOK, list)
	})
}

func endTerminal(in *interpreter.Interpreter, r *http.Request, name string) error {
	return in.EndTerminal(r.Context(), name)
}
