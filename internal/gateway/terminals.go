package gateway

import (
	"context"
	"net/http"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/gateway/terminal"
	"github.com/sandpool/sandpool/internal/gateway/wire"
	"github.com/sandpool/sandpool/internal/interpreter"
)

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
	lease, err := g.acquire(c)
	if err != nil {
		return err
	}
	defer lease.Release()
	t, err := g.within.Of(lease).Terminal(c.r.Context(), c.name, size)
	if err != nil {
		return err
	}
	ctx, cancel := g.whileServing(c.r.Context())
	defer cancel()
	defer context.AfterFunc(lease.Context(), cancel)()
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
