package tracing

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/reply"
)

// Span is something that took time. A nil *Span is one of a request that is not traced.
type Span struct {
	tracer     *Tracer
	trace      [16]byte
	id, parent [8]byte
	name       string
	kind       int
	start, end time.Time
	attributes []attribute
	failed     string
}

// The kinds of spans, as OTLP numbers them.
const (
	kindInternal = 1
	kindServer   = 2
)

// attribute is a name with a value, a string or an int64.
type attribute struct {
	key   string
	value any
}

type spanKey struct{}

// Of returns the span of the request that ctx belongs to; nil if it is not traced.
func Of(ctx context.Context) *Span {
	s, _ := ctx.Value(spanKey{}).(*Span)
	return s
}

// TraceID is the trace's id in hexadecimal digits; "" for nil.
func (s *Span) TraceID() string {
	if s == nil {
		return ""
	}
	return hex.EncodeToString(s.trace[:])
}

// Text adds an attribute.
func (s *Span) Text(key, value string) {
	if s != nil && value != "" {
		s.attributes = append(s.attributes, attribute{key, value})
	}
}

// Int adds an attribute.
func (s *Span) Int(key string, value int64) {
	if s != nil {
		s.attributes = append(s.attributes, attribute{key, value})
	}
}

// Fail says that what the span is about has failed.
func (s *Span) Fail(why string) {
	if s != nil {
		s.failed = why
	}
}

// Child tells of a part of s that is over, and returns it.
func (s *Span) Child(name string, start time.Time, took time.Duration) *Span {
	if s == nil {
		return nil
	}
	c := &Span{tracer: s.tracer, trace: s.trace, parent: s.id, id: newID(), name: name,
		kind: kindInternal, start: start, end: start.Add(took)}
	return c
}

// Claim tells how the request came to its sandbox, by end: the claim, with the start that it has
// needed and its steps.
func (s *Span) Claim(pool string, id sandpool.SandboxID, c sandpool.Claim, end time.Time) {
	if s == nil {
		return
	}
	s.Text("sandpool.pool", pool)
	s.Text("sandpool.sandbox", string(id))
	if c.Took <= 0 && c.Start <= 0 {
		return
	}
	whole := s.Child("claim", end.Add(-c.Took-c.Start), c.Took+c.Start)
	whole.Text("sandpool.outcome", c.Outcome.String())
	if c.Start > 0 {
		at := end.Add(-c.Start)
		start := whole.Child("start", at, c.Start)
		for _, step := range c.Steps {
			start.Child(step.Name, at, step.Took).End()
			at = at.Add(step.Took)
		}
		start.End()
	}
	whole.End()
}

// Since tells of a part of s that began then and is over now, and how it went.
func (s *Span) Since(name string, began time.Time, err error) {
	if s == nil {
		return
	}
	part := s.Child(name, began, time.Since(began))
	if err != nil {
		part.Fail("error") // its words may hold what is not for a collector
	}
	part.End()
}

// End hands the span over to be sent. Nothing may be added to it afterwards.
func (s *Span) End() {
	if s == nil {
		return
	}
	if s.end.IsZero() {
		s.end = time.Now()
	}
	s.tracer.add(s)
}

// newID is random: ids must differ, and nobody has to be unable to guess them.
func newID() (id [8]byte) {
	for id == [8]byte{} {
		binary.LittleEndian.PutUint64(id[:], rand.Uint64())
	}
	return id
}

// Handler traces the requests that next answers. traceID is the trace that a request belongs to. A
// nil *Tracer returns next itself.
func (t *Tracer) Handler(next http.Handler, traceID func(context.Context) string) http.Handler {
	if t == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := t.begin(r, traceID(r.Context()))
		if s == nil {
			next.ServeHTTP(w, r)
			return
		}
		defer s.End()
		in := r.WithContext(context.WithValue(r.Context(), spanKey{}, s))
		in.Header = r.Header.Clone()
		in.Header.Set("Traceparent", s.traceparent())
		out := reply.Of(w)
		next.ServeHTTP(out, in)
		code := cmp.Or(out.Status, http.StatusOK)
		s.Int("http.response.status_code", int64(code))
		if code >= http.StatusInternalServerError {
			s.Fail(http.StatusText(code))
		}
	})
}

// begin begins the span of a request, if it is to be traced.
func (t *Tracer) begin(r *http.Request, trace string) *Span {
	parent, sampled, said := caller(r.Header.Get("Traceparent"), trace)
	if said && !sampled || !said && rand.Float64() >= t.sample {
		return nil
	}
	method := methodOf(r)
	s := &Span{tracer: t, id: newID(), parent: parent, kind: kindServer, start: time.Now(),
		name: method + " " + operation(r.URL.Path)}
	if n, err := hex.Decode(s.trace[:], []byte(trace)); err != nil || n != len(s.trace) {
		return nil // it has no trace
	}
	s.Text("http.request.method", method)
	return s
}

// methodOf is the method as spans name it: callers can make up others, of any length.
func methodOf(r *http.Request) string {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch,
		http.MethodDelete, http.MethodOptions, http.MethodConnect, http.MethodTrace:
		return r.Method
	}
	return "_OTHER"
}

// operation is what a path ends with, without what names somebody's things.
func operation(path string) string {
	for _, known := range []string{"/executions", "/code/execute", "/python/execute", "/files",
		"/session", "/metadata", "/mcp", "/.management", "/status", "/events", "/history",
		"/providers/Microsoft.App/sessionPools", "/sandpool/tokens", "/ui", "/healthz",
		"/metrics", "/sessionPools"} {
		if strings.Contains(path, known+"/") || strings.HasSuffix(path, known) {
			return known
		}
	}
	return "/"
}

// caller reads a traceparent: the caller's span, and whether it is traced; said is false if there
// is none of the trace.
func caller(text, trace string) (parent [8]byte, sampled, said bool) {
	parts := strings.Split(text, "-")
	if len(parts) < 4 || parts[1] != trace || len(parts[2]) != 16 || len(parts[3]) != 2 {
		return parent, false, false
	}
	var flags [1]byte
	if _, err := hex.Decode(parent[:], []byte(parts[2])); err != nil {
		return [8]byte{}, false, false
	}
	if _, err := hex.Decode(flags[:], []byte(parts[3])); err != nil {
		return [8]byte{}, false, false
	}
	return parent, flags[0]&1 == 1, true
}

// Parent is the traceparent for what is done on behalf of r, whose trace has the given id: the span
// of r if it is traced, or its caller's, or one that says that nothing is traced.
func Parent(r *http.Request, trace string) string {
	if s := Of(r.Context()); s != nil {
		return s.traceparent()
	}
	parent, sampled, said := caller(r.Header.Get("Traceparent"), trace)
	flags := "-00"
	switch {
	case !said:
		parent = newID()
	case sampled:
		flags = "-01"
	}
	return "00-" + trace + "-" + hex.EncodeToString(parent[:]) + flags
}

// traceparent is the span as callers of others name it.
func (s *Span) traceparent() string {
	return "00-" + hex.EncodeToString(s.trace[:]) + "-" + hex.EncodeToString(s.id[:]) + "-01"
}
