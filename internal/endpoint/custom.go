package endpoint

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/internal/proxy"
	"github.com/sandpool/sandpool/internal/tracing"
)

// Pools is what custom pools need of the pool.
type Pools interface {
	// Pool returns a pool.
	Pool(ctx context.Context, id sandpool.PoolID) (sandpool.Pool, error)
	// Acquire gives the identifier its sandbox, making one its own if it has none, and
	// keeps the session alive until the lease is released.
	Acquire(ctx context.Context, id sandpool.PoolID, identifier sandpool.Identifier) (Lease, error)
}

// Lease is a hold on a session, which lives on without it.
type Lease interface {
	proxy.Session
	// Claim says where the sandbox came from, and what that took.
	Claim() sandpool.Claim
	// Release gives the hold back. Calling it again does nothing.
	Release()
}

// Custom serves the requests of custom pools: it finds the session that a request is for, and has
// it forwarded to the container there.
type Custom struct {
	pools Pools
	proxy *proxy.Proxy
	// Forwarded, if not nil, hears how long a container had a request of a pool; way says how it
	// came there, and trace is that of the request, if it is traced.
	Forwarded func(pool, way string, took time.Duration, trace string)
}

// NewCustom returns a Custom.
func NewCustom(pools Pools, p *proxy.Proxy) *Custom { return &Custom{pools: pools, proxy: p} }

// tunnel is the one operation below .management that is the container's.
const tunnel = "tunnel"

// manages reports whether an operation below .management is for the container.
func (c *Custom) manages(operation string) bool { return operation == tunnel }

// hasTools reports whether the path of the MCP endpoint is ours in a pool, and not its container's.
func (c *Custom) hasTools(ctx context.Context, id sandpool.PoolID) bool {
	pool, err := c.pools.Pool(ctx, id)
	return err == nil && pool.Spec.MCP.Enabled
}

// Forward has a request forwarded to the container of the identifier's session, which begins if
// there is none. path is what the container sees, escaped. r is one that came to the pool, or was
// made of one; what its caller may do has been checked.
func (c *Custom) Forward(w http.ResponseWriter, r *http.Request, id sandpool.PoolID,
	identifier sandpool.Identifier, path string) error {
	pool, err := c.pools.Pool(r.Context(), id)
	if err != nil {
		return err
	}
	t, _ := Found(r.Context())
	t.Path = path
	request, err := proxy.Check(w, r, targetOf(pool.Spec.Forwarding, t))
	if err != nil {
		return err
	}
	lease, err := c.pools.Acquire(r.Context(), id, identifier)
	if err != nil {
		return err
	}
	defer lease.Release()
	return c.proxy.Serve(request, lease)
}

// serve forwards a request. A container sees nothing of one that is not allowed.
func (c *Custom) serve(w http.ResponseWriter, r *http.Request, t Target, operation string) error {
	ctx, scope := r.Context(), t.Pool.Scope()
	narrow := auth.Require(ctx, auth.Execute, scope) != nil
	if narrow {
		if err := auth.RequireSome(ctx, auth.Execute, scope); err != nil {
			return err
		}
	}
	query := arm.Query{Raw: r.URL.RawQuery}
	named, err := query.Get("identifier")
	if err != nil {
		return err
	}
	port := ""
	if operation == tunnel {
		if port, err = query.Get("port"); err != nil {
			return err
		}
	}
	identifier, err := proxy.Identify(r, named, t.OwnHost)
	if err != nil {
		return err
	}
	if narrow {
		if err := auth.Require(ctx, auth.Execute, scope.Session(identifier)); err != nil {
			return err
		}
	}
	pool, err := c.pools.Pool(ctx, t.Pool)
	if err != nil {
		return err
	}
	// Nobody gets a session by what cannot be forwarded to it.
	var request proxy.Request
	if to := targetOf(pool.Spec.Forwarding, t); operation == tunnel {
		request, err = proxy.CheckTunnel(w, r, to, port)
	} else {
		request, err = proxy.Check(w, r, to)
	}
	if err != nil {
		return err
	}
	lease, err := c.pools.Acquire(ctx, t.Pool, identifier)
	if err != nil {
		return err
	}
	defer lease.Release()
	began, span := time.Now(), tracing.Of(ctx)
	span.Claim(t.Pool.Name, lease.Sandbox().ID, lease.Claim(), began)
	if t.OwnHost && named != "" && operation != tunnel {
		proxy.Remember(w, r, identifier)
	}
	err = c.proxy.Serve(request, lease)
	c.passed(t.Pool.Name, way(r, operation), began, span, err)
	if errors.Is(err, proxy.ErrCallerGone) {
		return arm.NotTaken(err)
	}
	return err
}

// passed tells of what a container has had.
func (c *Custom) passed(pool, way string, began time.Time, span *tracing.Span, err error) {
	span.Since(way, began, err)
	if c.Forwarded != nil {
		c.Forwarded(pool, way, time.Since(began), span.TraceID())
	}
}

// way is what the time that a container has a request is called.
func way(r *http.Request, operation string) string {
	switch {
	case operation == tunnel:
		return tunnel
	case strings.EqualFold(r.Header.Get("Upgrade"), "websocket"):
		return "websocket"
	}
	return "forward"
}

// targetOf is where the proxy takes a request.
func targetOf(f sandpool.Forwarding, t Target) proxy.Target {
	return proxy.Target{Port: f.Port, HTTP2: f.Transport == sandpool.TransportHTTP2, Ports: f.Ports,
		KeepAuthorization: f.KeepAuthorization, KeepCookies: f.KeepCookies, Idle: f.TunnelIdle,
		Path: cmp.Or(t.Path, "/"), Prefix: t.Prefix}
}
