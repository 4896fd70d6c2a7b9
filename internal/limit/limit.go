// Package limit bounds how often and how many at a time callers ask, so that one at its bound costs
// the others nothing.
//
// Each principal, and each pool, has a bucket of tokens of its own (golang.org/x/time/rate) and a
// count of the requests that are under way. A request takes from both before anything is read of
// its body, and is refused with status 429 and the time after which it can be tried again. What
// streams for long (a terminal, a tunnel, a followed log) is one request for as long as it lasts.
package limit

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/sandpool/sandpool"
)

// Limits are those of one principal, or of one pool. Zero means none.
type Limits struct {
	// Rate is how many requests may begin in a second, on average.
	Rate float64 `yaml:"requests_per_second"`
	// Burst is how many may begin at once after a pause; zero means twice Rate, and at least one.
	Burst int `yaml:"burst"`
	// Concurrent is how many may be under way.
	Concurrent int `yaml:"concurrent"`
}

// Validate reports what is out of range; name is that of the setting.
func (l Limits) Validate(name string) error {
	var problems []error
	bad := func(field string, value any, fix string) {
		problems = append(problems, fmt.Errorf("configuration: %s.%s is %v; use %s", name, field,
			value, fix))
	}
	if l.Rate < 0 || math.IsNaN(l.Rate) || math.IsInf(l.Rate, 0) {
		bad("requests_per_second", l.Rate, "a number above 0, or 0 for no limit")
	}
	if l.Burst < 0 || l.Burst > 0 && l.Rate == 0 {
		bad("burst", l.Burst, "a whole number above 0 together with requests_per_second, or 0")
	}
	if l.Concurrent < 0 {
		bad("concurrent", l.Concurrent, "a whole number above 0, or 0 for no limit")
	}
	return errors.Join(problems...)
}

func (l Limits) burst() int {
	if l.Burst > 0 {
		return l.Burst
	}
	return max(1, int(math.Ceil(2*l.Rate)))
}

// Kind is whose limits they are.
type Kind string

// The kinds.
const (
	Principal Kind = "caller"
	Pool      Kind = "session pool"
)

// Gate lets requests in as far as limits allow. Its zero value, and nil, let everything in.
type Gate struct {
	kind   Kind
	limits Limits
	now    func() time.Time

	mu   sync.Mutex
	each map[string]*state
}

// state is that of one principal or pool.
type state struct {
	bucket   *rate.Limiter // nil without a rate
	underWay int
}

// New returns a Gate that holds each principal, or each pool, to l. now is the clock; nil means
// time.Now.
func New(kind Kind, l Limits, now func() time.Time) *Gate {
	if now == nil {
		now = time.Now
	}
	return &Gate{kind: kind, limits: l, now: now, each: map[string]*state{}}
}

// sweepAt is when those that are at rest are forgotten: a bucket that is full is as a new one.
const sweepAt = 10_000

// Enter lets a request of name in, which calls leave when it is done. One that is refused is an
// error of class Unavailable with the code TooManyRequests, and calls nothing.
func (g *Gate) Enter(name string) (leave func(), err error) {
	if g == nil || g.limits == (Limits{}) || name == "" {
		return func() {}, nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.of(name)
	if g.limits.Concurrent > 0 && s.underWay >= g.limits.Concurrent {
		return nil, g.refuse(time.Second, "has %d requests under way, which is the most at a time",
			s.underWay)
	}
	if s.bucket != nil {
		now := g.now()
		r := s.bucket.ReserveN(now, 1)
		if wait := r.DelayFrom(now); wait > 0 {
			r.CancelAt(now)
			return nil, g.refuse(wait, "may begin %g requests a second, and has begun more",
				g.limits.Rate)
		}
	}
	s.underWay++
	return sync.OnceFunc(func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		s.underWay--
	}), nil
}

// of returns the state of name. g.mu is held.
func (g *Gate) of(name string) *state {
	if s := g.each[name]; s != nil {
		return s
	}
	if len(g.each) >= sweepAt {
		g.sweep()
	}
	s := &state{}
	if g.limits.Rate > 0 {
		s.bucket = rate.NewLimiter(rate.Limit(g.limits.Rate), g.limits.burst())
	}
	g.each[name] = s
	return s
}

func (g *Gate) sweep() {
	now := g.now()
	for name, s := range g.each {
		full := s.bucket == nil || s.bucket.TokensAt(now) >= float64(s.bucket.Burst())
		if s.underWay == 0 && full {
			delete(g.each, name)
		}
	}
}

func (g *Gate) refuse(wait time.Duration, format string, args ...any) error {
	return &sandpool.Error{Class: sandpool.Unavailable, Code: "TooManyRequests",
		RetryAfter: wait, Message: fmt.Sprintf("The %s "+format+". Try again after the time in "+
			"Retry-After.", append([]any{g.kind}, args...)...)}
}

// Handler returns next behind the gate. name says whose request it is, empty if nobody's whom the
// gate is for; fail answers the refused. A gate without limits costs nothing: next is returned.
func (g *Gate) Handler(name func(*http.Request) string,
	fail func(http.ResponseWriter, *http.Request, error), next http.Handler) http.Handler {
	if g == nil || g.limits == (Limits{}) {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		leave, err := g.Enter(name(r))
		if err != nil {
			fail(w, r, err)
			return
		}
		defer leave()
		next.ServeHTTP(w, r)
	})
}
