package gateway

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/internal/budget"
	"github.com/sandpool/sandpool/internal/gateway/wire"
	"github.com/sandpool/sandpool/internal/interpreter"
	"github.com/sandpool/sandpool/internal/tracing"
)

// call is one request on its way through the gateway.
type call struct {
	w       http.ResponseWriter
	r       *http.Request
	started time.Time
	pool    sandpool.PoolID
	kind    sandpool.ContainerType // "" if there is no such pool
	query   arm.Query
	// inPath is the identifier of a path that begins with identifier/NAME.
	inPath string
	// name is what "*" stands for in the route's path.
	name string
	// action is what the call does, and narrow says that its caller may do it to some of
	// the pool's sessions alone; see authorize.
	action auth.Action
	narrow bool
}

// authorize checks that the caller may take the route, before anything else is said of the
// request. Callers whose grants include some of the pool's sessions alone are asked again by
// identifier, once the call's session is known for certain.
func (c *call) authorize(to route) error {
	ctx, pool := c.r.Context(), c.pool.Scope()
	c.action = to.action
	denied := auth.Require(ctx, c.action, pool)
	if denied == nil || to.touches == ofPool {
		return denied
	}
	c.narrow = true
	if err := auth.RequireSome(ctx, c.action, pool); err != nil || to.touches == ofList {
		return err
	}
	if _, err := c.identifier(); err != nil && sandpool.ClassOf(err) == sandpool.Denied {
		return err
	}
	return nil // what else is wrong with the identifier is the operation's to say
}

// may returns nil if the caller's grants include the pool's session of that name.
func (c *call) may(identifier sandpool.Identifier) error {
	if !c.narrow {
		return nil
	}
	return auth.Require(c.r.Context(), c.action, c.pool.Scope().Session(identifier))
}

// identifier reads and checks the session identifier of the call, whose caller may use it.
func (c *call) identifier() (sandpool.Identifier, error) { return c.identifierOr("") }

// identifierOr is identifier with a fallback: the first clients put the
// identifier into the body of an execute call and nowhere else.
func (c *call) identifierOr(fallback string) (sandpool.Identifier, error) {
	named, err := c.Named()
	if err != nil {
		return "", err
	}
	identifier, err := sandpool.ParseIdentifier(cmp.Or(named, fallback))
	if err != nil {
		return "", err
	}
	return identifier, c.may(identifier)
}

// Named returns the identifier that path or query name, unchecked, and "" if neither does.
func (c *call) Named() (string, error) {
	s, err := c.query.Get("identifier")
	if err != nil {
		return "", err
	}
	if c.inPath != "" && s != "" && s != c.inPath {
		return "", sandpool.Errorf(sandpool.Invalid, wire.CodeValidation, "identifier",
			"The path and the query name two different session identifiers; give one.")
	}
	return cmp.Or(s, c.inPath), nil
}

// Holder is who the memory of the call is held for.
func (c *call) Holder(identifier string) budget.Holder {
	h := budget.Holder{Pool: c.pool.Key()}
	if p, ok := auth.FromContext(c.r.Context()); ok {
		h.Caller = p.Subject
	}
	if identifier != "" {
		h.Session = h.Pool + "/" + identifier
	}
	return h
}

// use calls fn with the interpreter of the call's session, which is created if there is none.
func (g *Gateway) use(c *call, fn func(ctx context.Context,
	in *interpreter.Interpreter) error) error {
	lease, err := g.acquire(c)
	if err != nil {
		return err
	}
	defer lease.Release()
	return fn(c.r.Context(), g.within.Of(lease))
}

// acquire holds the call's session, which is created if there is none, and traces how that went.
func (g *Gateway) acquire(c *call) (Lease, error) {
	identifier, err := c.identifier()
	if err != nil {
		return nil, err
	}
	lease, err := g.pools.Acquire(c.r.Context(), c.pool, identifier)
	if err != nil {
		return nil, err
	}
	tracing.Of(c.r.Context()).Claim(c.pool.Name, lease.Sandbox().ID, lease.Claim(), time.Now())
	return lease, nil
}

// existing calls fn with the interpreter of the call's session, which must be there: a question for
// an execution makes no session.
func (g *Gateway) existing(c *call, fn func(in *interpreter.Interpreter,
	of wire.About) error) error {
	identifier, err := c.identifier()
	if err != nil {
		return err
	}
	if _, err := g.pools.Session(c.r.Context(), c.pool, identifier); err != nil {
		if lost := g.pools.Lost(c.r.Context(), c.pool, identifier); lost != nil {
			return lost
		}
		if c.name != "" && sandpool.ClassOf(err) == sandpool.NotFound {
			return noExecution(c.name)
		}
		return err
	}
	lease, err := g.pools.Acquire(c.r.Context(), c.pool, identifier)
	if err != nil {
		return err
	}
	defer lease.Release()
	return fn(g.within.Of(lease), wire.About{Operation: c.name, Identifier: identifier,
		Sandbox: lease.Sandbox().ID, UserAgent: c.r.UserAgent()})
}

// inside calls fn with the name of the context or the terminal in the call's path and the
// interpreter of its session, which must be there.
func (g *Gateway) inside(c *call, fn func(in *interpreter.Interpreter,
	name string) error) error {
	name := c.name
	c.name = "" // otherwise existing would take it for an execution's
	return g.existing(c, func(in *interpreter.Interpreter, _ wire.About) error {
		return fn(in, name)
	})
}

// changeInside is an operation on a context or a terminal that answers with nothing.
func changeInside(do func(*interpreter.Interpreter, *http.Request, string) error) func(*Gateway,
	*call) error {
	return func(g *Gateway, c *call) error {
		return g.inside(c, func(in *interpreter.Interpreter, name string) error {
			if err := do(in, c.r, name); err != nil {
				return err
			}
			c.w.WriteHeader(http.StatusNoContent)
			return nil
		})
	}
}

// flag reads a truth value from the query.
func (c *call) flag(name string) (bool, error) {
	s, err := c.query.Get(name)
	if err != nil || s == "" {
		return false, err
	}
	v, err := strconv.ParseBool(strings.ToLower(s))
	if err != nil {
		return false, sandpool.Errorf(sandpool.Invalid, wire.CodeValidation, name,
			"The query parameter '%s' is %q; use true or false.", name, clip(s))
	}
	return v, nil
}

// choice reads a word from the query, which is absent or one of a few.
func (c *call) choice(name string, words ...string) (string, error) {
	s, err := c.query.Get(name)
	if err != nil || s == "" || slices.Contains(words, strings.ToLower(s)) {
		return strings.ToLower(s), err
	}
	return "", sandpool.Errorf(sandpool.Invalid, wire.CodeValidation, name,
		"The query parameter '%s' is %q; use %s.", name, clip(s), strings.Join(words, " or "))
}

// number reads a whole number from the query.
func (c *call) number(name string, fallback, low, high int) (int, error) {
	s, err := c.query.Get(name)
	if err != nil || s == "" {
		return fallback, err
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < low || n > high {
		return 0, sandpool.Errorf(sandpool.Invalid, wire.CodeValidation, name,
			"The query parameter '%s' is %q; use a whole number from %d to %d.", name, clip(s), low,
			high)
	}
	return n, nil
}

// after reads the number of the event that a caller has seen last.
func (c *call) after() (int64, error) {
	s, err := c.query.Get("after")
	if s == "" {
		s = c.r.Header.Get("Last-Event-Id")
	}
	if err != nil || s == "" {
		return 0, err
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return 0, sandpool.Errorf(sandpool.Invalid, wire.CodeValidation, "after",
			"The query parameter 'after' (or the header Last-Event-ID) is %q; use the sequence "+
				"number of the last event that you have.", clip(s))
	}
	return n, nil
}

// link returns the absolute URL of the call with one query parameter replaced.
func (g *Gateway) link(c *call, name, value string) string {
	base := g.options.PublicURL
	if base == "" {
		base = arm.BaseURL(c.r)
	}
	q := c.query.Without(name)
	if q != "" {
		q += "&"
	}
	return base + c.r.URL.EscapedPath() + "?" + q + name + "=" + url.QueryEscape(value)
}

// clip shortens text of the caller's for a message.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
