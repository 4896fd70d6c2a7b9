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
	"github.com/sandpool/sandpool/internal/gateway/body"
	"github.com/sandpool/sandpool/internal/gateway/request"
	"github.com/sandpool/sandpool/internal/gateway/wire"
	"github.com/sandpool/sandpool/internal/interpreter"
)

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
	data, err := io.ReadAll(body.New(c.w, http.MaxBytesReader(c.w, c.r.Body, maxContextBody),
		g.options.Stall))
	if err != nil {
		return sandpool.Errorf(sandpool.Invalid, wire.CodeValidation, "body",
			`The request's body is not small JSON such as {"kernel":"shell"}.`)
	}
	var want api.ContextRequest
	if len(strings.TrimSpace(string(data))) > 0 {
		if err := arm.Unmarshal(data, &want); err != nil {
			return request.BodyError(err)
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

func deleteContext(in *interpreter.Interpreter, r *http.Request, name string) error {
	return in.DeleteContext(r.Context(), name)
}

func restartContext(in *interpreter.Interpreter, r *http.Request, name string) error {
	return in.RestartContext(r.Context(), name)
}

func interruptContext(in *interpreter.Interpreter, r *http.Request, name string) error {
	return in.InterruptContext(r.Context(), name)
}
