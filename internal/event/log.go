package event

import (
	"context"
	"log/slog"
)

// Log returns a Sink that writes events to the server's log, at their levels.
func Log(log *slog.Logger) Sink { return logSink{log} }

type logSink struct{ log *slog.Logger }

// Consume implements Sink.
func (s logSink) Consume(ctx context.Context, events []Event) {
	for _, e := range events {
		level := [...]slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn,
			slog.LevelError}[e.Name.Level()]
		if !s.log.Enabled(ctx, level) {
			continue
		}
		r := slog.NewRecord(e.Time, level, e.Name.Text(), 0)
		r.AddAttrs(slog.String("event", string(e.Name)))
		r.AddAttrs(attrs(e)...)
		_ = s.log.Handler().Handle(ctx, r) // a log that cannot be written has nowhere to say so
	}
}

// attrs are the fields of e that say something.
func attrs(e Event) []slog.Attr {
	var out []slog.Attr
	text := func(key, value string) {
		if value != "" {
			out = append(out, slog.String(key, value))
		}
	}
	if e.Pool.Name != "" {
		text("pool", e.Pool.ResourceGroup+"/"+e.Pool.Name)
	}
	text("sandbox", string(e.Sandbox))
	text("by", e.By)
	text("trace", e.Trace)
	text("outcome", e.Outcome)
	text("message", e.Message)
	if e.Took != 0 {
		out = append(out, slog.Duration("took", e.Took))
	}
	if e.Count != 0 {
		out = append(out, slog.Int64("count", e.Count))
	}
	if !e.Retry.IsZero() {
		out = append(out, slog.Time("retry", e.Retry))
	}
	if e.Err != nil {
		text("error", e.Err.Error())
	}
	return out
}
