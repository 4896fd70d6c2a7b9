package tracing

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// The bounds of what waits to be sent.
const (
	maxWaiting = 4096
	maxBatch   = 512
	batchTime  = 2 * time.Second
	sendTime   = 10 * time.Second
	lastTime   = 3 * time.Second // for what is left when the server ends
)

// grpcPath is the method of a collector that takes spans.
const grpcPath = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"

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
	url     string
	grpc    bool
	header  http.Header
	sample  float64
	version string
	http    *http.Client
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
	u, err := url.Parse(c.Endpoint)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("traces.endpoint is %q; use a URL such as http://localhost:4318 "+
			"or grpc://localhost:4317", c.Endpoint)
	}
	if !(c.Sample >= 0 && c.Sample <= 1) { // also what is no number
		return nil, fmt.Errorf("traces.sample is %v; use 0 to 1", c.Sample)
	}
	t := &Tracer{log: log, sample: c.Sample, version: c.Version, header: http.Header{},
		waiting: make(chan *Span, maxWaiting)}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, IdleConnTimeout: time.Minute}
	switch u.Scheme {
	case "http", "https":
		if strings.Trim(u.Path, "/") == "" {
			u.Path = "/v1/traces"
		}
		t.header.Set("Content-Type", "application/x-protobuf")
	case "grpc", "grpcs":
		t.grpc = true
		u.Scheme, u.Path = "http"+strings.TrimPrefix(u.Scheme, "grpc"), grpcPath
		transport.Protocols = new(http.Protocols)
		transport.Protocols.SetHTTP2(u.Scheme == "https")
		transport.Protocols.SetUnencryptedHTTP2(u.Scheme == "http")
		t.header.Set("Content-Type", "application/grpc")
		t.header.Set("Te", "trailers")
	default:
		return nil, fmt.Errorf("traces.endpoint is %q; begin it with http://, https://, grpc:// "+
			"or grpcs://", c.Endpoint)
	}
	for _, line := range c.Headers {
		name, value, ok := strings.Cut(line, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("traces.headers: each is NAME=VALUE, but one is not")
		}
		t.header.Add(name, value)
	}
	t.url, t.http = u.String(), &http.Client{Transport: transport, Timeout: sendTime}
	return t, nil
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
	defer t.http.CloseIdleConnections()
	tick := time.NewTicker(batchTime)
	defer tick.Stop()
	var batch []*Span
	send := func(ctx context.Context) {
		if len(batch) == 0 {
			return
		}
		if err := t.send(ctx, batch); err != nil {
			t.log.Warn("spans could not be sent to the collector", "spans", len(batch), "error",
				err)
		}
		batch = nil
	}
	for {
		select {
		case s := <-t.waiting:
			if batch = append(batch, s); len(batch) >= maxBatch {
				send(ctx)
			}
		case <-tick.C:
			send(ctx)
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastTime)
			defer cancel()
			for len(t.waiting) > 0 && len(batch) < maxWaiting {
				batch = append(batch, <-t.waiting)
			}
			send(last)
			return nil
		}
	}
}

// send sends spans once: a collector that is away is not waited for.
func (t *Tracer) send(ctx context.Context, spans []*Span) error {
	body := encode("sandpool", t.version, spans)
	if t.grpc { // one message, not compressed
		frame := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(body)))
		body = append(frame, body...)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header = t.header.Clone()
	res, err := t.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }() // it is read
	answer, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("the collector says %s: %.200q", res.Status, answer)
	}
	if code := res.Trailer.Get("Grpc-Status") + res.Header.Get("Grpc-Status"); t.grpc &&
		code != "0" {
		return fmt.Errorf("the collector says gRPC status %q: %q", code,
			res.Trailer.Get("Grpc-Message")+res.Header.Get("Grpc-Message"))
	}
	return nil
}
