package web

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/sandpool/sandpool/internal/loopback"
)

const (
	idleTime   = 30 * time.Minute
	wholeTime  = 12 * time.Hour
	linkTime   = 10 * time.Minute
	maxVisits  = 1000 // the one used least recently makes room
	maxLinks   = 16
	plainName  = "sandpool-ui"
	secureName = "__Secure-sandpool-ui"
)

// visit is a browser that has signed in.
type visit struct {
	token  string // what it shows to the API
	csrf   string // its word against forged requests
	began  time.Time
	used   time.Time
	until  time.Time // when its token ends; zero if that is not known
	notice string    // shown once, on the next page
	ended  chan struct{}
}

// visits holds those that have signed in, by the hash of their cookie, and the links that sign in.
type visits struct {
	now   func() time.Time
	mu    sync.Mutex // guards the fields below
	in    map[[sha256.Size]byte]*visit
	links map[[sha256.Size]byte]link
	// shares are looked up by the hash of their secret.
	shares map[[sha256.Size]byte]*share
}

// link signs in once.
type link struct {
	token string
	until time.Time
}

func newVisits(now func() time.Time) *visits {
	return &visits{now: now, in: map[[sha256.Size]byte]*visit{},
		links: map[[sha256.Size]byte]link{}, shares: map[[sha256.Size]byte]*share{}}
}

// add signs in with a token that the API knows, and returns the cookie's value. until is when the
// token ends; zero means that it does not say.
func (v *visits) add(token string, until time.Time) string {
	secret, now := rand.Text(), v.now()
	v.mu.Lock()
	defer v.mu.Unlock()
	var oldest [sha256.Size]byte
	var at time.Time
	for key, each := range v.in {
		if over(each, now) {
			v.end(key)
		} else if at.IsZero() || each.used.Before(at) {
			oldest, at = key, each.used
		}
	}
	if len(v.in) >= maxVisits {
		v.end(oldest)
	}
	v.in[sha256.Sum256([]byte(secret))] = &visit{token: token, csrf: rand.Text(), began: now,
		used: now, until: until, ended: make(chan struct{})}
	return secret
}

func over(v *visit, now time.Time) bool {
	return now.Sub(v.used) > idleTime || now.Sub(v.began) > wholeTime ||
		!v.until.IsZero() && !now.Before(v.until)
}

// of returns a copy of the visit of a request, and reports whether there is one.
func (v *visits) of(r *http.Request) (visit, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	key, ok := keyOf(r)
	found := v.in[key]
	if !ok || found == nil {
		return visit{}, false
	}
	now := v.now()
	if over(found, now) {
		v.end(key)
		return visit{}, false
	}
	found.used = now
	c := *found
	return c, true
}

// tell has the next page of the request's visit show a notice.
func (v *visits) tell(r *http.Request, notice string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if key, ok := keyOf(r); ok && v.in[key] != nil {
		v.in[key].notice = notice
	}
}

// remove signs out.
func (v *visits) remove(r *http.Request) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if key, ok := keyOf(r); ok {
		v.end(key)
		v.endShares(key)
	}
}

// end ends a visit, and what is connected under it. The caller holds mu.
func (v *visits) end(key [sha256.Size]byte) {
	if found := v.in[key]; found != nil {
		close(found.ended)
		delete(v.in, key)
	}
}

// during returns a context that ends with ctx, or with a visit: at once when it is signed out, and
// within every when its time is over. A connection is no use of a visit.
func (v *visits) during(ctx context.Context, of visit, every time.Duration) (context.Context,
	context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer cancel()
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-of.ended:
				return
			case <-tick.C:
				v.tidy()
			}
		}
	}()
	return ctx, cancel
}

// tidy ends the visits whose time is over.
func (v *visits) tidy() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for key, each := range v.in {
		if over(each, v.now()) {
			v.end(key)
		}
	}
}

// keyOf is under which a request's visit is kept. Two cookies of the name, one of which somebody
// else may have set, are none.
func keyOf(r *http.Request) (key [sha256.Size]byte, ok bool) {
	all := r.CookiesNamed(cookieName(r))
	if len(all) != 1 {
		return key, false
	}
	return sha256.Sum256([]byte(all[0].Value)), true
}

type tlsKey struct{}

// overTLS reports whether the browser's connection is by TLS, which a proxy may end.
func overTLS(r *http.Request) bool {
	return r.TLS != nil || r.Context().Value(tlsKey{}) != nil
}

// behindTLS marks a request whose browser came by TLS to a proxy: browsers come to this server by
// an https address, and only somebody on its machine names another.
func (w *Web) behindTLS(r *http.Request) *http.Request {
	if r.TLS != nil || !strings.HasPrefix(w.public, "https://") || loopback.Is(r.Host) {
		return r
	}
	return r.WithContext(context.WithValue(r.Context(), tlsKey{}, true))
}

func cookieName(r *http.Request) string {
	if overTLS(r) {
		return secureName
	}
	return plainName
}

// cookie is the cookie with a value; an empty one takes it away.
func cookie(r *http.Request, value string) *http.Cookie {
	c := &http.Cookie{Name: cookieName(r), Value: value, Path: Prefix, Secure: overTLS(r),
		HttpOnly: true, SameSite: http.SameSiteStrictMode}
	if value == "" {
		c.MaxAge = -1
	}
	return c
}

// newLink returns the secret of a link that signs in with token, once.
func (v *visits) newLink(token string) string {
	secret, now := rand.Text(), v.now()
	v.mu.Lock()
	defer v.mu.Unlock()
	for key, each := range v.links {
		if now.After(each.until) || len(v.links) >= maxLinks {
			delete(v.links, key)
		}
	}
	v.links[sha256.Sum256([]byte(secret))] = link{token: token, until: now.Add(linkTime)}
	return secret
}

// follow uses a link up and returns its token.
func (v *visits) follow(secret string) (token string, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	key := sha256.Sum256([]byte(secret))
	found, ok := v.links[key]
	delete(v.links, key)
	return found.token, ok && !v.now().After(found.until)
}

// knows reports whether word is the visit's own against forged requests.
func (v visit) knows(word string) bool {
	return subtle.ConstantTimeCompare([]byte(v.csrf), []byte(word)) == 1
}
