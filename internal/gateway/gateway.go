// Package gateway is the data plane of code pools: it turns a session identifier into a session,
// and an HTTP request into one operation of the interpreter inside that session's sandbox.
//
// A request goes one way:
//
//	routes      the path below the pool's endpoint → an operation, and what it touches
//	authorize   before anything shows whether the pool exists
//	request     identifier and body are checked, before anything is started on their behalf
//	lease       keeps the session alive until the answer is written
//	operation   the agent in the sandbox does the work
//	answer      in the envelope that the path belongs to, whole or as a stream
//
// What it knows of pools is Pools and Lease, and what it knows of sandboxes is package interpreter.
//
// # Where to look
//
//	gateway.go    what it needs and serves        call.go       a request on its way: who may,
//	routes.go     all operations                                which session, its parameters
//	execute.go    code whose caller waits         background.go code that goes on without one
//	contexts.go, processes.go, terminals.go, kernels.go         what else a session has
//	files.go      files, one at a time            listing.go    lists of them, and their changes
//	upload.go     files that come as forms        sessions.go   sessions, and what they ran
//	logs.go       what sandboxes wrote            answer.go     how answers and streams go out
//	body/         how bodies come in              request/      what an execute call asks for
//	wire/         forms of answers                live/, terminal/  carriers of streams
package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/internal/budget"
	"github.com/sandpool/sandpool/internal/event"
	"github.com/sandpool/sandpool/internal/gateway/body"
	"github.com/sandpool/sandpool/internal/gateway/request"
	"github.com/sandpool/sandpool/internal/history/executions"
	"github.com/sandpool/sandpool/internal/interpreter"
	"github.com/sandpool/sandpool/internal/sandbox"
)

// Pools is what the gateway needs of the pool.
type Pools interface {
	// Acquire gives the identifier its sandbox, making one its own if it has
	// none, and keeps the session alive until the lease is released. If the pool has its
	// maximum of sessions, the error is of class Full.
	Acquire(ctx context.Context, id sandpool.PoolID, identifier sandpool.Identifier) (Lease, error)
	// Pool returns a pool.
	Pool(ctx context.Context, id sandpool.PoolID) (sandpool.Pool, error)
	// Session returns the identifier's session; an identifier
	// without one is an error of class NotFound and code SessionWithIdentifierNotFound.
	Session(ctx context.Context, id sandpool.PoolID,
		identifier sandpool.Identifier) (sandpool.Session, error)
	// Lost is the error of class Ended that the identifier's caller has to be told once if its
	// session was lost since its last call.
	Lost(ctx context.Context, id sandpool.PoolID, identifier sandpool.Identifier) error
	// Sessions returns at most limit sessions after the first skip ones, and whether there are
	// more.
	Sessions(ctx context.Context, id sandpool.PoolID, skip, limit int) ([]sandpool.Session, bool,
		error)
	// StopSession ends the identifier's session; an identifier
	// without one is an error of class NotFound and code SessionWithIdentifierNotFound.
	StopSession(ctx context.Context, id sandpool.PoolID, identifier sandpool.Identifier) error
	Logs
}

// Logs is what Pools knows of what sandboxes wrote.
type Logs interface {
	// SessionLog reads what a sandbox of the identifier's sessions wrote: the one that is named, or
	// the newest. SandboxLog reads that of any sandbox. What is not there is of class
	// NotFound.
	SessionLog(ctx context.Context, id sandpool.PoolID, identifier sandpool.Identifier,
		of sandpool.SandboxID, q sandbox.LogQuery) (sandbox.LogPage, error)
	SandboxLog(ctx context.Context, id sandpool.PoolID, of sandpool.SandboxID,
		q sandbox.LogQuery) (sandbox.LogPage, error)
}

// Lease is a hold on a session's sandbox. The session, which lives on without it, does not end
// by its cooldown while a lease on it is out.
type Lease interface {
	interpreter.Session
	// Claim says where the sandbox came from, and what that took.
	Claim() sandpool.Claim
	// History says how what the session runs is to be kept; nil if it is not.
	History() *sandpool.History
	// Unattended says that nobody waits for what the hold is for: the next call is told if the
	// session is lost meanwhile.
	Unattended()
	// Release gives the hold back. Calling it again does nothing.
	Release()
}

// Options are the limits of the data plane. Zero means the default.
type Options struct {
	// MaxTimeout bounds timeoutInSeconds, and is what a request without it gets;
	// default 220 s, the limit of the service that clients know.
	MaxTimeout time.Duration
	// DefaultOutput is how much of stdout and of stderr an answer holds when the
	// request does not say, in bytes; default 1 MiB. MaxOutput bounds what a request may
	// ask for; default 4 MiB.
	DefaultOutput, MaxOutput int
	// MaxBody bounds an execute call's body in bytes; default 32 MiB.
	MaxBody int64
	// MaxUpload bounds one uploaded file in bytes; default 128 MiB.
	MaxUpload int64
	// Stall is how long an upload or a download may make no progress, be it the caller's
	// or the sandbox's fault; default 30 s.
	Stall time.Duration
	// Heartbeat is how often a stream of a log that has nothing to say shows that it is there; 15
	// s, which is below the idle time of common proxies.
	Heartbeat time.Duration
	// Idle is called when large bodies or answers have been dealt with, so that their memory can be
	// given back to the machine. It must not block; nil means that nothing is done.
	Idle func()
	// PublicURL is the scheme and host of links in answers, such as
	// "https://pools.example.com"; empty means those of the request.
	PublicURL string
	// Events hears of executions; nil means that nobody does.
	Events event.Observer
	// History keeps what sessions ran, of pools that want it; nil means that none does.
	History *executions.Keeper
	// Detail says what is known of a session besides what callers of Azure read; nil means nothing.
	Detail func(ctx context.Context, s sandpool.Session, into *api.SessionDetail) error
}

func (o Options) withDefaults() Options {
	o.MaxTimeout = or(o.MaxTimeout, 220*time.Second)
	o.MaxOutput = or(o.MaxOutput, agent.LimitMaxOutput)
	o.DefaultOutput = min(or(o.DefaultOutput, 1<<20), o.MaxOutput)
	o.MaxBody = or(o.MaxBody, 32<<20)
	o.MaxUpload = or(o.MaxUpload, 128<<20)
	o.Stall = or(o.Stall, 30*time.Second)
	o.Heartbeat = or(o.Heartbeat, 15*time.Second)
	o.PublicURL = strings.TrimSuffix(o.PublicURL, "/")
	if o.Events == nil {
		o.Events = event.Discard{}
	}
	return o
}

// or returns v, or fallback if v is not positive.
func or[T int | int64 | time.Duration](v, fallback T) T {
	if v > 0 {
		return v
	}
	return fallback
}

// Gateway serves the data plane of code pools.
type Gateway struct {
	log     *slog.Logger
	pools   Pools
	within  *interpreter.Set
	options Options
	limits  request.Limits // of what an execute call may ask for
	bodies  *body.Memory
	answers *budget.Budget
	routes  []pattern
	over    chan struct{} // closed by EndFollowing
	end     sync.Once     // guards that
}

// New returns a Gateway to the sandboxes of pools, within which are the interpreters. All of log,
// pools and within are required.
func New(log *slog.Logger, pools Pools, within *interpreter.Set, o Options) (*Gateway, error) {
	if log == nil || pools == nil || within == nil {
		return nil, errors.New("gateway: log, pools and within are required")
	}
	o = o.withDefaults()
	return &Gateway{log: log, pools: pools, within: within, options: o,
		limits: request.Limits{MaxTimeout: o.MaxTimeout, DefaultOutput: o.DefaultOutput,
			MaxOutput: o.MaxOutput},
		bodies: body.NewMemory(o.MaxBody, o.Idle),
		answers: budget.New(budget.Limits{Total: allAnswers, Pool: poolAnswers,
			Caller: callerAnswers}, o.Idle),
		routes: compile(routes()), over: make(chan struct{})}, nil
}

// EndFollowing ends the streams of logs, now and from now on: the server waits for its requests
// when it stops.
func (g *Gateway) EndFollowing() { g.end.Do(func() { close(g.over) }) }

// Serve implements endpoint.Code. The segments are those of a path below the pool's endpoint,
// for every method.
func (g *Gateway) Serve(w http.ResponseWriter, r *http.Request, pool sandpool.PoolID,
	kind sandpool.ContainerType, segments []string) error {
	c := &call{w: w, r: r, started: time.Now(), query: arm.Query{Raw: r.URL.RawQuery}, pool: pool,
		kind: kind}
	if len(segments) > 2 && strings.EqualFold(segments[0], "identifier") {
		c.inPath, segments = segments[1], segments[2:]
	}
	route, err := g.find(c, segments)
	if err != nil {
		route.action = auth.Execute
	}
	if denied := c.authorize(route); denied != nil {
		return denied
	}
	if bad := arm.CheckPoolID(pool); bad != nil {
		return bad
	}
	if err == nil {
		return route.serve(g, c)
	}
	if kind == "" { // no path of a pool that is not there is wrong
		if _, missing := g.pools.Pool(r.Context(), pool); missing != nil {
			return missing
		}
	}
	return err
}

// find returns the route of a request. HEAD is served as GET where that changes nothing; net/http
// drops the body.
func (g *Gateway) find(c *call, segments []string) (route, error) {
	method := c.r.Method
	head := method == http.MethodHead
	var allowed []string
	for _, p := range g.routes {
		name, ok := p.match(segments)
		if ok && (p.method == method || head && p.onlyLooks()) {
			c.name = name
			return p.route, nil
		}
		if ok {
			allowed = append(allowed, p.method)
		}
	}
	path := strings.Join(segments, "/")
	if allowed != nil {
		c.w.Header().Set("Allow", strings.Join(allowed, ", "))
		return route{}, sandpool.Errorf(sandpool.Invalid, "MethodNotAllowed", "method",
			"%s is not supported on %q; use %s.", clip(c.r.Method), clip(path),
			strings.Join(allowed, " or "))
	}
	what := "code runs by POST to 'executions' or 'code/execute', files are below 'files'"
	if c.kind == sandpool.CustomContainer {
		what = "below '.management' are getSession, listSessions, stopSession, logs and tunnel"
	}
	return route{}, sandpool.Errorf(sandpool.NotFound, "InvalidResourcePath", "path",
		"This pool has no operation at %q; %s.", clip(path), what)
}
