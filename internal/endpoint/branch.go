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
	// Serve answers a request for a pool, about which nothing has been checked. The segments
	// are those of the path below the pool's endpoint, decoded.
	Serve(w http.ResponseWriter, r *http.Request, pool sandpool.PoolID, segments []string) error
}

// MCP serves the MCP endpoint of code pools.
type MCP interface {
	// Serve answers a request for a pool, about which nothing has been checked.
	Serve(w http.ResponseWriter, r *http.Request, pool sandpool.PoolID) error
}

// Parts are what a Branch hands requests to. All are required.
type Parts struct {
	Code   Code
	Custom *Custom
	MCP    MCP
	// Rest gets the requests that are for no pool's data plane.
	Rest http.Handler
}

// Branch hands requests on by the kind of their pool.
type Branch struct {
	kinds   Kinds
	respond Responder
	to      Parts
	suffix  string
}

// NewBranch returns a Branch. suffix is that of pools' host names; empty means that they have none.
func NewBranch(kinds Kinds, respond Responder, suffix string, to Parts) (*Branch, error) {
	if kinds == nil || respond == nil || to.Code == nil || to.Custom == nil || to.MCP == nil ||
		to.Rest == nil {
		return nil, errors.New("endpoint: kinds, respond and all parts are required")
	}
	return &Branch{kinds: kinds, respond: respond, to: to,
		suffix: strings.ToLower(strings.Trim(suffix, "."))}, nil
}

// OwnHost reports whether r came to a host name of a pool's own, where everything is the pool's.
func (b *Branch) OwnHost(r *http.Request) bool {
	_, ok := poolOfHost(r.Host, b.suffix)
	return ok
}

// Keys returns the pool whose own key r may show: that of the MCP endpoint which r is for. To a
// custom pool that path is its container's, and so is the key that it may want.
func (b *Branch) Keys(r *http.Request) (sandpool.PoolID, bool) {
	t, ok := Find(r, b.suffix)
	if !ok || !t.isMCP() || b.isCustom(r.Context(), t.Pool) {
		return sandpool.PoolID{}, false
	}
	return t.Pool, true
}

// ServeHTTP implements http.Handler.
func (b *Branch) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t, ok := Find(r, b.suffix)
	if !ok {
		b.to.Rest.ServeHTTP(w, r)
		return
	}
	b.respond.Handle(func(w http.ResponseWriter, r *http.Request) error {
		return b.serve(w, r, t)
	}).ServeHTTP(w, r)
}

func (b *Branch) serve(w http.ResponseWriter, r *http.Request, t Target) error {
	if b.isCustom(r.Context(), t.Pool) {
		operation, management := t.management()
		if !management || b.to.Custom.manages(operation) {
			return b.to.Custom.serve(w, r, t, operation)
		}
	}
	if t.isMCP() {
		return b.to.MCP.Serve(w, r, t.Pool)
	}
	segments, err := arm.Segments(t.Path)
	if err != nil {
		return err
	}
	return b.to.Code.Serve(w, r, t.Pool, segments)
}

// isCustom says whether a pool's requests belong to its containers. What is wrong with a pool is
// said where permission is checked.
func (b *Branch) isCustom(ctx context.Context, id sandpool.PoolID) bool {
	kind, err := b.kinds.Kind(ctx, id)
	return err == nil && kind == sandpool.CustomContainer
}
