package mcp

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/internal/budget"
	"github.com/sandpool/sandpool/internal/event"
	"github.com/sandpool/sandpool/internal/history/executions"
	"github.com/sandpool/sandpool/internal/interpreter"
	"github.com/sandpool/sandpool/internal/mcp/access"
	"github.com/sandpool/sandpool/internal/sandbox"
)

// Pools is what is needed of package pool.
type Pools interface {
	// Acquire gives the identifier its sandbox, making one its own if it has none, and keeps the
	// session alive until the lease is released.
	Acquire(ctx context.Context, id sandpool.PoolID, identifier sandpool.Identifier) (Lease, error)
	// Pool returns a pool.
	Pool(ctx context.Context, id sandpool.PoolID) (sandpool.Pool, error)
	// Session returns the identifier's session; an identifier without one is an error of class
	// NotFound.
	Session(
		ctx context.Context,
		id sandpool.PoolID,
		identifier sandpool.Identifier,
	) (sandpool.Session, error)
	// StopSession ends the identifier's session; an identifier without one is an error of class
	// NotFound.
	StopSession(ctx context.Context, id sandpool.PoolID, identifier sandpool.Identifier) error
}

// Lease is a hold on a session's sandbox.
type Lease interface {
	interpreter.Session
	// History says how what the session runs is to be kept; nil if it is not.
	History() *sandpool.History
	// Release gives the hold back. Calling it again does nothing.
	Release()
}

// Containers is what the tools of custom pools need besides.
type Containers interface {
	// Forward sends a request to the container of the identifier's session, which begins if there
	// is none, and its answer to w. path is what the container sees, escaped.
	Forward(w http.ResponseWriter, r *http.Request, id sandpool.PoolID,
		identifier sandpool.Identifier, path string) error
	// Sessions returns at most limit sessions after the first skip ones, and whether there are
	// more.
	Sessions(ctx context.Context, id sandpool.PoolID, skip, limit int) ([]sandpool.Session, bool,
		error)
	// SessionLog reads what a sandbox of the identifier's sessions wrote: the one that is named, or
	// else the newest. What is not there is of class NotFound.
	SessionLog(ctx context.Context, id sandpool.PoolID, identifier sandpool.Identifier,
		of sandpool.SandboxID, q sandbox.LogQuery) (sandbox.LogPage, error)
}

// Options are the parts that the server chooses. Zero means the default.
type Options struct {
	// MaxTimeout bounds the time of an execution, and is what a call without one gets; default 220
	// s.
	MaxTimeout time.Duration
	// MaxBody bounds a request's body in bytes; default 32 MiB.
	MaxBody int64
	// Key signs the ids of MCP sessions; at least 32 bytes. Required.
	Key []byte
	// Guard says which hosts and origins may be named.
	Guard access.Guard
	// Version is the server's, for clients to show; default "dev".
	Version string
	// Events hears of executions; nil means that nobody does.
	Events event.Observer
	// History keeps what sessions ran, of pools that want it; nil means that none does.
	History *executions.Keeper
	// Idle is called when large bodies or answers have been dealt with. It must not block; nil
	// means that nothing is done.
	Idle func()
}

// What callers can make the server hold, in bytes; see package budget.
const (
	allBodies   = 64 << 20
	bodiesPart  = 32 << 20
	allAnswers  = 128 << 20
	answersPart = 64 << 20
)

// Server serves the MCP endpoints of pools.
type Server struct {
	log        *slog.Logger
	pools      Pools
	within     *interpreter.Set
	containers Containers
	o          Options
	// code and custom are the tools of code pools and of custom pools.
	code, custom []tool

	bodies  *budget.Budget
	answers *budget.Budget
	queues  *budget.Budget
	ended   *ended
	running *running
}

// New returns a Server. All but the options are required.
func New(log *slog.Logger, pools Pools, within *interpreter.Set, containers Containers,
	o Options) (*Server, error) {
	if log == nil || pools == nil || within == nil || containers == nil || len(o.Key) < 32 {
		return nil, errors.New("mcp: log, pools, within, containers and a key of 32 bytes are " +
			"required")
	}
	if o.MaxTimeout <= 0 {
		o.MaxTimeout = agent.DefaultTimeout
	}
	if o.MaxBody <= 0 {
		o.MaxBody = 32 << 20
	}
	if o.Version == "" {
		o.Version = "dev"
	}
	if o.Events == nil {
		o.Events = event.Discard{}
	}
	return &Server{
		log:    log,
		pools:  pools,
		within: within, containers: containers,
		o:    o,
		code: codeTools(), custom: containerTools(),
		bodies: budget.New(
			budget.Limits{Total: allBodies, Pool: bodiesPart, Caller: bodiesPart},
			o.Idle,
		),
		answers: budget.New(
			budget.Limits{Total: allAnswers, Pool: answersPart, Caller: answersPart},
			o.Idle,
		),
		queues:  budget.New(budget.Limits{Total: math.MaxInt64, Session: o.MaxBody}, nil),
		ended:   newEnded(),
		running: newRunning(),
	}, nil
}

// call is one request on its way.
type call struct {
	s    *Server
	w    http.ResponseWriter
	r    *http.Request
	pool sandpool.Pool
	who  auth.Principal
	// narrow says that the caller may use some of the pool's sessions alone.
	narrow  bool
	version string
	session session
	// batch says that the request is a batch, whose answer is no stream.
	batch bool
	// stream is there once progress was sent.
	stream *stream
	// release is called when what was made of the sandbox's answers is encoded.
	release []func()
	// sent is called when the request's body is needed no more.
	sent func()
}

// Serve answers a request for the MCP endpoint of a pool.
func (s *Server) Serve(w http.ResponseWriter, r *http.Request, id sandpool.PoolID) error {
	if err := s.o.Guard.Check(r); err != nil {
		return err
	}
	c := &call{s: s, w: w, r: r, sent: func() {}}
	ctx, scope := r.Context(), id.Scope()
	if err := auth.Require(ctx, auth.Execute, scope); err != nil {
		if auth.RequireSome(ctx, auth.Execute, scope) != nil {
			return err
		}
		c.narrow = true
	}
	c.who, _ = auth.FromContext(ctx)
	if err := arm.CheckPoolID(id); err != nil {
		return err
	}
	var err error
	if c.pool, err = s.pools.Pool(ctx, id); err != nil {
		return err
	}
	switch r.Method {
	case http.MethodPost:
		return c.post()
	case http.MethodDelete:
		return c.end()
	}
	w.Header().Set("Allow", "POST, DELETE")
	return sandpool.Errorf(sandpool.Invalid, "MethodNotAllowed", "method",
		"The MCP endpoint takes POST, and DELETE to end a session. It sends nothing unasked, so "+
			"there is no stream to GET.")
}

// may returns nil if the caller may use the environment.
func (c *call) may(identifier sandpool.Identifier) error {
	if !c.narrow {
		return nil
	}
	return auth.Require(c.r.Context(), auth.Execute, c.pool.ID.Scope().Session(identifier))
}

// holder is who memory of the call is held for.
func (c *call) holder(identifier sandpool.Identifier) budget.Holder {
	h := budget.Holder{Pool: c.pool.ID.Key(), Caller: c.who.Subject}
	if identifier != "" {
		h.Session = h.Pool + "/" + string(identifier)
	}
	return h
}
