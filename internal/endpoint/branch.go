package endpoint

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/arm"
)

// Kinds tells the kinds of pools.
type Kinds interface {
	// Kind returns the kind of a pool; an unknown pool is an error of class NotFound.
	Kind(ctx context.Context, id sandpool.PoolID) (sandpool.ContainerType, error)
}

// Responder turns a handler that returns an error into an http.Handler; arm's does.
type Responder interface {
	Handle(fn func(w http.ResponseWriter, r *http.Request) error) http.Handler
}

// Code serves the data plane of code pools, and what is below .management of every pool.
type Code interface {
	// Serve answers a request for a pool, about which nothing has been checked. The kind is that of
	// the pool, and "" if there is none of that name; the segments are those of the path below the
	// pool's endpoint, decoded.
	Serve(w http.ResponseWriter, r *http.Request, pool sandpool.PoolID, kind sandpool.ContainerType,
		segments []string) error
}

// MCP serves the MCP endpoint of pools.
type MCP interface {
	// Serve answers a request for a pool, about which nothing has been checked.
	Serve(w http.ResponseWriter, r *http.Request, pool sandpool.PoolID) error
}

// Parts are what a Branch hands requests to. All are required.
type Parts struct {
	Code   Code
	Custom *Custom
	MCP    MCP
}

// Branch hands requests for pools' data planes on by the kind of their pool. It serves those that
// Split has found the target of.
type Branch struct {
	kinds  Kinds
	to     Parts
	suffix string
	http.Handler
}

// NewBranch returns a Branch. suffix is that of pools' host names; empty means that they have none.
func NewBranch(kinds Kinds, respond Responder, suffix string, to Parts) (*Branch, error) {
	if kinds == nil || respond == nil || to.Code == nil || to.Custom == nil || to.MCP == nil {
		return nil, errors.New("endpoint: kinds, respond and all parts are required")
	}
	b := &Branch{kinds: kinds, to: to, suffix: strings.ToLower(strings.Trim(suffix, "."))}
	b.Handler = respond.Handle(b.serve)
	return b, nil
}

// targetKey is that of the target in a request's context.
type targetKey struct{}

// Split hands the requests that are for a pool's data plane to pools, which the Branch is or comes
// behind, and the others to rest.
func (b *Branch) Split(pools, rest http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t, ok := Find(r, b.suffix)
		if !ok {
			rest.ServeHTTP(w, r)
			return
		}
		pools.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), targetKey{}, t)))
	})
}

// Found returns the target that Split has found, and false in a request that is for no pool.
func Found(ctx context.Context) (Target, bool) {
	t, ok := ctx.Value(targetKey{}).(Target)
	return t, ok
}

// Keys returns the pool whose own key r may show: that of the MCP endpoint which r is for. Where
// that path is a container's, so is the key that it may want.
func (b *Branch) Keys(r *http.Request) (sandpool.PoolID, bool) {
	t, ok := Found(r.Context())
	if !ok || !t.mcp || !b.hasMCP(r.Context(), t.Pool, b.kind(r.Context(), t.Pool)) {
		return sandpool.PoolID{}, false
	}
	return t.Pool, true
}

// hasMCP reports whether a pool has an MCP endpoint of ours: every code pool has one, and a custom
// pool if it says so.
func (b *Branch) hasMCP(ctx context.Context, pool sandpool.PoolID,
	kind sandpool.ContainerType) bool {
	return kind != sandpool.CustomContainer || b.to.Custom.hasTools(ctx, pool)
}

func (b *Branch) serve(w http.ResponseWriter, r *http.Request) error {
	t, ok := Found(r.Context())
	if !ok {
		return errors.New("endpoint: a request came to a Branch without passing its Split")
	}
	kind := b.kind(r.Context(), t.Pool)
	if t.mcp && b.hasMCP(r.Context(), t.Pool, kind) {
		return b.to.MCP.Serve(w, r, t.Pool)
	}
	if kind == sandpool.CustomContainer {
		operation, management := t.management()
		if !management || b.to.Custom.manages(operation) {
			return b.to.Custom.serve(w, r, t, operation)
		}
	}
	segments, err := arm.Segments(t.Path)
	if err != nil {
		return err
	}
	return b.to.Code.Serve(w, r, t.Pool, kind, segments)
}

// kind is what a pool's sandboxes run, and "" if it is not known. What is wrong with a pool is said
// where permission is checked.
func (b *Branch) kind(ctx context.Context, id sandpool.PoolID) sandpool.ContainerType {
	kind, err := b.kinds.Kind(ctx, id)
	if err != nil {
		return ""
	}
	return kind
}
