package auth

import (
	"context"
	"errors"
	"net/http"
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
	// maxHeader bounds an Authorization header; a token has 72 bytes.
	maxHeader = 4096
)

// Options are the parts of an Authenticator that the server chooses.
type Options struct {
	// Fail writes an error as the answer. Required.
	Fail func(w http.ResponseWriter, r *http.Request, err error)
	// Open lists the exact paths that are answered without a principal.
	Open []string
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Authenticator finds the principal of requests. It keeps the tokens of the
// last seconds in memory, so that a request costs no look at the store.
type Authenticator struct {
	store TokenStore
	o     Options

	// mu guards the fields below it.
	mu    sync.Mutex
	cache map[string]cached
	// changes counts revocations. A token that was read from the store before
	// a revocation must not enter the cache after it.
	changes int
}

type cached struct {
	token sandpool.Token
	until time.Time
}

// NewAuthenticator returns an Authenticator of the tokens in store.
func NewAuthenticator(store TokenStore, o Options) (*Authenticator, error) {
	if store == nil || o.Fail == nil {
		return nil, errors.New("authenticator: a token store and Options.Fail are required")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Authenticator{store: store, o: o, cache: map[string]cached{}}, nil
}

// Middleware refuses requests without a valid token, and gives the others'
// principal to the context, where FromContext and Require find it. It must come after the
// path has been normalised.
func (a *Authenticator) Middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if slices.Contains(a.o.Open, r.URL.EscapedPath()) {
			next.ServeHTTP(w, r)
			return
		}
		p, err := a.Authenticate(r)
		if err != nil {
			if sandpool.ClassOf(err) == sandpool.Unauthenticated {
				w.Header().Set("Www-Authenticate", `Bearer realm="sandpool"`)
			}
			a.o.Fail(w, r, err)
			return
		}
		next.ServeHTTP(w, r.WithContext(WithPrincipal(r.Context(), p)))
	})
}

// Authenticate returns the principal of r.
func (a *Authenticator) Authenticate(r *http.Request) (Principal, error) {
	text, err := bearer(r)
	if err != nil {
		return Principal{}, err
	}
	return a.Verify(r.Context(), text)
}

// Verify returns the principal of a token's text.
func (a *Authenticator) Verify(ctx context.Context, text string) (Principal, error) {
	id, secret, ok := parseToken(text)
	if !ok {
		return Principal{}, refused()
	}
	now := a.o.Now()
	a.mu.Lock()
	c, hit := a.cache[id]
	changes := a.changes
	a.mu.Unlock()
	if !hit || !now.Before(c.until) {
		t, err := find(ctx, a.store, id)
		if err != nil {
			return Principal{}, err
		}
		c = cached{token: t, until: now.Add(cacheFor)}
	}
	p, err := check(c.token, secret, now)
	if err == nil {
		a.remember(id, c, changes)
	}
	return p, err
}

// remember caches c unless a token was revoked since changes was read. Only
// tokens whose secret was right get here, so guesses cannot push them out.
func (a *Authenticator) remember(id string, c cached, changes int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.changes != changes {
		return
	}
	if _, known := a.cache[id]; !known && len(a.cache) >= cacheMax {
		clear(a.cache)
	}
	a.cache[id] = c
}

// Create stores a new token and returns its text, which is not kept.
func (a *Authenticator) Create(ctx context.Context, name string, role Role, scope sandpool.PoolID, expires time.Time) (sandpool.Token, string, error) {
	t, text, err := NewToken(name, role, scope, expires, a.o.Now())
	if err != nil {
		return sandpool.Token{}, "", err
	}
	return t, text, a.store.PutToken(ctx, t)
}

// List returns all tokens, oldest first.
func (a *Authenticator) List(ctx context.Context) ([]sandpool.Token, error) {
	return a.store.Tokens(ctx)
}

// Revoke deletes the token with the given id. No request that begins after
// Revoke has returned is let in by it. An unknown id is an error of class NotFound.
func (a *Authenticator) Revoke(ctx context.Context, id string) error {
	if _, err := a.store.Token(ctx, id); err != nil {
		return err
	}
	err := a.store.DeleteToken(ctx, id)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.changes++
	delete(a.cache, id)
	return err
}

// bearer returns the token's text that r carries, in its one Authorization header.
func bearer(r *http.Request) (string, error) {
	headers := r.Header.Values("Authorization")
	inQuery := strings.Contains(r.URL.RawQuery, "access_token=")
	switch {
	case inQuery:
		return "", missing("A token in the query is refused, because addresses end up in logs. Send it in the header Authorization.")
	case len(headers) == 0:
		return "", missing("The request has no token. Send the header Authorization: Bearer TOKEN; 'sandpool token create' makes a token.")
	case len(headers) > 1:
		return "", missing("The request has %d Authorization headers. Send one.", len(headers))
	case len(headers[0]) > maxHeader:
		return "", missing("The Authorization header has %d bytes. A token of this server has %d.", len(headers[0]), tokenLen)
	}
	scheme, text, _ := strings.Cut(headers[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "", missing("The Authorization header's scheme is not Bearer.")
	}
	return strings.TrimSpace(text), nil
}

func missing(format string, args ...any) error {
	return sandpool.Errorf(sandpool.Unauthenticated, "AuthenticationFailed", "Authorization", format, args...)
}

type principalKey struct{}

// WithPrincipal returns a context that carries p.
func WithPrincipal(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// FromContext returns the principal of the request that ctx belongs to.
func FromContext(ctx context.Context) (Principal, bool) {
	p, ok := ctx.Value(principalKey{}).(Principal)
	return p, ok
}

// Require returns nil if the principal in ctx may take action a on pool; see
// Allow. Without a principal it is an error of class Unauthenticated.
func Require(ctx context.Context, a Action, pool sandpool.PoolID) error {
	p, ok := FromContext(ctx)
	if !ok {
		return missing("The request has no principal.")
	}
	return Allow(p, a, pool)
}
