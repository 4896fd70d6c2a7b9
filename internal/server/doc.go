// Package server assembles the program: it reads the configuration, opens the store, the engine and
// the image store, wires the planes to the pool, and runs everything as one value with Run and
// Close. It alone names concrete engines and stores; tests start the same value on port 0.
//
// # The parts, and who knows whom
//
//	listener ─▶ routes ─┬─▶ gateway ────────┐ code pools      ┌─▶ store (SQLite, Postgres)
//	                    ├─▶ mcp ────────────┤                 │
//	                    ├─▶ endpoint, proxy ┼─▶ pool.Manager ─┼─▶ engine (gVisor, Kubernetes)
//	                    ├─▶ control ────────┘ custom pools    │
//	                    └─▶ web, issuer, deployment           └─▶ event.Bus ─▶ metrics, history
//
// Planes see the manager through interfaces of their own, a few methods each (leases, holds, tools
// in routes.go). The manager sees the engine as sandbox.Runtime, and what runs inside as a
// pool.Guest, which newManager chooses by the pool's kind.
//
// # The way of a request
//
// Every request passes, in this order: the trace id and the span, the branch by raw path (data
// plane or the rest, found once by endpoint.Split), metrics and cross-origin rules, the caller's
// token, the caller's limits, the pool's limits, another server if that one owns the pool, and the
// handler. Errors of all of them are written by one arm.Responder. What needs no token branches off
// before: the health check, the issuer, the dashboard, which signs people in by itself.
//
// # Start and end
//
// New takes the lock of the data directory before it opens the store, meets the other servers of
// the store before it has pools, and listens last: whoever can connect finds a server that works.
// If one step fails, Close gives back what the earlier ones opened. Run ends in the reverse order:
// followers of events and logs first, requests in flight for shutdownGrace, then sandboxes, if
// OnExit says so. The manager and the event bus outlive the listener, because requests in flight
// still need their sandboxes and report their ends.
//
// # Where to look
//
//	server.go    New, Run, Close                   routes.go     what a request passes
//	config.go    settings and their checks         admin.go      the administrator's token
//	state.go     the store, and other servers      observe.go    metrics, audit, traces
//	template.go  what code pools start from        dashboard.go  what the dashboard is told
//	images.go    images that nobody uses any more  doctor.go     what the host lacks
//	reserve.go   what is kept back for the host
package server
