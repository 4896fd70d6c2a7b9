package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/audit"
	"github.com/sandpool/sandpool/internal/auth"
	"github.com/sandpool/sandpool/internal/control/network"
	"github.com/sandpool/sandpool/internal/descriptor"
	"github.com/sandpool/sandpool/internal/endpoint"
	"github.com/sandpool/sandpool/internal/event"
	"github.com/sandpool/sandpool/internal/event/export"
	"github.com/sandpool/sandpool/internal/history"
	"github.com/sandpool/sandpool/internal/history/executions"
	"github.com/sandpool/sandpool/internal/local"
	"github.com/sandpool/sandpool/internal/logging"
	"github.com/sandpool/sandpool/internal/metrics"
	"github.com/sandpool/sandpool/internal/otlp"
	"github.com/sandpool/sandpool/internal/pool"
	"github.com/sandpool/sandpool/internal/pool/meter"
	"github.com/sandpool/sandpool/internal/store"
	"github.com/sandpool/sandpool/internal/tracing"
	"github.com/sandpool/sandpool/internal/usage"
)

// observe makes those who learn from the server's events, and the events.
func (s *Server) observe() (err error) {
	if s.metrics, err = metrics.New(s.log, sandpool.Version, s.inNumbers); err != nil {
		return err
	}
	if err = s.metrics.Certificates(s.certificates); err != nil {
		return err
	}
	if s.history, err = history.New(s.log, nil); err != nil {
		return err
	}
	if s.cfg.HistoryMB > 0 {
		s.past = executions.New(executions.Bounds{All: s.cfg.HistoryMB << 20}, nil)
	}
	if s.tracer, err = tracing.New(s.log, s.cfg.traces()); err != nil {
		return err
	}
	s.deleted = make(deletions, 1)
	sinks := []event.Sink{event.Log(s.log), s.metrics, s.history, s.deleted}
	collector, err := s.cfg.collector()
	if err != nil {
		return err
	}
	if collector != nil && s.cfg.OTLP.Metrics {
		s.pushed = collector
	}
	if collector != nil && s.cfg.OTLP.Events {
		s.exported = export.New(s.log, collector, sandpool.Version)
		sinks = append(sinks, s.exported)
	}
	s.events = event.New(sinks...)
	return nil
}

// checkHistory says what is wrong with the bound of histories, if anything is.
func (c Config) checkHistory() error {
	if c.HistoryMB >= 0 && c.HistoryMB <= 16<<10 {
		return nil
	}
	return fmt.Errorf("configuration: history_mb is %d; use 0 to 16384", c.HistoryMB)
}

// keep hears which pools keep what their sessions run; nil if none may.
func (s *Server) keep() func(sandpool.PoolID, *sandpool.History) {
	if s.past == nil {
		return nil
	}
	return s.past.Keep
}

// collector is where metrics and events are sent; nil if they are not.
func (c Config) collector() (*otlp.Client, error) {
	if c.OTLP.Endpoint == "" {
		return nil, nil
	}
	return otlp.New(otlp.Config{Setting: "otlp", Endpoint: c.OTLP.Endpoint,
		Headers: c.OTLP.Headers})
}

// checkCollectors says what is wrong with where traces, metrics and events go.
func (c Config) checkCollectors() (problems []error) {
	_, err := c.collector()
	for _, err := range []error{c.traces().Validate(), err} {
		if err != nil {
			problems = append(problems, fmt.Errorf("configuration: %w", err))
		}
	}
	if c.OTLP.Interval < time.Second {
		problems = append(problems, fmt.Errorf("configuration: otlp.interval is %v; use 1s or more",
			c.OTLP.Interval))
	}
	return problems
}

// push sends metrics, if they are sent, until ctx ends.
func (s *Server) push(ctx context.Context) error {
	if s.pushed == nil {
		return nil
	}
	return s.metrics.Push(ctx, s.pushed, s.cfg.OTLP.Interval)
}

// auditDir is where the audit log is kept, below the data directory.
const auditDir = "audit"

// recorder opens the audit log, which gets the refusals that respond answers.
func (s *Server) recorder(log *slog.Logger, respond *arm.Responder) (*audit.Recorder, error) {
	var err error
	if s.audit, err = audit.Open(filepath.Join(s.cfg.DataDir, auditDir), audit.Options{
		Keep: s.cfg.AuditMB << 20}); err != nil {
		return nil, err
	}
	rec, err := audit.NewRecorder(s.audit, log, arm.TraceID, s.loggedPath)
	if err != nil {
		return nil, err
	}
	respond.Failed, rec.Lost = rec.Failed, s.metrics.AuditLost
	return rec, nil
}

// usageKeyFile is where the key is kept under which records of usage name identifiers, below the
// data directory.
const usageKeyFile = "usage-key"

// newUsage makes what records the use of sessions, unless nothing is to be recorded, and what reads
// the records.
func (s *Server) newUsage() (err error) {
	key, err := sessionKey(filepath.Join(s.cfg.DataDir, usageKeyFile))
	if err != nil {
		return fmt.Errorf("the key of usage records: %w", err)
	}
	s.used = usage.NewReader(s.store)
	s.used.Key = key
	if s.cfg.Usage.Days == 0 {
		return nil
	}
	if s.usage, err = usage.New(s.events, s.store, s.cfg.Usage, nil); err == nil {
		s.usage.Key = key
	}
	return err
}

// meter is that as the pool sees it.
func (s *Server) meter() meter.Meter {
	if s.usage == nil {
		return meter.None{} // not a nil pointer in an interface, which is not nil
	}
	return s.usage
}

// executions hears of executions, to count them.
func (s *Server) executions() event.Observer {
	if s.usage == nil {
		return s.events
	}
	return s.usage.Observer(s.events)
}

// recordUsage records until ctx ends.
func (s *Server) recordUsage(ctx context.Context) error {
	if s.usage == nil {
		return nil
	}
	return s.usage.Run(ctx)
}

// subjectOf is who asks, for records.
func subjectOf(ctx context.Context) string {
	who, _ := auth.FromContext(ctx)
	return who.Subject
}

// loggedPath is what of a request's path may be written down. At a host name of a pool's own it
// stands below the pool's endpoint.
func (s *Server) loggedPath(r *http.Request) string {
	if t, ok := endpoint.Find(r, s.cfg.EndpointSuffix); ok && t.OwnHost {
		return arm.LoggedPath(arm.EndpointOf(t.Pool) + "/" + strings.TrimLeft(t.Path, "/"))
	}
	return arm.LoggedPath(r.URL.EscapedPath())
}

// traces is where spans go.
func (c Config) traces() tracing.Config {
	return tracing.Config{Endpoint: c.Traces.Endpoint, Sample: c.Traces.Sample,
		Headers: c.Traces.Headers, Version: sandpool.Version}
}

// metricsPath is where Prometheus asks.
const metricsPath = "/metrics"

// own is the manager's own pools, of which each server tells.
type own struct{ *pool.Manager }

// Pools implements history.Pools.
func (o own) Pools(ctx context.Context) ([]sandpool.Pool, error) { return o.OwnPools(ctx) }

// inNumbers is the pools as metrics show them.
func (s *Server) inNumbers(ctx context.Context) ([]metrics.Pool, error) {
	pools, err := s.manager.OwnPools(ctx)
	if err != nil {
		return nil, err
	}
	var list []metrics.Pool
	for _, p := range pools {
		n, err := s.manager.Status(ctx, p.ID)
		if err != nil && (sandpool.ClassOf(err) == sandpool.NotFound ||
			errors.Is(err, store.ErrNotOwner)) {
			continue // it was deleted meanwhile, or its owner tells of it
		}
		if err != nil {
			return nil, err
		}
		list = append(list, metrics.Pool{ID: p.ID, Failed: p.State == sandpool.Failed,
			Max: p.MaxSessions, Target: n.Wanted,
			Ready: n.Ready, Starting: n.Starting, Claimed: n.Claimed, Stopping: n.Stopping,
			Waiting:        n.Waiting,
			RefillFailures: n.RefillFailures, Crashes: n.Crashes, Refused: n.Refused,
			Claims: n.Claims, PullFailures: n.PullFailures,
			Snapshot: n.Snapshot.Bytes, SnapshotMade: n.Snapshot.Made, Read: n.Read,
			Refills: n.Refills,
			Kind:    string(p.Spec.Kind), Lag: s.history.Lag(p.ID)})
		if n.Egress != nil {
			last := &list[len(list)-1]
			last.EgressPackets, last.EgressNames = n.Egress.Packets, n.Egress.Names
		}
	}
	return list, nil
}

// certificates are those that the server serves with, as metrics show them: by ACME, or the one of
// tls.cert. One of the server's own authority is renewed when it is asked for, without anybody's
// help that could fail.
func (s *Server) certificates() (list []metrics.Certificate) {
	for _, c := range s.issued.Certificates() {
		list = append(list, metrics.Certificate(c))
	}
	if c := s.given; c != nil {
		host := c.Subject.CommonName
		if len(c.DNSNames) > 0 {
			host = c.DNSNames[0]
		}
		list = append(list, metrics.Certificate{Host: strings.ToValidUTF8(host, "?"),
			Start: c.NotBefore, End: c.NotAfter})
	}
	return list
}

// detail is what the server knows of a session.
func (s *Server) detail(ctx context.Context, of sandpool.Session, into *api.SessionDetail) error {
	s.history.Session(of, into)
	refused, err := s.manager.Refused(ctx, sandpool.Sandbox{ID: of.Sandbox})
	into.Egress = network.Refusals(refused)
	return err
}

// scrape answers with the metrics to those who may read them.
func (s *Server) scrape(respond *arm.Responder) http.HandlerFunc {
	answer := s.metrics.Handler()
	return func(w http.ResponseWriter, r *http.Request) {
		if err := auth.Require(r.Context(), auth.ReadMetrics, sandpool.Scope{}); err != nil {
			respond.Error(w, r, err)
			return
		}
		answer.ServeHTTP(w, r)
	}
}

// listenMetrics opens the address of metrics alone, if there is to be one.
func (s *Server) listenMetrics(ctx context.Context) (err error) {
	if s.cfg.MetricsListen == "" {
		return nil
	}
	var lc net.ListenConfig
	if s.scraped, err = lc.Listen(ctx, "tcp", s.cfg.MetricsListen); err != nil {
		return fmt.Errorf("metrics_listen: %w", err)
	}
	return nil
}

// serveMetrics serves the metrics at an address of their own, to whoever reaches it, until ctx
// ends.
func (s *Server) serveMetrics(ctx context.Context) error {
	if s.scraped == nil {
		return nil
	}
	mux := http.NewServeMux()
	mux.Handle("GET "+metricsPath, s.metrics.Handler())
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
		ConnState: descriptor.NewConns(descriptor.Beside).Watch}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	return ignoring(http.ErrServerClosed, srv.Serve(s.scraped))
}

// serveLocal serves those who are on this machine and may read the data directory.
func (s *Server) serveLocal(ctx context.Context) error {
	levels, _ := s.log.Handler().(*logging.Handler) // another handler has none
	return local.Serve(ctx, s.log, s.cfg.DataDir, local.Parts{Levels: levels, Rekey: s.rekey})
}
