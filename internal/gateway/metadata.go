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

// metadataCache remembers what each pool's sandboxes hold. It is the same for all
// sandboxes of a pool's revision.
type metadataCache struct {
	mu    sync.Mutex // guards the fields below it
	known map[string]knownMetadata
	// turns holds a channel for each pool that has been asked about, with room for one
	// token: who has put it there may ask a sandbox of the pool.
	turns map[string]chan struct{}
}

func newMetadataCache() *metadataCache {
	return &metadataCache{known: map[string]knownMetadata{}, turns: map[string]chan struct{}{}}
}

// turn waits for the turn to ask a sandbox of the pool; the caller ends it.
func (m *metadataCache) turn(ctx context.Context, p sandpool.Pool) (end func(), err error) {
	turn := m.turnOf(p)
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

func (m *metadataCache) turnOf(p sandpool.Pool) chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	turn, ok := m.turns[p.ID.Key()]
	if !ok {
		turn = make(chan struct{}, 1)
		m.turns[p.ID.Key()] = turn
	}
	return turn
}

type knownMetadata struct {
	revision int64
	created  time.Time // the pool: one that is made anew begins at the first revision again
	metadata agent.Metadata
}

func (m *metadataCache) get(p sandpool.Pool) (agent.Metadata, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k, ok := m.known[p.ID.Key()]
	return k.metadata, ok && k.revision == p.Revision && k.created.Equal(p.CreatedAt)
}

func (m *metadataCache) put(p sandpool.Pool, md agent.Metadata) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.known[p.ID.Key()] = knownMetadata{p.Revision, p.CreatedAt, md}
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

// packages returns the metadata of a pool. Of many who ask at the same time one asks a
// sandbox, since each question takes a session of the pool's.
func (g *Gateway) packages(ctx context.Context, p sandpool.Pool) (agent.Metadata, error) {
	if known := g.options.Metadata; known != nil {
		if md, ok := known(p); ok {
			return md, nil
		}
	}
	if md, ok := g.found.get(p); ok {
		return md, nil
	}
	end, err := g.found.turn(ctx, p)
	if err != nil {
		return agent.Metadata{}, err
	}
	defer end()
	if md, ok := g.found.get(p); ok {
		return md, nil
	}
	md, err := g.look(ctx, p.ID)
	if err == nil {
		g.found.put(p, md)
	}
	return md, err
}

// look asks a sandbox of the pool. The call has no session, so one is made for the
// question and ended after it.
func (g *Gateway) look(ctx context.Context, pool sandpool.PoolID) (agent.Metadata, error) {
	identifier := sandpool.Identifier("metadata-" + strings.ToLower(rand.Text()))
	lease, err := g.pools.Acquire(ctx, pool, identifier)
	if err != nil {
		return agent.Metadata{}, err
	}
	inner, cancel := within(ctx, lease)
	patience := newPatience(cancel, answerTime)
	md, err := g.clients.of(lease).Metadata(inner)
	patience.pause()
	if s := silent(inner); s != nil && err != nil {
		err = unreachable(s)
	}
	cancel(nil)
	lease.Release()
	undo, done := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer done()
	if stopErr := g.pools.StopSession(undo, pool, identifier); stopErr != nil {
		g.log.WarnContext(ctx, "end a session made for metadata", "pool", pool.String(), "error", stopErr)
	}
	if err != nil && asError(err) == nil && ctx.Err() == nil {
		err = unreachable(err)
	}
	return md, err
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
