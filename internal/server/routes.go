package server

import (
	"cmp"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/internal/control"
	"github.com/sandpool/sandpool/internal/deployment"
	"github.com/sandpool/sandpool/internal/endpoint"
	"github.com/sandpool/sandpool/internal/gateway"
	"github.com/sandpool/sandpool/internal/identity"
	"github.com/sandpool/sandpool/internal/issuer"
	"github.com/sandpool/sandpool/internal/limit"
	"github.com/sandpool/sandpool/internal/mcp/access"
	"github.com/sandpool/sandpool/internal/metrics"
	"github.com/sandpool/sandpool/internal/oidc"
	"github.com/sandpool/sandpool/internal/openapi"
	"github.com/sandpool/sandpool/internal/pool"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/server/engine"
	"github.com/sandpool/sandpool/internal/server/network"
	"github.com/sandpool/sandpool/internal/web"
)

// healthPath says that the server serves. Before authentication are also the paths of the issuer
// and of the dashboard, which see to their callers themselves.
const healthPath = "/healthz"

// isOpen reports whether a path behind authentication needs no token.
func isOpen(p string) bool {
	return p == healthPath || p == openapi.JSONPath || p == openapi.PagePath
}

// routes puts both planes behind what every request passes: a trace id, a principal, and the branch
// by the pool that it is for. The control plane's paths get one spelling before they reach its mux.
func (s *Server) routes(log *slog.Logger, respond *arm.Responder) (http.Handler, error) {
	rec, err := s.recorder(log, respond)
	if err != nil {
		return nil, err
	}
	s.audited = rec
	_, identities := s.engine.Runtime.(sandbox.Accepter)
	planes, err := control.New(respond, s.manager, s.tokens, control.Options{
		Limits: control.Ranges{
			MinCooldown: s.cfg.Limits.MinCooldown,
			MaxCooldown: s.cfg.Limits.MaxCooldown,
			MaxSessions: s.cfg.Limits.MaxSessions,
			Resources:   s.cfg.Limits.Sandbox.resources(),
		},
		Kinds:     s.cfg.kinds(),
		BaseURL:   s.baseURL(),
		Endpoint:  s.endpoint(),
		Events:    s.events,
		History:   s.history.Pool,
		NoHistory: s.past == nil,
		Pulling:   pulling(s.containers),
		Network:   network.Host{Settings: s.cfg.Network, Elsewhere: s.cfg.Engine != engine.GVisor},
		Locations: s.manager.Locations,
		Documents: s.store,
		Foreign:   oidc.Assigns(s.cfg.Issuers),

		Identities: identities,
		Ended:      s.assignmentEnded,
	})
	if err != nil {
		return nil, err
	}
	data, err := gateway.New(log, leases{s.manager}, s.within, gateway.Options{
		MaxTimeout: s.cfg.Limits.MaxExecution, PublicURL: s.cfg.PublicURL,
		Events:  s.executions(),
		Idle:    s.memory.free,
		Detail:  s.detail,
		History: s.past,
	})
	if err != nil {
		return nil, err
	}
	s.control, s.endFollowing = planes, data.EndFollowing
	if s.clients, err = s.issuer(); err != nil {
		return nil, err
	}
	s.clients.Failed = rec.Failed
	known, err := identity.NewDirectory(s.manager, planes, planes.OfPool, nil)
	if err != nil {
		return nil, err
	}
	s.clients.Managed = known.Principal
	mux := http.NewServeMux()
	rest := respond.Normalise(rec.Changes(mux))
	if err := s.deployments(log, rest); err != nil {
		return nil, err
	}
	s.register(mux, respond, planes)
	custom := endpoint.NewCustom(holds{s.manager}, s.proxy)
	custom.Forwarded = s.metrics.Forwarded
	agents, err := s.mcp(log, custom)
	if err != nil {
		return nil, err
	}
	branch, err := endpoint.NewBranch(s.manager, respond, s.cfg.EndpointSuffix, endpoint.Parts{
		Code: data, MCP: agents, Custom: custom})
	if err != nil {
		return nil, err
	}
	foreign, err := oidc.New(log, s.cfg.Issuers, planes.Assigned, nil)
	if s.clients.Foreign = foreign; err != nil {
		return nil, err
	}
	callers, err := auth.NewAuthenticator(auth.Options{Fail: respond.Error, Keys: branch.Keys},
		s.tokens, foreign, s.clients, access.NewKeys(s.manager))
	if err != nil {
		return nil, err
	}
	// What is behind it has a principal within its limits. The pools' data planes branch off first:
	// what only the other requests pass is not on their way.
	bounded := s.principals(respond)
	pools := callers.Middleware(bounded(s.pools(respond, branch)))
	managed := callers.Middleware(bounded(rest))
	if pools, managed, err = s.forwarding(log, respond, branch, pools, managed, rest); err != nil {
		return nil, err
	}
	control := s.clients.Front(withOpen(rest, managed))
	seen := func(plane string, next http.Handler) http.Handler {
		return s.metrics.Requests(plane, respond.CORS(s.cfg.CORS.Origins, next))
	}
	others := seen(metrics.Control, control)
	if s.cfg.Dashboard {
		if s.dashboard, err = s.pages(log, branch.Split(pools, control), foreign); err != nil {
			return nil, err
		}
		others = beside(seen(metrics.Dashboard, s.dashboard), others)
	}
	root := branch.Split(seen(metrics.Data, pools), others)
	return arm.Trace(s.tracer.Handler(root, arm.TraceID)), nil
}

// register puts all that is not a pool's data plane on mux.
func (s *Server) register(mux control.Mux, respond *arm.Responder, planes *control.Control) {
	handle := func(pattern string, fn func(http.ResponseWriter, *http.Request) error) {
		mux.Handle(pattern, respond.Handle(fn))
	}
	planes.Register(mux)
	s.deployer.Register(handle)
	s.audit.Register(handle)
	s.used.Register(handle)
	s.clients.Register(handle)
	openapi.Register(mux.Handle)
	mux.Handle("GET "+metricsPath, s.scrape(respond))
	mux.Handle("GET "+healthPath, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, "ok\n") // a caller that has gone away does not matter
	}))
	mux.Handle("/", respond.NotFound())
}

// beside takes requests for the dashboard to pages, and all others to next.
func beside(pages, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if web.Takes(r) {
			pages.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// withOpen takes requests for the paths that need no token to open, and all others to next.
func withOpen(open, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isOpen(path.Clean(r.URL.EscapedPath())) {
			open.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// principals returns what holds each principal, over all that it is put before, to its limits, and
// to what the server has descriptors for.
func (s *Server) principals(respond *arm.Responder) func(http.Handler) http.Handler {
	gate := limit.New(limit.Principal, s.cfg.Limits.Caller, nil)
	return func(next http.Handler) http.Handler {
		return s.underWay.Bound(callerOf, respond.Handle(tooMany),
			gate.Handler(callerOf, respond.Error, next))
	}
}

// pools holds each pool to its limits. Who may not use a pool takes nothing from those who may.
func (s *Server) pools(respond *arm.Responder, next http.Handler) http.Handler {
	return limit.New(limit.Pool, s.cfg.Limits.Pool, nil).Handler(func(r *http.Request) string {
		t, ok := endpoint.Found(r.Context())
		if !ok || auth.RequireSome(r.Context(), auth.Execute, t.Pool.Scope()) != nil {
			return ""
		}
		return t.Pool.Key()
	}, respond.Error, next)
}

// callerOf names who makes a request. Those without a role are one caller: with a public issuer,
// anybody can be as many of them as they like.
func callerOf(r *http.Request) string {
	p, ok := auth.FromContext(r.Context())
	if ok && len(p.Grants) == 0 {
		return "without a role"
	}
	return p.Subject
}

// tooMany answers a request that there are no descriptors for.
func tooMany(http.ResponseWriter, *http.Request) error {
	return &sandpool.Error{Class: sandpool.Unavailable, Code: "TooManyRequestsUnderWay",
		RetryAfter: time.Second,
		Message: "As many requests, terminals and tunnels of this caller, or of all, are under " +
			"way as may be. Wait for some to end, or end them."}
}

// deployments makes what runs template deployments. Their resources are sent to through.
func (s *Server) deployments(log *slog.Logger, through http.Handler) error {
	owner, err := s.cfg.serverName()
	if err != nil {
		return err
	}
	s.deployer, err = deployment.New(log, deployment.Options{Documents: s.store,
		Holder: s.tokens.Holder, BaseURL: s.baseURL(), Owner: owner})
	if err != nil {
		return err
	}
	s.deployer.Through(arm.Trace(through))
	return nil
}

// issuer gives out and verifies the tokens of Azure's clients.
func (s *Server) issuer() (*issuer.Issuer, error) {
	base := s.baseURL()
	if base == nil {
		base = arm.BaseURL
	}
	made, err := issuer.New(s.tokens, s.keys, base, nil)
	if err != nil {
		return nil, err
	}
	made.Approvals, made.Address = s.store, s.URL()
	return made, nil
}

// leases is the manager as the data plane of code pools sees it, holds as that of custom pools
// does, and tools as the MCP endpoint does.
type (
	leases struct{ *pool.Manager }
	holds  struct{ *pool.Manager }
	tools  struct{ *pool.Manager }
)

// Acquire implements endpoint.Pools.
func (h holds) Acquire(ctx context.Context, id sandpool.PoolID,
	identifier sandpool.Identifier) (endpoint.Lease, error) {
	return leases(h).Acquire(ctx, id, identifier)
}

// Acquire implements gateway.Pools.
func (l leases) Acquire(ctx context.Context, id sandpool.PoolID,
	identifier sandpool.Identifier) (gateway.Lease, error) {
	lease, err := l.Manager.Acquire(ctx, id, identifier)
	if err != nil {
		return nil, err // not lease: a nil pointer in an interface is not nil
	}
	return lease, nil
}

// endpoint is the endpoint of a pool as the control plane shows it: that of a custom pool is a host
// name of its own if pools have one, since its containers' pages know of no path before theirs.
func (s *Server) endpoint() func(sandpool.Pool, *http.Request) string {
	if s.cfg.EndpointSuffix == "" && s.cfg.EndpointURL == "" {
		return nil
	}
	return func(p sandpool.Pool, r *http.Request) string {
		base := cmp.Or(endpoint.Base(s.cfg.EndpointURL, p.Location), s.cfg.PublicURL)
		if base == "" {
			base = arm.BaseURL(r)
		}
		if p.Spec.Kind != sandpool.CustomContainer || s.cfg.EndpointSuffix == "" {
			return base + arm.EndpointOf(p.ID)
		}
		return endpoint.URL(base, p.ID, p.Location, s.cfg.EndpointSuffix)
	}
}

// baseURL is how callers reach the server in links of answers: as configured,
// or as the request came; nil means the latter.
func (s *Server) baseURL() func(*http.Request) string {
	if s.cfg.PublicURL == "" {
		return nil
	}
	return func(*http.Request) string { return s.cfg.PublicURL }
}

// isHost reports whether a setting is a host name, whose first label may be endpoint.Region.
func isHost(s string) bool {
	return hostName().MatchString(strings.TrimPrefix(s, endpoint.Region+"."))
}

// endpointHost is the host of EndpointURL without its port; empty if that is none, or malformed.
func (c Config) endpointHost() string {
	rest, ok := strings.CutPrefix(c.EndpointURL, "https://")
	if !ok {
		if rest, ok = strings.CutPrefix(c.EndpointURL, "http://"); !ok {
			return ""
		}
	}
	if host, port, err := net.SplitHostPort(rest); err == nil {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return ""
		}
		return host
	}
	return rest
}

// tlsNames are the names beside the server's own that its certificate is for, with a star for what
// differs from pool to pool.
func (c Config) tlsNames() []string {
	names := slices.Clone(c.TLS.Names)
	if host := c.endpointHost(); host != "" {
		names = append(names, strings.Replace(host, endpoint.Region, "*", 1))
	}
	if strings.HasPrefix(c.EndpointSuffix, endpoint.Region) {
		for _, l := range c.Locations {
			if suffix := endpoint.Base(c.EndpointSuffix, l); suffix != "" {
				names = append(names, "*."+suffix)
			}
		}
	} else if c.EndpointSuffix != "" {
		names = append(names, "*."+c.EndpointSuffix)
	}
	return names
}
