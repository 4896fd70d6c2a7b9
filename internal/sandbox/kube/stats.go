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

// measures is what is known of the sandboxes of one namespace.
type measures struct {
	mu     sync.Mutex    // guards what follows; never held while the cluster is asked
	asking chan struct{} // closed when the question that is under way is answered; nil if none is
	until  time.Time
	err    error
	told   bool               // the log has had an error
	of     map[string]measure // by the names of pods
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
	p, err := e.running(h)
	if err != nil {
		return sandbox.Stats{}, err
	}
	known, err := e.measured(ctx, p.Metadata.Namespace)
	if err != nil {
		return sandbox.Stats{}, err
	}
	one, ok := known[podName(h.ID)]
	if !ok {
		return sandbox.Stats{}, sandpool.Errorf(sandpool.Unavailable, "NotMeasuredYet", "",
			"The cluster has not measured the sandbox %q yet.", h.ID)
	}
	return sandbox.Stats{Memory: one.memory, CPUTime: one.cpu}, nil
}

// measured returns what is known of a namespace's pods. One caller asks for what is too old; the
// others wait for him, or have older samples meanwhile, if there are any.
func (e *Engine) measured(ctx context.Context, namespace string) (map[string]measure, error) {
	m := e.used[namespace]
	m.mu.Lock()
	defer m.mu.Unlock()
	for time.Now().After(m.until) {
		answered := m.asking
		switch {
		case answered == nil:
			m.ask(func(last map[string]measure) (map[string]measure, error) {
				return e.measure(ctx, namespace, last)
			})
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			if m.err != nil && !m.told {
				m.told = true
				e.log.Warn("what sandboxes use is not measured", "namespace", namespace,
					"error", m.err)
			}
			m.until = time.Now().Add(measuredFor)
		case m.of != nil:
			return m.of, m.err
		default:
			m.mu.Unlock()
			select {
			case <-answered:
			case <-ctx.Done():
			}
			m.mu.Lock()
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
		}
	}
	return m.of, m.err
}

// ask asks without the lock, which the caller holds.
func (m *measures) ask(measure func(last map[string]measure) (map[string]measure, error)) {
	m.asking = make(chan struct{})
	last := m.of
	m.mu.Unlock()
	now, err := measure(last)
	m.mu.Lock()
	close(m.asking)
	m.asking, m.err = nil, err
	if err == nil {
		m.of = now
	}
}

// measure asks for all pods of a namespace, of which last was known.
func (e *Engine) measure(ctx context.Context, namespace string,
	last map[string]measure) (map[string]measure, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, measureTime,
		fmt.Errorf("the metrics API has not answered within %v", measureTime))
	defer cancel()
	list, err := e.cfg.Client.PodMetrics(ctx, namespace, e.cfg.sandboxes())
	switch rest.CodeOf(err) {
	case http.StatusNotFound:
		return nil, unsupported("", "The cluster has no metrics API, so what sandboxes use is not "+
			"measured. metrics-server is one.")
	case http.StatusForbidden:
		return nil, unsupported("", "The server's account may not list pods of metrics.k8s.io, so what "+
			"sandboxes use is not measured.")
	}
	if err != nil {
		return nil, err
	}
	now := make(map[string]measure, len(list))
	for _, p := range list {
		before := last[p.Name]
		next := measure{at: p.At, memory: p.Memory, cpu: before.cpu}
		if p.At.After(before.at) {
			span := p.Window
			if !before.at.IsZero() {
				span = p.At.Sub(before.at)
			}
			next.cpu += time.Duration(p.Cores * float64(span))
		}
		now[p.Name] = next
	}
	return now, nil
}
