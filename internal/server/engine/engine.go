// Package engine opens the engine that a server's configuration names: gVisor on this machine, or
// pods of a Kubernetes cluster.
package engine

import (
	"context"
	"log/slog"

	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/gvisor"
	"github.com/sandpool/sandpool/internal/sandbox/kube"
	"github.com/sandpool/sandpool/internal/server/timed"
)

// Name names an engine.
type Name string

// The engines.
const (
	GVisor       Name = "gvisor"
	InKubernetes Name = "kubernetes"
)

// Engine is an open engine: the contract with all its optional abilities, and what closes it.
type Engine struct {
	sandbox.Runtime
	Close func() error
}

// OpenGVisor opens the engine of this machine.
func OpenGVisor(log *slog.Logger, cfg gvisor.Config, observe timed.Observe) (*Engine, error) {
	e, err := gvisor.New(log, cfg)
	if err != nil {
		return nil, err
	}
	return &Engine{Runtime: timed.GVisor(e, observe), Close: e.Close}, nil
}

// OpenKubernetes opens the engine of a cluster.
func OpenKubernetes(ctx context.Context, log *slog.Logger, k Kubernetes,
	observe timed.Observe) (*Engine, error) {
	cfg, err := k.config()
	if err != nil {
		return nil, err
	}
	e, err := kube.New(ctx, log, cfg)
	if err != nil {
		return nil, err
	}
	return &Engine{Runtime: timed.Kubernetes(e, observe), Close: e.Close}, nil
}
