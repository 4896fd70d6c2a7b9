package gateway

import (
	"context"
	"crypto/rand"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/arm"
)

const (
	// undoTime bounds the end of a session that was made for a question.
	undoTime = 30 * time.Second
	// turnTime is how long a question waits for the one before it.
	turnTime = 30 * time.Second
)

// getExecution answers for asynchronous executions, which are refused when they
// are posted: there is none to be found.
func (g *Gateway) getExecution(c *call) error {
	return sandpool.Errorf(sandpool.NotFound, "ExecutionNotFound", "executionId",
		"No execution available for operation Id: %s. Asynchronous executions are not supported yet; the answer of a synchronous one is in the response to its POST.", clip(c.name))
}

// turns holds a channel for each pool that has been asked about, with room for one
// token: who has put it there may start a sandbox of the pool to learn what it holds.
type turns struct {
	mu sync.Mutex // guards of
	of map[string]chan struct{}
}

// take waits for the turn; the caller ends it.
func (t *turns) take(ctx context.Context, pool sandpool.PoolID) (end func(), err error) {
	turn := t.turn(pool)
	late := time.NewTimer(turnTime)
	defer late.Stop()
	select {
	case turn <- struct{}{}:
		return func() { <-turn }, nil
	case <-late.C:
		return nil, sandpool.Errorf(sandpool.Unavailable, "", "sessionPool",
			"The pool is slow to start a sandbox, of which the metadata is asked. Try again.")
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (t *turns) turn(pool sandpool.PoolID) chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	turn, ok := t.of[pool.Key()]
	if !ok {
		turn = make(chan struct{}, 1)
		t.of[pool.Key()] = turn
	}
	return turn
}

// metadata describes what code of the pool finds.
func (g *Gateway) metadata(c *call) error {
	p, err := g.pools.Pool(c.r.Context(), c.pool)
	if err != nil {
		return err
	}
	md, err := g.packages(c.r.Context(), p)
	if err != nil {
		return err
	}
	return arm.WriteJSON(c.w, http.StatusOK, describePool(p, md))
}

// packages returns the metadata of a pool. It is known once a sandbox of the pool has
// started. Of many who ask before that, one has a sandbox started, since that takes a session of the pool's.
func (g *Gateway) packages(ctx context.Context, p sandpool.Pool) (agent.Metadata, error) {
	if md, ok := g.options.Metadata(p); ok {
		return md, nil
	}
	end, err := g.turns.take(ctx, p.ID)
	if err != nil {
		return agent.Metadata{}, err
	}
	defer end()
	if md, ok := g.options.Metadata(p); ok {
		return md, nil
	}
	if err := g.startOne(ctx, p.ID); err != nil {
		return agent.Metadata{}, err
	}
	if md, ok := g.options.Metadata(p); ok {
		return md, nil
	}
	return agent.Metadata{}, sandpool.Errorf(sandpool.Unavailable, "", "sessionPool", "The pool was changed meanwhile. Try again.")
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
	packages := make([]api.Package, len(md.Packages))
	for i, pkg := range md.Packages {
		packages[i] = api.Package{Name: pkg.Name, Version: pkg.Version}
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
