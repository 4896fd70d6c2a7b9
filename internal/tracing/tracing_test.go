package tracing_test

import (
	"context"
	"encoding/hex"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	wire "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/otlp/otlptest"
	"github.com/sandpool/sandpool/internal/tracing"
)

// named are the spans that a collector got, by name.
func named(r *otlptest.Receiver) map[string]*wire.Span {
	all := map[string]*wire.Span{}
	for _, s := range r.Spans() {
		all[s.Name] = s
	}
	return all
}

const trace = "0af7651916cd43dd8448eb211c80319c"

// TestExport: a receiver of the protocol gets the request and its parts, as parent and child.
func TestExport(t *testing.T) {
	for name, way := range map[string]func(*otlptest.Receiver, testing.TB) string{
		"grpc": (*otlptest.Receiver).GRPC, "http": (*otlptest.Receiver).HTTP} {
		t.Run(name, func(t *testing.T) {
			r := &otlptest.Receiver{}
			tracer, err := tracing.New(slog.New(slog.DiscardHandler), tracing.Config{
				Endpoint: way(r, t), Sample: 1, Headers: []string{"X-Key=a=b"}, Version: "v1"})
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- tracer.Run(ctx) }()
			h := tracer.Handler(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				s := tracing.Of(req.Context())
				part := s.Child("claim", time.Now().Add(-time.Second), time.Second)
				part.Text("pool", "python")
				part.Fail("it did not")
				part.End()
				if !strings.HasPrefix(req.Header.Get("Traceparent"), "00-"+trace+"-") ||
					strings.Contains(req.Header.Get("Traceparent"), "00f067aa0ba902b7") {
					t.Errorf("a container gets %q", req.Header.Get("Traceparent"))
				}
				w.WriteHeader(http.StatusTeapot)
			}), func(context.Context) string { return trace })
			for _, of := range []string{strings.Repeat("X", 10000) + " /x/sessionPools/y/files/z",
				"POST /x/sessionPools/secret-name/executions"} {
				method, path, _ := strings.Cut(of, " ")
				req := httptest.NewRequest(method, path, nil)
				req.Header.Set("Traceparent", "00-"+trace+"-00f067aa0ba902b7-01")
				h.ServeHTTP(httptest.NewRecorder(), req)
			}
			stop()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			check(t, named(r))
			if h := r.Headers()[0]; h != nil && h.Get("X-Key") != "a=b" {
				t.Errorf("the collector got %v", h)
			}
		})
	}
}

func check(t *testing.T, spans map[string]*wire.Span) {
	t.Helper()
	if spans["_OTHER /files"] == nil {
		t.Errorf("there is no span of a method that was made up: %v", spans)
	}
	root, part := spans["POST /executions"], spans["claim"]
	if root == nil || part == nil {
		t.Fatalf("spans %v", spans)
	}
	if hex.EncodeToString(root.TraceId) != trace || hex.EncodeToString(root.ParentSpanId) !=
		"00f067aa0ba902b7" || root.Kind != wire.Span_SPAN_KIND_SERVER {
		t.Errorf("the request is %v", root)
	}
	if string(part.ParentSpanId) != string(root.SpanId) || part.Status.GetCode() !=
		wire.Status_STATUS_CODE_ERROR || part.Status.GetMessage() != "it did not" ||
		part.EndTimeUnixNano-part.StartTimeUnixNano != uint64(time.Second) ||
		part.Attributes[0].Value.GetStringValue() != "python" {
		t.Errorf("the part is %v", part)
	}
	found := int64(0)
	for _, a := range root.Attributes {
		if a.Key == "http.response.status_code" {
			found = a.Value.GetIntValue()
		}
	}
	if found != http.StatusTeapot {
		t.Errorf("the status is %d", found)
	}
}

// TestSampling: callers decide, and for those that do not, the part that is configured.
func TestSampling(t *testing.T) {
	for _, tt := range []struct {
		parent string
		sample float64
		want   bool
	}{
		{"00-" + trace + "-00f067aa0ba902b7-01", 0, true},
		{"00-" + trace + "-00f067aa0ba902b7-00", 1, false},
		{"", 1, true}, {"", 0, false}, {"nonsense", 1, true},
		{"00-" + trace + "-zzzzzzzzzzzzzzzz-01", 0, false},
		{"00-" + strings.ToUpper(trace) + "-00f067aa0ba902b7-01", 0, false}, // none: see arm.Trace
	} {
		tracer, err := tracing.New(slog.New(slog.DiscardHandler), tracing.Config{
			Endpoint: "http://127.0.0.1:1", Sample: tt.sample})
		if err != nil {
			t.Fatal(err)
		}
		traced := false
		h := tracer.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			traced = tracing.Of(r.Context()).TraceID() == trace
		}), func(context.Context) string { return trace })
		r := httptest.NewRequest("GET", "/", nil)
		if tt.parent != "" {
			r.Header.Set("Traceparent", tt.parent)
		}
		h.ServeHTTP(httptest.NewRecorder(), r)
		if traced != tt.want {
			t.Errorf("with %q and %v it is traced: %t", tt.parent, tt.sample, traced)
		}
	}
}

// TestClaim: a claim has the start that it needed, and that its steps, one after another.
func TestClaim(t *testing.T) {
	r := &otlptest.Receiver{}
	tracer, err := tracing.New(slog.New(slog.DiscardHandler), tracing.Config{
		Endpoint: r.GRPC(t), Sample: 1})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- tracer.Run(ctx) }()
	end := time.Now()
	h := tracer.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		s := tracing.Of(r.Context())
		s.Claim("python", "box", sandpool.Claim{Outcome: sandpool.ClaimNew, Took: time.Millisecond,
			Start: 5 * time.Millisecond, Steps: []sandpool.Step{{Name: "boot",
				Took: 3 * time.Millisecond}, {Name: "ready", Took: 2 * time.Millisecond}}}, end)
		s.Since("tunnel", end, errors.New("what is nobody's business"))
	}), func(context.Context) string { return trace })
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	all := named(r)
	for name, want := range map[string]struct {
		parent string
		from   time.Duration // before end
		took   time.Duration
	}{
		"claim": {"GET /", 6 * time.Millisecond, 6 * time.Millisecond},
		"start": {"claim", 5 * time.Millisecond, 5 * time.Millisecond},
		"boot":  {"start", 5 * time.Millisecond, 3 * time.Millisecond},
		"ready": {"start", 2 * time.Millisecond, 2 * time.Millisecond},
	} {
		s := all[name]
		if s == nil || string(s.ParentSpanId) != string(all[want.parent].GetSpanId()) ||
			s.StartTimeUnixNano != uint64(end.Add(-want.from).UnixNano()) ||
			s.EndTimeUnixNano-s.StartTimeUnixNano != uint64(want.took) {
			t.Errorf("%s: %v, want it below %s", name, s, want.parent)
		}
	}
	if s := all["tunnel"]; s.GetStatus().GetMessage() != "error" {
		t.Errorf("a tunnel that failed: %v", s)
	}
}

// TestOff: without an endpoint there is nothing in the way.
func TestOff(t *testing.T) {
	tracer, err := tracing.New(slog.New(slog.DiscardHandler), tracing.Config{Sample: 1})
	if err != nil || tracer != nil {
		t.Fatalf("%v %v", tracer, err)
	}
	next := http.NotFoundHandler()
	if h := tracer.Handler(next, nil); h == nil || tracer.Run(t.Context()) != nil {
		t.Error("nothing is not nothing")
	}
	s := tracing.Of(t.Context())
	s.Text("a", "b")
	s.Child("c", time.Now(), 0).End()
	if n := testing.AllocsPerRun(100, func() {
		s := tracing.Of(t.Context())
		s.Int("a", 1)
		s.End()
	}); n != 0 {
		t.Errorf("a request that is not traced costs %v allocations", n)
	}
	for _, c := range []tracing.Config{{Endpoint: "localhost:4318"}, {Endpoint: "udp://x"},
		{Endpoint: "http://x", Sample: 2}, {Endpoint: "http://x", Sample: math.NaN()}, {Endpoint: "http://x", Headers: []string{"secret"}}} {
		if err := c.Validate(); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
