package identity

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/audit"
	"github.com/sandpool/sandpool/internal/sandbox"
)

// Where the endpoint seems to be in a sandbox. The port is that of Container Apps.
const (
	port = 42356
	path = "/msi/token"
)

// Bounds of what one sandbox can make the server do.
const (
	lines      = 2               // connections at a time
	everySlow  = 5               // connections a second, and
	atOnce     = 20              // so many at once
	readTime   = 5 * time.Second // for a request
	writeTime  = 5 * time.Second // for an answer
	maxHeader  = 8 << 10
	firstPause = time.Second // after a failure to accept
	lastPause  = time.Minute
)

// Pools finds pools.
type Pools interface {
	Pool(ctx context.Context, id sandpool.PoolID) (sandpool.Pool, error)
}

// Issuer signs tokens.
type Issuer interface {
	// IssueManaged returns a token of an identity that the pool p has, for an audience, and when it
	// ends.
	IssueManaged(p sandpool.Pool, of sandpool.AssignedIdentity, audience string) (string,
		time.Time, error)
}

// Assigned finds user-assigned identities.
type Assigned interface {
	// UserAssigned returns the principal of the identity with a resource id; empty if it is gone.
	UserAssigned(ctx context.Context, id string) (principal string, err error)
}

// Auditor records who was given what.
type Auditor interface {
	Done(audit.Record)
	Refused(audit.Record)
}

// Options are the parts of an Endpoint. All but Now are required.
type Options struct {
	Pools  Pools
	Issuer Issuer
	// Assigned finds those that are resources of their own.
	Assigned Assigned
	Auditor  Auditor
	// Failed is told why a sandbox has no endpoint for a while.
	Failed func(s sandpool.Sandbox, err error)
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Endpoint answers the sandboxes of all pools with an identity.
type Endpoint struct {
	o     Options
	http  *http.Server
	calls *calls
}

// New returns an Endpoint, which answers while Run runs.
func New(o Options) (*Endpoint, error) {
	if o.Pools == nil || o.Issuer == nil || o.Assigned == nil || o.Auditor == nil ||
		o.Failed == nil {
		return nil, errors.New("identity: pools, an issuer, assigned identities, an auditor and " +
			"Failed are required")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	e := &Endpoint{o: o, calls: &calls{taken: make(chan net.Conn), over: make(chan struct{})}}
	e.http = &http.Server{
		Handler:     http.HandlerFunc(e.serve),
		ReadTimeout: readTime, WriteTimeout: writeTime, MaxHeaderBytes: maxHeader,
		ErrorLog: log.New(io.Discard, "", 0), // it would log what sandboxes send
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, guestKey{}, c.(*call).guest)
		},
	}
	e.http.SetKeepAlivesEnabled(false)
	return e, nil
}

// Run answers until ctx ends.
func (e *Endpoint) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = e.http.Close() })
	defer stop()
	if err := e.http.Serve(e.calls); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("the identity endpoint: %w", err)
	}
	return nil
}

// Serves implements pool.Service.
func (e *Endpoint) Serves(p sandpool.Pool) bool { return p.Spec.Identity.Used() }

// Port implements pool.Service.
func (e *Endpoint) Port() int { return port }

// Env implements pool.Service.
func (e *Endpoint) Env(s sandpool.Sandbox) []sandbox.SecretVar {
	at := fmt.Sprintf("http://127.0.0.1:%d%s", port, path)
	return []sandbox.SecretVar{{Name: "IDENTITY_ENDPOINT", Value: sandpool.NewSecret(at)},
		{Name: "IDENTITY_HEADER", Value: sandpool.NewSecret(headerOf(s))}}
}

// headerOf is the secret that requests of a sandbox show.
func headerOf(s sandpool.Sandbox) string {
	sum := hmac.New(sha256.New, []byte(s.Secret))
	_, _ = io.WriteString(sum, "identity header of "+string(s.ID)) // hashes take everything
	return hex.EncodeToString(sum.Sum(nil))
}

// guest is a sandbox, as the handler knows it.
type guest struct {
	sandbox sandpool.Sandbox
	header  string

	mu     sync.Mutex // guards what follows
	tokens map[given]issued
}

// given tells the tokens of a sandbox apart.
type given struct{ principal, audience string }

// issued is a token that a sandbox was given.
type issued struct {
	client     string
	text       string
	ends       time.Time
	renewAfter time.Time
}

type guestKey struct{}

// Attend implements pool.Service.
func (e *Endpoint) Attend(ctx context.Context, s sandpool.Sandbox,
	accept func(context.Context) (net.Conn, error)) {
	g := &guest{sandbox: s, header: headerOf(s), tokens: map[given]issued{}}
	pace := rate.NewLimiter(everySlow, atOnce)
	var wait sync.WaitGroup
	for range lines {
		wait.Go(func() { e.attend(ctx, g, pace, accept) })
	}
	wait.Wait()
}

// attend takes one connection after the other. The next is waited for when the last has ended, and
// not faster than pace says.
func (e *Endpoint) attend(ctx context.Context, g *guest, pace *rate.Limiter,
	accept func(context.Context) (net.Conn, error)) {
	pause := firstPause
	for pace.Wait(ctx) == nil {
		conn, err := accept(ctx)
		if err != nil {
			if ctx.Err() != nil || sandpool.ClassOf(err) == sandpool.Ended {
				return
			}
			e.o.Failed(g.sandbox, err)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return
			}
			pause = min(2*pause, lastPause)
			continue
		}
		pause = firstPause
		c := &call{Conn: conn, guest: g, done: make(chan struct{})}
		if !e.calls.put(ctx, c) {
			_ = conn.Close()
			return
		}
		select {
		case <-c.done:
		case <-ctx.Done():
			_ = c.Close()
		}
	}
}

// call is a connection of a sandbox.
type call struct {
	net.Conn
	guest *guest
	once  sync.Once
	done  chan struct{}
}

// Close implements net.Conn.
func (c *call) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { close(c.done) })
	return err
}

// calls is the listener of the HTTP server.
type calls struct {
	taken chan net.Conn
	once  sync.Once
	over  chan struct{}
}

// put hands a connection to the server, if that runs before ctx ends.
func (l *calls) put(ctx context.Context, c net.Conn) bool {
	select {
	case l.taken <- c:
		return true
	case <-l.over:
	case <-ctx.Done():
	}
	return false
}

// Accept implements net.Listener.
func (l *calls) Accept() (net.Conn, error) {
	select {
	case c := <-l.taken:
		return c, nil
	case <-l.over:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *calls) Close() error {
	l.once.Do(func() { close(l.over) })
	return nil
}

// Addr implements net.Listener.
func (l *calls) Addr() net.Addr { return &net.UnixAddr{Name: "sandboxes", Net: "unix"} }

// detail is what a record says of a token.
func detail(s sandpool.Sandbox, audience string, ends time.Time) json.RawMessage {
	text, err := json.Marshal(struct {
		Audience string    `json:"audience"`
		Sandbox  string    `json:"sandbox"`
		Expires  time.Time `json:"expiresAt"`
	}{audience, string(s.ID), ends.UTC().Truncate(time.Second)})
	if err != nil {
		return nil // two strings and a time always encode
	}
	return text
}
