// Package timed tells how long the store and the engine take, call by call, without a part of
// either knowing of it.
package timed

import (
	"context"
	"net"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/gvisor"
	"github.com/sandpool/sandpool/internal/sandbox/kube"
	"github.com/sandpool/sandpool/internal/store"
)

// Observe is told what a call took, and how it ended. It must not block.
type Observe func(operation string, took time.Duration, err error)

// since is for the end of a call.
func (o Observe) since(began time.Time, operation string, err *error) {
	o(operation, time.Since(began), *err)
}

// calls are the calls of an engine that take time.
type calls struct {
	engine  sandbox.Runtime
	observe Observe
}

// onHost and inCluster hold the engines one step deeper than calls, which so are taken in place of
// their methods of the same names; all other abilities are the engines' own.
type (
	onHost    struct{ *gvisor.Engine }
	inCluster struct{ *kube.Engine }
)

// GVisor is the engine with all that it can do; what takes time is observed.
func GVisor(e *gvisor.Engine, o Observe) sandbox.Runtime {
	return struct {
		calls
		onHost
	}{calls{e, o}, onHost{e}}
}

// Kubernetes is GVisor for the engine of a cluster.
func Kubernetes(e *kube.Engine, o Observe) sandbox.Runtime {
	return struct {
		calls
		inCluster
	}{calls{e, o}, inCluster{e}}
}

// Prepare implements sandbox.Runtime.
func (e calls) Prepare(ctx context.Context, t sandbox.Template,
	progress func(sandbox.Progress)) (_ sandbox.Prepared, err error) {
	defer e.observe.since(time.Now(), "prepare", &err)
	return e.engine.Prepare(ctx, t, progress)
}

// Start implements sandbox.Runtime.
func (e calls) Start(ctx context.Context, id sandbox.ID, p sandbox.Prepared) (_ sandbox.Handle,
	err error) {
	defer e.observe.since(time.Now(), "start", &err)
	h, err := e.engine.Start(ctx, id, p)
	for _, step := range h.Steps {
		e.observe("start "+step.Name, step.Took, nil)
	}
	return h, err
}

// Stop implements sandbox.Runtime.
func (e calls) Stop(ctx context.Context, h sandbox.Handle) (err error) {
	defer e.observe.since(time.Now(), "stop", &err)
	return e.engine.Stop(ctx, h)
}

// Dial implements sandbox.Runtime.
func (e calls) Dial(ctx context.Context, h sandbox.Handle, port int) (_ net.Conn, err error) {
	defer e.observe.since(time.Now(), "dial", &err)
	return e.engine.Dial(ctx, h, port)
}

// Store is a store whose writes are observed, those that callers wait for.
type Store struct {
	store.Store
	Observe Observe
}

// Claim implements store.Sandboxes.
func (s Store) Claim(ctx context.Context, r sandpool.ClaimRequest) (_ sandpool.Sandbox,
	_ sandpool.ClaimOutcome, err error) {
	defer s.Observe.since(time.Now(), "claim", &err)
	return s.Store.Claim(ctx, r)
}

// Insert implements store.Sandboxes.
func (s Store) Insert(ctx context.Context, row sandpool.Sandbox, epoch int64) (err error) {
	defer s.Observe.since(time.Now(), "insert", &err)
	return s.Store.Insert(ctx, row, epoch)
}

// Started implements store.Sandboxes.
func (s Store) Started(ctx context.Context, id sandpool.SandboxID, handle []byte, now time.Time,
	epoch int64) (_ sandpool.Sandbox, err error) {
	defer s.Observe.since(time.Now(), "started", &err)
	return s.Store.Started(ctx, id, handle, now, epoch)
}

// Stopping implements store.Sandboxes.
func (s Store) Stopping(ctx context.Context, id sandpool.SandboxID, reason string,
	epoch int64) (err error) {
	defer s.Observe.since(time.Now(), "stopping", &err)
	return s.Store.Stopping(ctx, id, reason, epoch)
}

// Touch implements store.Sandboxes.
func (s Store) Touch(ctx context.Context, uses []sandpool.Use) (err error) {
	defer s.Observe.since(time.Now(), "touch", &err)
	return s.Store.Touch(ctx, uses)
}

// Remove implements store.Sandboxes.
func (s Store) Remove(ctx context.Context, id sandpool.SandboxID, epoch int64) (err error) {
	defer s.Observe.since(time.Now(), "remove", &err)
	return s.Store.Remove(ctx, id, epoch)
}

// PutPool implements store.Pools.
func (s Store) PutPool(ctx context.Context, p sandpool.Pool, secrets sandpool.Secrets,
	epoch int64) (err error) {
	defer s.Observe.since(time.Now(), "put pool", &err)
	return s.Store.PutPool(ctx, p, secrets, epoch)
}
