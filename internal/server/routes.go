package server

import (
	"context"
	"io"
	"log/slog"
	"net/http"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/internal/control"
	"github.com/sandpool/sandpool/internal/gateway"
	"github.com/sandpool/sandpool/internal/pool"
)

// healthPath is the only path that is answered without a token.
const healthPath = "/healthz"

// routes puts both planes on one mux, behind what every request passes: a
// trace id, one spelling of its path, and a principal.
func (s *Server) routes(log *slog.Logger) (http.Handler, error) {
	respond := &arm.Responder{Log: log, FullStatus: s.cfg.FullStatus}
	callers, err := auth.NewAuthenticator(auth.Options{Fail: respond.Error, Open: []string{healthPath}}, s.tokens)
	if err != nil {
		return nil, err
	}
	planes, err := control.New(respond, s.manager, s.tokens, control.Options{
		Limits: control.Limits{
			MinCooldown: s.cfg.Limits.MinCooldown,
			MaxCooldown: s.cfg.Limits.MaxCooldown,
			MaxSessions: s.cfg.Limits.MaxSessions,
			Resources:   s.cfg.Limits.Sandbox.resources(),
		},
		BaseURL: s.baseURL(),
		Events:  s.events,
	})
	if err != nil {
		return nil, err
	}
	data, err := gateway.New(log, leases{s.manager}, s.within, respond, gateway.Options{
		MaxTimeout: s.cfg.Limits.MaxExecution, PublicURL: s.cfg.PublicURL,
	})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	planes.Register(mux)
	data.Register(mux)
	mux.HandleFunc("GET "+healthPath, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, "ok\n") // a caller that has gone away does not matter
	})
	mux.Handle("/", respond.NotFound())
	return arm.Trace(respond.Normalise(callers.Middleware(mux))), nil
}

// leases is the manager as the data plane sees it.
type leases struct{ *pool.Manager }

// Acquire implements gateway.Pools.
func (l leases) Acquire(ctx context.Context, id sandpool.PoolID, identifier sandpool.Identifier) (gateway.Lease, error) {
	lease, err := l.Manager.Acquire(ctx, id, identifier)
	if err != nil {
		return nil, err // not lease: a nil pointer in an interface is not nil
	}
	return lease, nil
}

// baseURL is how callers reach the server in links of answers: as configured,
// or as the request came; nil means the latter.
func (s *Server) baseURL() func(*http.Request) string {
	if s.cfg.PublicURL == "" {
		return nil
	}
	return func(*http.Request) string { return s.cfg.PublicURL }
}
