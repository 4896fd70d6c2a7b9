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

// Assigned returns what role assignments give to a pool's principal.
type Assigned func(ctx context.Context, principal string) ([]sandpool.Grant, error)

// Directory knows the principals of pools.
type Directory struct {
	pools    Pools
	assigned Assigned
	now      func() time.Time

	mu    sync.Mutex // guards known
	known map[string]known
}

// known is what a principal was given a moment ago.
type known struct {
	grants []sandpool.Grant
	until  time.Time
}

// NewDirectory returns a Directory. now is the clock; nil means time.Now.
func NewDirectory(pools Pools, assigned Assigned, now func() time.Time) (*Directory, error) {
	if pools == nil || assigned == nil {
		return nil, errors.New("identity: pools and role assignments are required")
	}
	if now == nil {
		now = time.Now
	}
	return &Directory{pools: pools, assigned: assigned, now: now, known: map[string]known{}}, nil
}

// Principal returns the principal of the pool id, whose object id is object, for a token that is
// for an audience. One that has ended is an error of class Unauthenticated.
func (d *Directory) Principal(ctx context.Context, id sandpool.PoolID, object,
	audience string) (auth.Principal, error) {
	p, err := d.pools.Pool(ctx, id)
	switch {
	case err != nil && sandpool.ClassOf(err) != sandpool.NotFound:
		return auth.Principal{}, &sandpool.Error{Class: sandpool.Unavailable, Err: err,
			Message: "The server cannot check tokens at the moment. Try again."}
	case err != nil || p.State == sandpool.Deleting || object == "" ||
		p.Spec.Identity.Principal != object || !p.Spec.Identity.InSessions ||
		!slices.Contains(p.Spec.Identity.Audiences, audience):
		return auth.Principal{}, unknown()
	}
	grants, err := d.grants(ctx, object)
	if err != nil {
		return auth.Principal{}, &sandpool.Error{Class: sandpool.Unavailable, Err: err,
			Message: "The server cannot check role assignments at the moment. Try again."}
	}
	return principal(p, grants), nil
}

func (d *Directory) grants(ctx context.Context, object string) ([]sandpool.Grant, error) {
	now := d.now()
	d.mu.Lock()
	k, ok := d.known[object]
	d.mu.Unlock()
	if ok && now.Before(k.until) {
		return k.grants, nil
	}
	grants, err := d.assigned(ctx, object)
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
