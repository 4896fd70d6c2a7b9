package auth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sandpool/sandpool"
)

const (
	// cacheFor bounds how long a token is believed without a look at the store.
	// Revoke is at once; this is for a store that somebody else changes.
	cacheFor = 5 * time.Second
	// cacheMax bounds the number of cached tokens.
	cacheMax = 1024
)

// TokenStore keeps tokens. An unknown id is an error of class NotFound from
// Token, and no error from DeleteToken.
type TokenStore interface {
	// Tokens returns all tokens, oldest first.
	Tokens(ctx context.Context) ([]sandpool.Token, error)
	// Token returns the token with the given id.
	Token(ctx context.Context, id string) (sandpool.Token, error)
	// PutToken inserts t or replaces the token of the same id.
	PutToken(ctx context.Context, t sandpool.Token) error
	// DeleteToken removes the token with the given id.
	DeleteToken(ctx context.Context, id string) error
}

// Tokens makes and verifies the server's own tokens. It keeps those of the last seconds in
// memory, so that a request costs no look at the store.
type Tokens struct {
	store TokenStore
	now   func() time.Time

	// granting is held while grants are read, changed and written, and while a token is deleted:
	// a change of its grants would write it again. It is taken before mu.
	granting sync.Mutex
	// mu guards the fields below it.
	mu    sync.Mutex
	cache map[string]cached
	// changes counts revocations. A token that was read from the store before
	// a revocation must not enter the cache after it.
	changes int
}

var _ Verifier = (*Tokens)(nil)

type cached struct {
	token sandpool.Token
	// principal is that of the token while the token is valid.
	principal Principal
	until     time.Time
}

// NewTokens returns the tokens in store. now is the clock; nil means time.Now.
func NewTokens(store TokenStore, now func() time.Time) (*Tokens, error) {
	if store == nil {
		return nil, errors.New("tokens: a token store is required")
	}
	if now == nil {
		now = time.Now
	}
	return &Tokens{store: store, now: now, cache: map[string]cached{}}, nil
}

// Recognizes implements Verifier.
func (t *Tokens) Recognizes(c Credential) bool {
	return c.Kind == Bearer && strings.HasPrefix(c.Text, tokenPrefix)
}

// Verify implements Verifier. A token that is malformed, unknown, wrong or expired is an error
// of class Unauthenticated that does not say which.
func (t *Tokens) Verify(ctx context.Context, c Credential) (Principal, error) {
	id, secret, ok := parseToken(c.Text)
	if !ok {
		return Principal{}, refused()
	}
	now := t.now()
	t.mu.Lock()
	known, hit := t.cache[id]
	changes := t.changes
	t.mu.Unlock()
	fresh := !hit || !now.Before(known.until)
	if fresh {
		row, err := t.find(ctx, id)
		if err != nil {
			return Principal{}, err
		}
		known = cached{token: row, principal: principalOf(row), until: now.Add(cacheFor)}
	}
	if !fits(known.token, secret, now) {
		return Principal{}, refused()
	}
	if fresh {
		t.remember(id, known, changes)
	}
	return known.principal, nil
}

// Holder returns the principal of the token with the given id, for a verifier that has another
// proof of who holds it. One that is unknown, revoked or expired is an error of class
// Unauthenticated.
func (t *Tokens) Holder(ctx context.Context, id string) (Principal, error) {
	row, err := t.find(ctx, id)
	if err != nil {
		return Principal{}, err
	}
	if row.ID == "" || !row.ExpiresAt.IsZero() && !t.now().Before(row.ExpiresAt) {
		return Principal{}, refused()
	}
	return principalOf(row).At(t.now()), nil
}

// remember caches c unless a token was revoked since changes was read. Only
// tokens whose secret was right get here, so guesses cannot push them out.
func (t *Tokens) remember(id string, c cached, changes int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.changes != changes {
		return
	}
	if _, known := t.cache[id]; !known && len(t.cache) >= cacheMax {
		clear(t.cache)
	}
	t.cache[id] = c
}

// Create stores a new token and returns its text, which is not kept. A zero expires means never.
func (t *Tokens) Create(ctx context.Context, name string, grants []sandpool.Grant,
	expires time.Time) (sandpool.Token, string, error) {
	row, text, err := NewToken(name, grants, expires, t.now())
	if err != nil {
		return sandpool.Token{}, "", err
	}
	return row, text, t.store.PutToken(ctx, row)
}

// List returns all tokens, oldest first.
func (t *Tokens) List(ctx context.Context) ([]sandpool.Token, error) {
	return t.store.Tokens(ctx)
}

// Revoke deletes the token with the given id. No request that begins after
// Revoke has returned is let in by it. An unknown id is an error of class NotFound.
func (t *Tokens) Revoke(ctx context.Context, id string) error {
	t.granting.Lock()
	defer t.granting.Unlock()
	if _, err := t.store.Token(ctx, id); err != nil {
		return err
	}
	err := t.store.DeleteToken(ctx, id)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.changes++
	delete(t.cache, id)
	return err
}

// Grant adds g to the grants of the token with the given id, which holds at once. An unknown id
// is an error of class NotFound.
func (t *Tokens) Grant(ctx context.Context, id string, g sandpool.Grant) error {
	return t.regrant(ctx, id, func(grants []sandpool.Grant) ([]sandpool.Grant, error) {
		if slices.Contains(grants, g) {
			return grants, nil
		}
		if len(grants) >= maxGrants {
			return nil, sandpool.Errorf(sandpool.Invalid, "InvalidGrants", "grants",
				"The token %q has %d grants and can have no more.", id, maxGrants)
		}
		return append(slices.Clone(grants), g), nil
	})
}

// Ungrant takes g from the grants of the token with the given id, at once. An unknown id is an
// error of class NotFound.
func (t *Tokens) Ungrant(ctx context.Context, id string, g sandpool.Grant) error {
	return t.regrant(ctx, id, func(grants []sandpool.Grant) ([]sandpool.Grant, error) {
		return slices.DeleteFunc(slices.Clone(grants), func(have sandpool.Grant) bool {
			return have == g
		}), nil
	})
}

func (t *Tokens) regrant(ctx context.Context, id string,
	change func([]sandpool.Grant) ([]sandpool.Grant, error)) error {
	t.granting.Lock()
	defer t.granting.Unlock()
	row, err := t.store.Token(ctx, id)
	if err != nil {
		return err
	}
	if row.Grants, err = change(row.Grants); err != nil {
		return err
	}
	err = t.store.PutToken(ctx, row)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.changes++
	delete(t.cache, id)
	return err
}

// find returns the zero token for an unknown id: fits compares it like any
// other, so that an unknown id costs what a known one does.
func (t *Tokens) find(ctx context.Context, id string) (sandpool.Token, error) {
	row, err := t.store.Token(ctx, id)
	if sandpool.ClassOf(err) == sandpool.NotFound {
		return sandpool.Token{}, nil
	}
	if err != nil {
		return sandpool.Token{}, &sandpool.Error{Class: sandpool.Unavailable,
			Message: "The server cannot check tokens at the moment. Try again.", Err: err}
	}
	return row, nil
}

// fits reports whether secret opens t at the time now.
func fits(t sandpool.Token, secret string, now time.Time) bool {
	want := t.Hash
	if len(want) != sha256.Size {
		want = make([]byte, sha256.Size) // no secret is known that hashes to zeros
	}
	same := subtle.ConstantTimeCompare(want, hash(secret)) == 1
	expired := !t.ExpiresAt.IsZero() && !now.Before(t.ExpiresAt)
	return same && !expired && t.ID != ""
}

func principalOf(t sandpool.Token) Principal {
	return Principal{Subject: "token:" + t.ID, Name: t.Name, Grants: t.Grants}
}
