package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/sandpool/sandpool"
)

// A Session is the hold on a sandbox that a request comes with. One of the same sandbox may be used
// after its request is over: Dial must work until Context ends.
type Session interface {
	// Sandbox says which sandbox it is.
	Sandbox() sandpool.Sandbox
	// Context ends when the session does; its cause is an error of class Ended that says why.
	Context() context.Context
	// Dial connects to a TCP port on the sandbox's loopback.
	Dial(ctx context.Context, port int) (net.Conn, error)
}

// A Holder is a Session that wants to know when its request can no longer tell the caller that the
// session has ended, because the answer has begun and goes on: Unattended is called then, at most
// once or twice. Whoever calls next is to be told instead.
type Holder interface{ Unattended() }

// begun says that the answer of a request that came with s has begun and goes on.
func begun(s Session) {
	if h, ok := s.(Holder); ok {
		h.Unattended()
	}
}

// A Target is where a request goes: what its pool says, and its path.
type Target struct {
	// Port is the container's port, 1 to 65535.
	Port int
	// HTTP2 says that the container speaks HTTP/2 on Port, without TLS and without being asked by
	// an upgrade, and not HTTP/1.1. A change of protocol, such as WebSocket's, still goes by
	// HTTP/1.1, and calls of gRPC by HTTP/2 in any case, since there is no other form of them.
	HTTP2 bool
	// Ports are further ones that tunnels may reach.
	Ports []int
	// KeepAuthorization lets the header Authorization through, for containers that check it
	// themselves. They then see the token by which the caller uses the pool, unless that came some
	// other way. KeepCookies does the same for the cookie that names the session.
	KeepAuthorization, KeepCookies bool
	// Idle ends tunnels, WebSockets among them, in which nothing flows; zero means never.
	Idle time.Duration
	// Path is what the container sees, escaped as the caller has sent it, beginning with a slash.
	Path string
	// Prefix is what the caller's path has before Path, and empty at a host name of the pool's own.
	Prefix string
}

// Options bound what callers and containers may take. Zero means the default.
type Options struct {
	// Quiet ends a request during which neither side has sent anything, or the container has taken
	// nothing; default 30 min.
	Quiet time.Duration
	// Stall ends a request whose caller takes nothing of the answer, or sends nothing of a body
	// whose length it has announced; default 2 min.
	Stall time.Duration
	// MaxCalls bounds the requests and tunnels of one session at a time; default 1024.
	MaxCalls int
	// MaxIdle bounds the streams of one session that wait for their next request; default 64.
	MaxIdle int
	// IdleTime is how long they wait; default 1 min.
	IdleTime time.Duration
}

func (o Options) withDefaults() Options {
	o.Quiet = or(o.Quiet, 30*time.Minute)
	o.Stall = or(o.Stall, 2*time.Minute)
	o.MaxCalls = or(o.MaxCalls, 1024)
	o.MaxIdle = or(o.MaxIdle, 64)
	o.IdleTime = or(o.IdleTime, time.Minute)
	return o
}

// or returns v, or fallback if v is not positive.
func or[T int | time.Duration](v, fallback T) T {
	if v > 0 {
		return v
	}
	return fallback
}

// A Proxy forwards requests to containers.
type Proxy struct {
	options Options
	buffers *buffers

	// mu guards the fields below it. It is never held together with that of a session.
	mu       sync.Mutex
	sessions map[sandpool.SandboxID]*session
	closed   bool
}

// New returns a Proxy.
func New(o Options) *Proxy {
	return &Proxy{options: o.withDefaults(), buffers: newBuffers(),
		sessions: map[sandpool.SandboxID]*session{}}
}

// Close ends every request and tunnel, and closes every stream.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.closed = true
	sessions := p.sessions
	p.sessions = map[sandpool.SandboxID]*session{}
	p.mu.Unlock()
	for _, s := range sessions {
		s.end()
	}
}

// A Request is one that can be forwarded: Check or CheckTunnel has made it.
type Request struct {
	w http.ResponseWriter
	r *http.Request
	t Target
	// hold is what the request came with to Serve.
	hold Session
	// tunnel is the container's port of a tunnel, 0 of what is forwarded.
	tunnel int
}

// Check makes a Request of r, which is to go to t, and whose answer goes to w. What cannot be
// forwarded is an error for the caller; so no session need be leased for it.
func Check(w http.ResponseWriter, r *http.Request, t Target) (Request, error) {
	if r.Method == http.MethodConnect {
		w.Header().Set("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE")
		return Request{}, sandpool.Errorf(sandpool.Invalid, "MethodNotAllowed", "method",
			"CONNECT is not forwarded. Use a tunnel: %s.", tunnelHelp)
	}
	return Request{w: w, r: r, t: t}, checkRequest(r, t)
}

// Serve forwards a request to the container behind s. An error is for the caller if the answer has
// not begun, and means otherwise that it was cut short.
func (p *Proxy) Serve(q Request, s Session) error {
	session, err := p.enter(s, q.t.Port)
	if err != nil {
		return err
	}
	defer session.leave()
	q.hold = s
	switch {
	case q.tunnel != 0:
		return p.dig(q, session)
	case upgradeOf(q.r) == "" && (q.t.HTTP2 || isGRPC(q.r)):
		return p.forward2(q, session)
	}
	return p.forward1(q, session)
}

// isGRPC reports whether r is a call of gRPC. What browsers use, gRPC-Web, is not.
func isGRPC(r *http.Request) bool {
	rest, ok := strings.CutPrefix(r.Header.Get("Content-Type"), "application/grpc")
	return ok && (rest == "" || rest[0] == '+' || rest[0] == ';')
}

// enter begins a call of to, whose container is ready when port takes connections.
func (p *Proxy) enter(to Session, port int) (*session, error) {
	s, err := p.session(to, port)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ended:
		return nil, context.Cause(to.Context())
	case s.calls >= p.options.MaxCalls:
		return nil, &sandpool.Error{Class: sandpool.Unavailable, Code: "TooManySessionRequests",
			Target: "session", RetryAfter: time.Second,
			Message: "The session has too many requests and tunnels under way. " +
				"Wait until one has ended."}
	}
	s.calls++
	return s, nil
}

func (s *session) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls--
}

// session returns what is kept of to's sandbox, until the session ends.
func (p *Proxy) session(to Session, port int) (*session, error) {
	id := to.Sandbox().ID
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.sessions[id]; s != nil {
		return s, nil
	}
	if p.closed {
		return nil, &sandpool.Error{Class: sandpool.Unavailable,
			Message: "The server is shutting down.",
			Err:     errors.New("proxy: closed")}
	}
	s := &session{proxy: p, to: to, busy: map[io.Closer]struct{}{},
		inquiries: map[int]chan struct{}{}, serving: map[int]bool{port: true}}
	p.sessions[id] = s
	context.AfterFunc(to.Context(), func() {
		p.mu.Lock()
		if p.sessions[id] == s {
			delete(p.sessions, id)
		}
		p.mu.Unlock()
		s.end()
	})
	return s, nil
}
