package gateway

import (
	"context"
	"crypto/rand"
	"net/http"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/gateway/wire"
)

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
