package gateway

import (
	"context"
	"crypto/rand"
	"net/http"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/arm"
)

// undoTime bounds the end of a session that was made for a question.
const undoTime = 30 * time.Second

// metadata describes what code of the pool finds.
func (g *Gateway) metadata(c *call) error {
	p, err := g.pools.Pool(c.r.Context(), c.pool)
	if err != nil {
		return err
	}
	md, err := g.within.Metadata(c.r.Context(), p, g.startOne)
	if err != nil {
		return err
	}
	return arm.WriteJSON(c.w, http.StatusOK, describePool(p, md))
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
		g.log.WarnContext(ctx, "end a session made for metadata", "pool", pool.String(), "error", err)
	}
	return nil
}

func describePool(p sandpool.Pool, md agent.Metadata) api.Metadata {
	packages := md.Packages
	if packages == nil {
		packages = []api.Package{} // clients want a list
	}
	return api.Metadata{
		Runtimes:             []api.Package{{Name: md.Runtime, Version: md.Version}},
		PreInstalledPackages: packages,
		CreatedAt:            stamp(p.CreatedAt),
		LastUpdatedAt:        stamp(p.UpdatedAt),
		JupyterKernel: api.JupyterKernel{Name: md.Kernel, Version: md.KernelVersion,
			ProjectURL: "https://ipython.org", Description: "IPython's formatters, magics and display hooks, driven by sandpool's agent."},
	}
}
