package clients_test

import (
	"encoding/hex"
	"os"
	"strings"
	"testing"

	trace "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/sandpool/sandpool/internal/otlp/otlptest"
)

// parts runs a program and checks that the collector gets, for each span that it prints, at least
// want spans of requests that are parts of it; "" is for requests that are part of nothing.
func parts(t *testing.T, from *otlptest.Receiver, run func() string, want map[string]int) {
	t.Helper()
	before := len(requests(from))
	printed := run()
	of := map[string]string{} // names of spans, by trace and span
	for line := range strings.Lines(printed) {
		if f := strings.Fields(line); len(f) == 4 && f[0] == "span" {
			of[f[2]+f[3]] = f[1]
		}
	}
	from.Await(t, "the spans of "+printed, func() bool {
		got := map[string]int{}
		for _, s := range requests(from)[before:] {
			name, begun := of[hex.EncodeToString(s.TraceId)+hex.EncodeToString(s.ParentSpanId)]
			if begun || len(s.ParentSpanId) == 0 {
				got[name]++
			}
		}
		for name, n := range want {
			if got[name] < n {
				return false
			}
		}
		return len(want) > 0
	})
}

// requests are the spans of what the server was asked, in the order in which they came.
func requests(from *otlptest.Receiver) (all []*trace.Span) {
	for _, s := range from.Spans() {
		if s.Kind == trace.Span_SPAN_KIND_SERVER {
			all = append(all, s)
		}
	}
	return all
}

// tracePython has our client for Python send traces, with OpenTelemetry and without.
func (s *server) tracePython(t *testing.T, collector *otlptest.Receiver, python, frameworks,
	site string) {
	parts(t, collector, func() string { return s.ownRun(t, site, python, "own/trace.py") },
		map[string]int{"given-run": 1, "given-stream": 1, "given-async": 1, "pool": 1, "": 3})
	parts(t, collector, func() string {
		return s.ownRun(t, site, frameworks, "own/trace.py", "otel")
	}, map[string]int{"otel": 3})
}

// traceTypeScript does the same with that for TypeScript.
func (s *server) traceTypeScript(t *testing.T, collector *otlptest.Receiver, p project) {
	text, err := os.ReadFile("own/trace.ts")
	if err != nil {
		t.Fatal(err)
	}
	p.write(t, "trace.ts", string(text))
	p.check(t, "ES2022", []string{"node"}, "trace.ts")
	parts(t, collector, func() string { return string(p.run(t, p.dir, p.m.node(), "trace.ts")) },
		map[string]int{"run": 1, "stream": 1, "files": 1, "pool": 1, "otel": 1, "": 1})
}
