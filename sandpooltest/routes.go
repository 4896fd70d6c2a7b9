package sandpooltest

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/internal/control"
	"github.com/sandpool/sandpool/internal/endpoint"
	"github.com/sandpool/sandpool/internal/event"
	"github.com/sandpool/sandpool/internal/gateway"
	"github.com/sandpool/sandpool/internal/interpreter"
	"github.com/sandpool/sandpool/internal/pool"
	"github.com/sandpool/sandpool/internal/proxy"
	"github.com/sandpool/sandpool/internal/sandbox"
)

// guest is what runs in the sandboxes of a pool: nothing that has to be made unlike its siblings.
func guest(sandpool.Pool) (pool.Guest, error) {
	return pool.Guest{
		Template: func(_ context.Context, p sandpool.Pool, _ sandpool.Secrets) (sandbox.Template,
			error) {
			return sandbox.Template{
				Root:   sandbox.Image{Reference: p.Spec.Image},
				Args:   []string{"/sandpooltest"},
				Ready:  sandpool.Probe{HTTP: sandpool.HTTPProbe{Port: 80, Path: "/"}},
				Start:  sandbox.Restore,
				Limits: sandpool.Resources{CPU: 1, Memory: 1 << 30, PIDs: 1024, Disk: 1 << 30},
			}, nil
		},
		Init: func(context.Context, sandpool.Sandbox, pool.Dialer) error { return nil },
	}, nil
}

// routes puts both planes together as the server does, without what the package does not have.
func routes(log *slog.Logger, bus *event.Bus, manager *pool.Manager, tokens *auth.Tokens,
	within *interpreter.Set) (http.Handler, error) {
	respond := &arm.Responder{Log: log}
	planes, err := control.New(respond, manager, tokens, control.Options{Events: bus})
	if err != nil {
		return nil, err
	}
	data, err := gateway.New(log, leases{manager}, within, gateway.Options{Events: bus})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	planes.Register(mux)
	mux.Handle("/", respond.NotFound())
	branch, err := endpoint.NewBranch(manager, respond, "", endpoint.Parts{
		Code: data, MCP: noMCP{},
		Custom: endpoint.NewCustom(holds{manager}, proxy.New(proxy.Options{})),
	})
	if err != nil {
		return nil, err
	}
	callers, err := auth.NewAuthenticator(auth.Options{Fail: respond.Error}, tokens)
	if err != nil {
		return nil, err
	}
	return arm.Trace(callers.Middleware(branch.Split(branch, respond.Normalise(mux)))), nil
}

// noMCP says that there is no MCP endpoint.
type noMCP struct{}

// Serve implements endpoint.MCP.
func (noMCP) Serve(http.ResponseWriter, *http.Request, sandpool.PoolID) error {
	return sandpool.Errorf(sandpool.Unsupported, "", "path",
		"The server of sandpooltest has no MCP endpoint.")
}

// leases and holds are the manager as the data planes of code pools and of custom pools see it.
type (
	leases struct{ *pool.Manager }
	holds  struct{ *pool.Manager }
)

// Acquire implements gateway.Pools.
func (l leases) Acquire(
	ctx context.Context, id sandpool.PoolID, identifier sandpool.Identifier,
) (gateway.Lease, error) {
	lease, err := l.Manager.Acquire(ctx, id, identifier)
	if err != nil {
		return nil, err // not lease: a nil pointer in an interface is not nil
	}
	return lease, nil
}

// Acquire implements endpoint.Pools.
func (h holds) Acquire(
	ctx context.Context, id sandpool.PoolID, identifier sandpool.Identifier,
) (endpoint.Lease, error) {
	return leases(h).Acquire(ctx, id, identifier)
}
