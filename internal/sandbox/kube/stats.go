package kube

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/kube/rest"
)

// What sandboxes use is what the cluster's metrics API says, which metrics-server and others serve:
// memory, and processors as a rate over a window of some 15 s. The engine adds the rates up, so the
// processor time of a sandbox is an estimate, and begins anew with the server. The kubelet knows
// more, but whoever may ask it through the API server may also run programs in every pod of the
// node.

const (
	// measuredFor is how long an answer of the metrics API is used, for all sandboxes.
	measuredFor = 10 * time.Second
	// measureTime is how long it may take, since all who ask wait for it.
	measureTime = 3 * time.Second
)

// measures is what is known of the sandboxes.
type measures struct {
	mu    sync.Mutex // guards what follows, and lets one call at a time ask
	until time.Time
	err   error
	told  bool               // the log has had an error
	of    map[string]measure // by the names of pods
}

// measure is what one pod uses.
type measure struct {
	at     time.Time // of the sample
	memory int64
	cpu    time.Duration
}

// Stats implements sandbox.StatsReader. A cluster without a metrics API is an error of class
// Unsupported.
func (e *Engine) Stats(ctx context.Context, h sandbox.Handle) (sandbox.Stats, error) {
	if _, err := e.running(h); err != nil {
		return sandbox.Stats{}, err
	}
	m := &e.measured
	m.mu.Lock()
	defer m.mu.Unlock()
	if time.Now().After(m.until) {
		err := e.measure(ctx)
		if ctx.Err() != nil {
			return sandbox.Stats{}, context.Cause(ctx)
		}
		if err != nil && !m.told {
			m.told = true
			e.log.Warn("what sandboxes use is not measured", "error", err)
		}
		m.err, m.until = err, time.Now().Add(measuredFor)
	}
	if m.err != nil {
		return sandbox.Stats{}, m.err
	}
	one, ok := m.of[podName(h.ID)]
	if !ok {
		return sandbox.Stats{}, sandpool.Errorf(sandpool.Unavailable, "NotMeasuredYet", "",
			"The cluster has not measured the sandbox %q yet.", h.ID)
	}
	return sandbox.Stats{Memory: one.memory, CPUTime: one.cpu}, nil
}

// measure asks for all pods. The caller holds measures.mu.
func (e *Engine) measure(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, measureTime,
		fmt.Errorf("the metrics API has not answered within %v", measureTime))
	defer cancel()
	list, err := e.cfg.Client.PodMetrics(ctx, e.cfg.Namespace, e.cfg.sandboxes())
	switch rest.CodeOf(err) {
	case http.StatusNotFound:
		return unsupported("", "The cluster has no metrics API, so what sandboxes use is not "+
			"measured. metrics-server is one.")
	case http.StatusForbidden:
		return unsupported("", "The server's account may not list pods of metrics.k8s.io, so what "+
			"sandboxes use is not measured.")
	}
	if err != nil {
		return err
	}
	now := make(map[string]measure, len(list))
	for _, p := range list {
		last := e.measured.of[p.Name]
		next := measure{at: p.At, memory: p.Memory, cpu: last.cpu}
		if p.At.After(last.at) {
			span := p.Window
			if !last.at.IsZero() {
				span = p.At.Sub(last.at)
			}
			next.cpu += time.Duration(p.Cores * float64(span))
		}
		now[p.Name] = next
	}
	e.measured.of = now
	return nil
}
