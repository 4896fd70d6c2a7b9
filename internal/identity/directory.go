package identity

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/auth"
)

// Roles returns what role assignments give to the principal of an identity.
type Roles func(ctx context.Context, principal string) ([]sandpool.Grant, error)

// Directory knows the principals of the identities that pools have.
type Directory struct {
	pools Pools
	there Assigned
	roles Roles
	now   func() time.Time

	mu    sync.Mutex // guards known
	known map[string]known
}

// known is what a principal was given a moment ago.
type known struct {
	grants []sandpool.Grant
	until  time.Time
}

// NewDirectory returns a Directory. now is the clock; nil means time.Now.
func NewDirectory(pools Pools, there Assigned, roles Roles, now func() time.Time) (*Directory,
	error) {
	if pools == nil || there == nil || roles == nil {
		return nil, errors.New("identity: pools, identities and role assignments are required")
	}
	if now == nil {
		now = time.Now
	}
	return &Directory{pools: pools, there: there, roles: roles, now: now,
		known: map[string]known{}}, nil
}

// Principal returns the principal of the identity whose object id is object and that the pool id
// has, for a token that is for an audience. One that has ended is an error of class
// Unauthenticated.
func (d *Directory) Principal(ctx context.Context, id sandpool.PoolID, object,
	audience string) (auth.Principal, error) {
	p, err := d.pools.Pool(ctx, id)
	switch {
	case err != nil && sandpool.ClassOf(err) != sandpool.NotFound:
		return auth.Principal{}, unavailable("tokens", err)
	case err != nil || p.State == sandpool.Deleting || object == "" ||
		!slices.Contains(p.Spec.Identity.Audiences, audience):
		return auth.Principal{}, unknown()
	}
	usable := p.Identities()
	i := slices.IndexFunc(usable, func(a sandpool.AssignedIdentity) bool {
		return a.Principal == object
	})
	if i < 0 {
		return auth.Principal{}, unknown()
	}
	switch live, err := alive(ctx, d.there, p, usable[i]); {
	case err != nil:
		return auth.Principal{}, unavailable("tokens", err)
	case !live:
		return auth.Principal{}, unknown()
	}
	grants, err := d.grants(ctx, object)
	if err != nil {
		return auth.Principal{}, unavailable("role assignments", err)
	}
	return principal(p, usable[i], grants), nil
}

func unavailable(what string, err error) error {
	return &sandpool.Error{Class: sandpool.Unavailable, Err: err,
		Message: "The server cannot check " + what + " at the moment. Try again."}
}

// alive reports whether an identity that a pool has is still there: another one of its name is
// another one.
func alive(ctx context.Context, there Assigned, p sandpool.Pool,
	a sandpool.AssignedIdentity) (bool, error) {
	if p.IsOwn(a) {
		return true, nil
	}
	principal, err := there.UserAssigned(ctx, a.ID)
	return err == nil && principal == a.Principal, err
}

func (d *Directory) grants(ctx context.Context, object string) ([]sandpool.Grant, error) {
	now := d.now()
	d.mu.Lock()
	k, ok := d.known[object]
	d.mu.Unlock()
	if ok && now.Before(k.until) {
		return k.grants, nil
	}
	grants, err := d.roles(ctx, object)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.known) >= maxBelieved {
		clear(d.known)
	}
	d.known[object] = known{grants: grants, until: now.Add(believed)}
	return grants, nil
}
