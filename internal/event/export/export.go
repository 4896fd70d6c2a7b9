// Package export sends events to a collector of OpenTelemetry, as records of its logs.
package export

import (
	"context"
	"encoding/hex"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/sandpool/sandpool/internal/event"
	"github.com/sandpool/sandpool/internal/otlp"
)

// The bounds of what waits to be sent.
const (
	maxWaiting = 8192
	maxBatch   = 512
	batchTime  = 2 * time.Second
	lastTime   = 3 * time.Second // for what is left or under way when the server ends
)

// Export is a Sink that sends events. Use New.
type Export struct {
	log     *slog.Logger
	to      *otlp.Client
	version string
	waiting chan event.Event
	lost    atomic.Int64
}

var _ event.Sink = (*Export)(nil)

// New returns an Export to a collector. version is the program's.
func New(log *slog.Logger, to *otlp.Client, version string) *Export {
	return &Export{log: log, to: to, version: version, waiting: make(chan event.Event, maxWaiting)}
}

// Consume implements event.Sink. Events for which there is no room are lost, so that no other sink
// waits for the collector.
func (x *Export) Consume(_ context.Context, events []event.Event) {
	for _, e := range events {
		select {
		case x.waiting <- e:
		default:
			x.lost.Add(1)
		}
	}
}

// Run sends events until ctx ends, and then those that are left. A nil *Export returns at once.
func (x *Export) Run(ctx context.Context) error {
	if x == nil {
		return nil
	}
	defer x.to.CloseIdle()
	tick := time.NewTicker(batchTime)
	defer tick.Stop()
	sending, cancel := otlp.Outlive(ctx, lastTime)
	defer cancel()
	var batch []event.Event
	for {
		select {
		case e := <-x.waiting:
			if batch = append(batch, e); len(batch) >= maxBatch {
				batch = x.send(sending, batch)
			}
		case <-tick.C:
			batch = x.send(sending, batch)
		case <-ctx.Done():
			for len(x.waiting) > 0 {
				batch = append(batch, <-x.waiting)
			}
			x.send(sending, batch)
			return nil
		}
	}
}

// send sends events once, and returns an empty batch.
func (x *Export) send(ctx context.Context, batch []event.Event) []event.Event {
	if n := x.lost.Swap(0); n > 0 {
		x.log.Warn("events came faster than the collector takes them", "events", n)
	}
	if len(batch) == 0 {
		return batch
	}
	if err := x.to.Send(ctx, otlp.Logs, otlp.Request(x.version, func(scoped *otlp.Message) {
		for _, e := range batch {
			scoped.Bytes(2, record(e))
		}
	})); err != nil {
		x.log.Warn("events could not be sent to the collector", "events", len(batch), "error", err)
	}
	clear(batch)
	return batch[:0]
}

// record is the LogRecord of an event (opentelemetry/proto/logs/v1).
func record(e event.Event) otlp.Message {
	var m otlp.Message
	m.Time(1, e.Time)
	m.Uint(2, [...]uint64{5, 9, 13, 17}[e.Name.Level()]) // SeverityNumber
	m.Text(3, e.Name.Level().String())
	m.AnyText(5, e.Name.Text())
	text := func(key, value string) {
		if value != "" {
			m.Attribute(6, key, value)
		}
	}
	text("sandpool.stream", string(e.Name.Stream()))
	text("sandpool.pool", e.Pool.Name)
	text("sandpool.resource_group", e.Pool.ResourceGroup)
	text("sandpool.subscription", e.Pool.Subscription)
	text("sandpool.sandbox", string(e.Sandbox))
	text("sandpool.by", e.By)
	text("sandpool.outcome", e.Outcome)
	text("sandpool.message", e.Message)
	if e.Took != 0 {
		m.Attribute(6, "sandpool.took_seconds", e.Took.Seconds())
	}
	if e.Count != 0 {
		m.Attribute(6, "sandpool.count", e.Count)
	}
	if !e.Retry.IsZero() {
		text("sandpool.retry", e.Retry.UTC().Format(time.RFC3339))
	}
	if e.Err != nil {
		text("exception.message", e.Err.Error())
	}
	if id, err := hex.DecodeString(e.Trace); err == nil && len(id) == 16 {
		m.Bytes(9, id)
	}
	m.Time(11, e.Time)
	m.Text(12, string(e.Name))
	return m
}
