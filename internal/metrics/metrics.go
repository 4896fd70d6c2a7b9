// Package metrics tells Prometheus how the server does, in the OpenMetrics format.
//
// What is true at the moment, and what the pools count, is read when it is asked for. How long
// things take is learned from the server's events, which arrive beside the work and not in it, so
// that a metric costs a claim nothing. Labels are names of pools, outcomes and kinds of event:
// there are few, and no identifier is among them.
package metrics

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/event"
)

// gatherTime bounds what one answer may take to collect.
const gatherTime = 10 * time.Second

// maxScrapes bounds the answers that are made at the same time.
const maxScrapes = 4

// maxOutcomes bounds the outcomes that one kind of event is told apart by: they are words of ours,
// but a bound that is not in the code is none.
const maxOutcomes = 32

// Pool is a pool in numbers.
type Pool struct {
	ID                                          sandpool.PoolID
	Failed                                      bool // sandboxes cannot be started
	Max, Target                                 int  // sessions at most, ready sandboxes wanted
	Ready, Starting, Claimed, Stopping, Waiting int
	RefillFailures, Crashes, Refused            int64
	PullFailures                                int64
	Snapshot, Read                              int64 // bytes; see pool.Status
	Refills                                     int64
	SnapshotMade                                time.Time     // zero without one
	Kind                                        string        // what its sessions run
	Lag                                         time.Duration // how long it has had too few ready
	// EgressPackets and EgressNames are what sandboxes were refused since the server started.
	EgressPackets, EgressNames int64
	Claims                     map[sandpool.ClaimOutcome]int64
}

// Pools returns the pools in numbers.
type Pools func(ctx context.Context) ([]Pool, error)

// Metrics collects. Use New.
type Metrics struct {
	log      *slog.Logger
	version  string
	began    time.Time
	pools    Pools
	registry *prometheus.Registry

	events  *prometheus.CounterVec
	waits   *prometheus.HistogramVec
	starts  *prometheus.HistogramVec
	runs    *prometheus.HistogramVec
	lasted  *prometheus.HistogramVec
	answers *prometheus.HistogramVec
	queued  *prometheus.HistogramVec
	forward *prometheus.HistogramVec

	store, engine, requests *prometheus.HistogramVec
	received, sent          *prometheus.CounterVec
	audit                   prometheus.Counter

	allowed map[event.Name]map[string]bool // outcomes that were seen; Consume's alone
}

// The buckets of durations, in seconds: from a claim out of memory to a cell that runs for minutes.
var (
	short = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5,
		5, 10}
	long = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120,
		240}
	whole = []float64{1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 24 * 3600}
)

// New returns the metrics of a server with the given pools. version is the program's.
func New(log *slog.Logger, version string, pools Pools) (*Metrics, error) {
	if log == nil || pools == nil {
		return nil, errors.New("metrics: the logger or the pools are nil")
	}
	m := &Metrics{log: log, version: version, began: time.Now(), pools: pools,
		registry: prometheus.NewRegistry(), allowed: map[event.Name]map[string]bool{}}
	histogram := func(name, help string, buckets []float64,
		labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help,
			Buckets:                     buckets,
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100,
			NativeHistogramMinResetDuration: time.Hour}, labels)
	}
	m.events = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sandpool_events_total",
		Help: "Events of the server, by name and outcome."}, []string{"event", "outcome"})
	m.waits = histogram("sandpool_claim_seconds",
		"How long callers waited for a sandbox of their own.", short, "pool", "outcome")
	m.starts = histogram("sandpool_sandbox_start_seconds", "How long sandboxes took to be ready.",
		short, "pool")
	m.runs = histogram("sandpool_execution_seconds", "How long code ran.", long, "pool", "outcome")
	m.lasted = histogram("sandpool_session_seconds", "How long sessions lasted.", whole, "pool")
	m.answers = histogram("sandpool_first_answer_seconds",
		"From the request that begins a session to the answer of its code.", short, "pool")
	m.queued = histogram("sandpool_queue_wait_seconds",
		"How long callers waited for a slot of a full pool.", short, "pool", "outcome")
	m.forward = histogram("sandpool_forward_seconds",
		"How long containers had requests, and connections lasted.", long, "pool", "way")
	m.store = histogram("sandpool_store_seconds", "How long writes to the store took.", short,
		"operation", "outcome")
	m.engine = histogram("sandpool_engine_seconds", "How long the engine took.", short,
		"operation", "outcome")
	m.requests = histogram("sandpool_http_request_seconds",
		"How long requests took, to the end of the answer.", long, "plane", "status")
	m.received = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sandpool_http_received_bytes_total",
		Help: "Bytes of requests' bodies, as announced."}, []string{"plane"})
	m.sent = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sandpool_http_sent_bytes_total",
		Help: "Bytes of answers' bodies."}, []string{"plane"})
	m.audit = prometheus.NewCounter(prometheus.CounterOpts{Name: "sandpool_audit_failures_total",
		Help: "Records of the audit log that could not be written."})
	for _, c := range []prometheus.Collector{m.audit, m.events, m.waits, m.starts, m.runs, m.lasted,
		m.answers, m.queued, m.forward, m.store, m.engine, m.requests, m.received, m.sent,
		buildInfo(version),
		collectors.NewGoCollector(), collectors.NewProcessCollector(
			collectors.ProcessCollectorOpts{})} {
		if err := m.registry.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// buildInfo says which program this is.
func buildInfo(version string) prometheus.Collector {
	labels := prometheus.Labels{"version": version, "go_version": runtime.Version(),
		"revision": "unknown"}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				labels["revision"] = s.Value
			}
		}
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{Name: "sandpool_build_info",
		Help: "1, with the program's version.", ConstLabels: labels})
	build.Set(1)
	return build
}

// AuditLost is told that a record of the audit log could not be written.
func (m *Metrics) AuditLost() { m.audit.Inc() }

// Store is told what a write to the store took; see package timed.
func (m *Metrics) Store(operation string, took time.Duration, err error) {
	m.store.WithLabelValues(operation, outcomeOf(err)).Observe(took.Seconds())
}

// Engine is told what a call of the engine took; see package timed.
func (m *Metrics) Engine(operation string, took time.Duration, err error) {
	m.engine.WithLabelValues(operation, outcomeOf(err)).Observe(took.Seconds())
}

func outcomeOf(err error) string {
	if err != nil {
		return "error"
	}
	return "ok"
}

// Handler answers with the metrics. Who may ask is the caller's matter.
func (m *Metrics) Handler() http.Handler {
	limit := make(chan struct{}, maxScrapes)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case limit <- struct{}{}:
			defer func() { <-limit }()
		default:
			http.Error(w, "too many scrapes at the same time", http.StatusServiceUnavailable)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), gatherTime)
		defer cancel()
		promhttp.HandlerFor(m.gather(ctx), promhttp.HandlerOpts{EnableOpenMetrics: true,
			ErrorLog: slog.NewLogLogger(m.log.Handler(), slog.LevelWarn)}).ServeHTTP(w, r)
	})
}

// gather is all metrics, with the pools as they are now.
func (m *Metrics) gather(ctx context.Context) prometheus.Gatherers {
	now := prometheus.NewRegistry()
	pools, err := m.pools(ctx)
	if err != nil {
		m.log.Warn("metrics: pools cannot be read", "error", err)
	}
	if err := now.Register(snapshot{describe(), pools, err == nil}); err != nil {
		m.log.Error("metrics of pools", "error", err)
	}
	return prometheus.Gatherers{now, m.registry}
}

// Consume implements event.Sink.
func (m *Metrics) Consume(_ context.Context, events []event.Event) {
	for _, e := range events {
		outcome := m.outcome(e)
		m.events.WithLabelValues(string(e.Name), outcome).Inc()
		pool := e.Pool.Name
		switch e.Name {
		case event.SessionAllocated:
			m.waits.WithLabelValues(pool, outcome).Observe(e.Took.Seconds())
		case event.SessionQueued:
			m.queued.WithLabelValues(pool, outcome).Observe(e.Took.Seconds())
		case event.SandboxStarted:
			m.starts.WithLabelValues(pool).Observe(e.Took.Seconds())
		case event.ExecutionEnded:
			observe(m.runs.WithLabelValues(pool, outcome), e.Took, e.Trace)
		case event.SessionAnswered:
			observe(m.answers.WithLabelValues(pool), e.Took, e.Trace)
		case event.SessionEnded:
			m.lasted.WithLabelValues(pool).Observe(e.Took.Seconds())
		case event.PoolDeleted:
			m.forget(pool)
		}
	}
}

// Forwarded counts a request to a container, or a connection to one; way is one of few words.
func (m *Metrics) Forwarded(pool, way string, took time.Duration, trace string) {
	observe(m.forward.WithLabelValues(pool, way), took, trace)
}

// observe counts how long something took, with its trace as an example if there is one.
func observe(into prometheus.Observer, took time.Duration, trace string) {
	if with, ok := into.(prometheus.ExemplarObserver); ok && trace != "" {
		with.ObserveWithExemplar(took.Seconds(), prometheus.Labels{"trace_id": trace})
		return
	}
	into.Observe(took.Seconds())
}

// outcome is the outcome of an event as a label: "other" once there are too many.
func (m *Metrics) outcome(e event.Event) string {
	seen := m.allowed[e.Name]
	if seen == nil {
		seen = map[string]bool{}
		m.allowed[e.Name] = seen
	}
	if !seen[e.Outcome] && len(seen) >= maxOutcomes {
		return "other"
	}
	seen[e.Outcome] = true
	return e.Outcome
}

// forget drops what is known of a pool that is gone.
func (m *Metrics) forget(pool string) {
	for _, each := range []*prometheus.HistogramVec{m.waits, m.starts, m.runs, m.lasted,
		m.answers, m.queued, m.forward} {
		each.DeletePartialMatch(prometheus.Labels{"pool": pool})
	}
}
