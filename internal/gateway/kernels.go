package gateway

import (
	"context"
	"crypto/rand"
	"net/http"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/gateway/wire"
	"github.com/sandpool/sandpool/internal/interpreter"
)

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

// undoTime bounds the end of a session that was made for a question.
const undoTime = 30 * time.Second

// metadata describes what code of the pool finds.
func (g *Gateway) metadata(c *call) error {
	p, err := g.pools.Pool(c.r.Context(), c.pool)
	if err != nil {
		return err
	}
	md, err := g.within.KernelInfo(c.r.Context(), p, g.startOne)
	if err != nil {
		return err
	}
	return arm.WriteJSON(c.w, http.StatusOK, wire.Metadata(p, md))
}

// startOne has a session that nobody asked for, and ends it.
func (g *Gateway) startOne(ctx context.Context, pool sandpool.PoolID) error {
	identifier := sandpool.Identifier("metadata-" + strings.ToLower(rand.Text()))
	lease, err := g.pools.Acquire(ctx, pool, identifier)
	if err != nil {
		return err
	}
	lease.Release()
	undo, done := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer done()
	if err := g.pools.StopSession(undo, pool, identifier); err != nil {
		g.log.WarnContext(ctx, "end a session made for metadata", "pool", pool.String(), "error",
			err)
	}
	return nil
}
