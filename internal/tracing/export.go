package tracing

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/sandpool/sandpool/internal/otlp"
)

// The bounds of what waits to be sent.
const (
	maxWaiting = 4096
	maxBatch   = 512
	batchTime  = 2 * time.Second
	lastTime   = 3 * time.Second // for what is left or under way when the server ends
)

// Config says where spans go.
type Config struct {
	// Endpoint is the collector: http://HOST:4318 or https://… for OTLP over HTTP, grpc://HOST:4317
	// or grpcs://… for gRPC. Empty means that nothing is traced.
	Endpoint string
	// Sample is the part of the requests that is traced whose callers do not say, 0 to 1.
	Sample float64
	// Headers are sent with every call, each as NAME=VALUE.
	Headers []string
	// Version is the program's.
	Version string
}

// Tracer sends spans. A nil *Tracer traces nothing.
type Tracer struct {
	log     *slog.Logger
	to      *otlp.Client
	sample  float64
	version string
	waiting chan *Span
}

// Validate says what is wrong with the configuration; nil if nothing is.
func (c Config) Validate() error {
	_, err := New(slog.New(slog.DiscardHandler), c)
	return err
}

// New returns a Tracer, or nil if nothing is to be traced.
func New(log *slog.Logger, c Config) (*Tracer, error) {
	if c.Endpoint == "" {
		return nil, nil
	}
	if !(c.Sample >= 0 && c.Sample <= 1) { // also what is no number
		return nil, fmt.Errorf("traces.sample is %v; use 0 to 1", c.Sample)
	}
	to, err := otlp.New(otlp.Config{Setting: "traces", Endpoint: c.Endpoint, Whole: true,
		Headers: c.Headers})
	if err != nil {
		return nil, err
	}
	return &Tracer{log: log, to: to, sample: c.Sample, version: c.Version,
		waiting: make(chan *Span, maxWaiting)}, nil
}

// add hands a span over; one for which there is no room is lost, so that nothing ever waits.
func (t *Tracer) add(s *Span) {
	select {
	case t.waiting <- s:
	default:
	}
}

// Run sends spans until ctx ends, and then those that are left. A nil *Tracer returns at once.
func (t *Tracer) Run(ctx context.Context) error {
	if t == nil {
		return nil
	}
	defer t.to.CloseIdle()
	tick := time.NewTicker(batchTime)
	defer tick.Stop()
	sending, cancel := otlp.Outlive(ctx, lastTime)
	defer cancel()
	var batch []*Span
	send := func() {
		if len(batch) == 0 {
			return
		}
		if err := t.send(sending, batch); err != nil {
			t.log.Warn("spans could not be sent to the collector", "spans", len(batch), "error",
				err)
		}
		batch = nil
	}
	for {
		select {
		case s := <-t.waiting:
			if batch = append(batch, s); len(batch) >= maxBatch {
				send()
			}
		case <-tick.C:
			send()
		case <-ctx.Done():
			for len(t.waiting) > 0 && len(batch) < maxWaiting {
				batch = append(batch, <-t.waiting)
			}
			send()
			return nil
		}
	}
}

// send sends spans once.
func (t *Tracer) send(ctx context.Context, spans []*Span) error {
	return t.to.Send(ctx, otlp.Traces, otlp.Request(t.version, func(scoped *otlp.Message) {
		for _, s := range spans {
			scoped.Bytes(2, s.encode())
		}
	}))
}

// encode is the Span of s (opentelemetry/proto/trace/v1).
func (s *Span) encode() []byte {
	var m otlp.Message
	m.Bytes(1, s.trace[:])
	m.Bytes(2, s.id[:])
	if s.parent != [8]byte{} {
		m.Bytes(4, s.parent[:])
	}
	m.Text(5, s.name)
	m.Uint(6, uint64(s.kind))
	m.Time(7, s.start)
	m.Time(8, s.end)
	for _, a := range s.attributes {
		m.Attribute(9, a.key, a.value)
	}
	if s.failed != "" {
		var status otlp.Message
		status.Text(2, s.failed)
		status.Uint(3, 2) // STATUS_CODE_ERROR
		m.Bytes(15, status)
	}
	m.Fixed32(16, 1) // sampled
	return m
}
