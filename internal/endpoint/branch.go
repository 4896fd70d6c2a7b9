package endpoint

import (
	"context"
	"errors"
	"net/http"
	"net/url"
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

// Branch hands requests on by the kind of their pool.
type Branch struct {
	kinds   Kinds
	respond Responder
	custom  *Custom
	suffix  string
	rest    http.Handler
}

// NewBranch returns a Branch. custom serves custom pools, rest everything else, and below
// .management those too, at the pool's path. suffix is that of pools' host names; empty means that they
// have none.
func NewBranch(kinds Kinds, respond Responder, custom *Custom, suffix string, rest http.Handler) (*Branch, error) {
	if kinds == nil || respond == nil || custom == nil || rest == nil {
		return nil, errors.New("endpoint: kinds, respond, custom and rest are required")
	}
	return &Branch{kinds: kinds, respond: respond, custom: custom, rest: rest,
		suffix: strings.ToLower(strings.Trim(suffix, "."))}, nil
}

// OwnHost reports whether r came to a host name of a pool's own, where everything is the pool's.
func (b *Branch) OwnHost(r *http.Request) bool {
	_, ok := poolOfHost(r.Host, b.suffix)
	return ok
}

// ServeHTTP implements http.Handler.
func (b *Branch) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t, ok := Find(r, b.suffix)
	if !ok {
		b.rest.ServeHTTP(w, r)
		return
	}
	if b.isCustom(r.Context(), t.Pool) {
		operation, management := t.management()
		if !management || b.custom.manages(operation) {
			b.respond.Handle(func(w http.ResponseWriter, r *http.Request) error {
				return b.custom.serve(w, r, t, operation)
			}).ServeHTTP(w, r)
			return
		}
	}
	if t.OwnHost {
		r = atPath(r, t)
	}
	b.rest.ServeHTTP(w, r)
}

// isCustom says whether a pool's requests belong to its containers. What is wrong with a pool is
// said where permission is checked.
func (b *Branch) isCustom(ctx context.Context, id sandpool.PoolID) bool {
	if arm.CheckPoolID(id) != nil {
		return false
	}
	kind, err := b.kinds.Kind(ctx, id)
	return err == nil && kind == sandpool.CustomContainer
}

// atPath returns a request to a pool's own host as one to its path.
func atPath(r *http.Request, t Target) *http.Request {
	u := *r.URL
	u.RawPath = arm.EndpointOf(t.Pool) + t.Path
	path, err := url.PathUnescape(u.RawPath)
	if err != nil {
		path = u.RawPath // which is refused where the path is given one spelling
	}
	u.Path = path
	moved := *r
	moved.URL = &u
	return &moved
}
