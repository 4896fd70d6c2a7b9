// Package otlptest is a collector of OpenTelemetry for tests, which reads by the protocol's own
// code.
package otlptest

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	logs "go.opentelemetry.io/proto/otlp/logs/v1"
	metrics "go.opentelemetry.io/proto/otlp/metrics/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// Receiver keeps what it is sent. Its zero value is ready.
type Receiver struct {
	mu      sync.Mutex // guards the fields below it
	spans   []*trace.Span
	metrics map[string]*metrics.Metric
	records []*logs.LogRecord
	headers []http.Header
	change  chan struct{} // closed by what comes next
}

// signal is where a collector takes one, and what its request is: the messages that hold the data
// are on the wire what the requests of the services are.
type signal struct {
	path, service string
	data          func() proto.Message
}

func signals() []signal {
	const collector = "opentelemetry.proto.collector."
	return []signal{
		{"/v1/traces", collector + "trace.v1.TraceService",
			func() proto.Message { return &trace.TracesData{} }},
		{"/v1/metrics", collector + "metrics.v1.MetricsService",
			func() proto.Message { return &metrics.MetricsData{} }},
		{"/v1/logs", collector + "logs.v1.LogsService",
			func() proto.Message { return &logs.LogsData{} }},
	}
}

// HTTP serves OTLP over HTTP until the test ends, and returns the endpoint.
func (r *Receiver) HTTP(t testing.TB) string {
	t.Helper()
	mux := http.NewServeMux()
	for _, s := range signals() {
		mux.HandleFunc("POST "+s.path, func(_ http.ResponseWriter, req *http.Request) {
			in := s.data()
			body, err := io.ReadAll(req.Body)
			if err == nil {
				err = proto.Unmarshal(body, in)
			}
			if err != nil || req.Header.Get("Content-Type") != "application/x-protobuf" {
				t.Errorf("%s: %v, %v", s.path, err, req.Header)
			}
			r.take(in, req.Header)
		})
	}
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return srv.URL
}

// GRPC serves OTLP over gRPC until the test ends, and returns the endpoint.
func (r *Receiver) GRPC(t testing.TB) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	for _, s := range signals() {
		srv.RegisterService(&grpc.ServiceDesc{ServiceName: s.service, HandlerType: (*any)(nil),
			Methods: []grpc.MethodDesc{{MethodName: "Export", Handler: func(_ any,
				_ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any,
				error) {
				in := s.data()
				if err := decode(in); err != nil {
					return nil, err
				}
				r.take(in, nil)
				return s.data(), nil // as empty as the answers of the services
			}}}}, r)
	}
	go func() { _ = srv.Serve(l) }() // until it is stopped
	t.Cleanup(srv.Stop)
	return "grpc://" + l.Addr().String()
}

func (r *Receiver) take(in proto.Message, header http.Header) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch in := in.(type) {
	case *trace.TracesData:
		for _, from := range in.ResourceSpans {
			for _, of := range from.ScopeSpans {
				r.spans = append(r.spans, of.Spans...)
			}
		}
	case *metrics.MetricsData:
		r.metrics = map[string]*metrics.Metric{}
		for _, from := range in.ResourceMetrics {
			for _, of := range from.ScopeMetrics {
				for _, m := range of.Metrics {
					r.metrics[m.Name] = m
				}
			}
		}
	case *logs.LogsData:
		for _, from := range in.ResourceLogs {
			for _, of := range from.ScopeLogs {
				r.records = append(r.records, of.LogRecords...)
			}
		}
	}
	r.headers = append(r.headers, header)
	if r.change != nil {
		close(r.change)
		r.change = nil
	}
}

// Spans are those that came.
func (r *Receiver) Spans() []*trace.Span {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]*trace.Span(nil), r.spans...)
}

// Metrics are those that came last, by name.
func (r *Receiver) Metrics() map[string]*metrics.Metric {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.metrics
}

// Records are the records of logs that came.
func (r *Receiver) Records() []*logs.LogRecord {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]*logs.LogRecord(nil), r.records...)
}

// Headers are those of the calls that came by HTTP.
func (r *Receiver) Headers() []http.Header {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]http.Header(nil), r.headers...)
}

// patience only ends a hang.
const patience = time.Minute

// Await waits until has says so, which is asked after each call that comes.
func (r *Receiver) Await(t testing.TB, what string, has func() bool) {
	t.Helper()
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		r.mu.Lock()
		if r.change == nil {
			r.change = make(chan struct{})
		}
		change := r.change
		r.mu.Unlock()
		if has() {
			return
		}
		select {
		case <-change:
		case <-late.C:
			t.Fatalf("the collector was not told in %s: %s", patience, what)
		}
	}
}
