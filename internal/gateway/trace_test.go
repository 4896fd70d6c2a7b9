package gateway

import (
	"context"
	"strings"
	"testing"

	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/interpreter"
)

// TestTraceparent: code and processes find the trace of their request if the request says so, as
// its caller has begun it and no other way.
func TestTraceparent(t *testing.T) {
	const trace, span = "0af7651916cd43dd8448eb211c80319c", "00f067aa0ba902b7"
	const parent = "00-" + trace + "-" + span
	w := newWorld(t, Options{})
	var env map[string]string
	w.execute = func(_ context.Context, _ *lease, r agent.ExecuteRequest) (agent.ExecuteResult,
		error) {
		env = r.Env
		return agent.ExecuteResult{Outcome: agent.OK}, nil
	}
	for _, tt := range []struct {
		name, body  string
		headers     []string
		want, state string // of TRACEPARENT and TRACESTATE; "?" is one that the server has begun
	}{
		{"not asked", `{"code":"1"}`, []string{"Traceparent", parent + "-01"}, "", ""},
		{"sampled", `{"code":"1","traceparent":true}`, []string{"Traceparent", parent + "-01",
			"Tracestate", "a=b,c=d"}, parent + "-01", "a=b,c=d"},
		{"not sampled", `{"code":"1","traceparent":true}`,
			[]string{"Traceparent", parent + "-00"}, parent + "-00", ""},
		{"by nobody", `{"code":"1","traceparent":true}`, nil, "?", ""},
		{"no trace", `{"code":"1","traceparent":true}`,
			[]string{"Traceparent", "00-" + strings.Repeat("0", 32) + "-" + span + "-01"}, "?", ""},
		{"a long state", `{"code":"1","traceparent":true}`, []string{"Traceparent", parent + "-01",
			"Tracestate", "a=" + strings.Repeat("x", 600)}, parent + "-01", ""},
		{"one of its own", `{"code":"1","traceparent":true,"env":{"TRACEPARENT":"mine"}}`,
			[]string{"Traceparent", parent + "-01"}, "mine", ""},
	} {
		env = nil
		got := w.do("POST", "executions?identifier=abcd", tt.body, tt.headers...)
		if got.status != 200 {
			t.Errorf("%s: %d %s", tt.name, got.status, got.body)
		}
		told := env["TRACEPARENT"]
		if id := got.header.Get("X-Ms-Request-Id"); tt.want == "?" && len(told) == 55 &&
			strings.HasPrefix(told, "00-"+id+"-") && strings.HasSuffix(told, "-00") &&
			!strings.Contains(told, span) {
			told = "?"
		}
		if told != tt.want || env["TRACESTATE"] != tt.state {
			t.Errorf("%s: the code finds %q", tt.name, env)
		}
	}
	b := &busy{}
	w = newWorldOf(t, Options{}, func(l interpreter.Session) interpreter.Agent {
		b.fakeAgent = fakeAgent{w: l.(*lease).w, l: l.(*lease)}
		return b
	})
	got := w.do("POST", "processes?identifier=abcd",
		`{"id":"p","command":["a"],"traceparent":true}`, "Traceparent", parent+"-01")
	if got.status != 201 || b.req.Env["TRACEPARENT"] != parent+"-01" {
		t.Errorf("a process: %d, %q", got.status, b.req.Env)
	}
}
