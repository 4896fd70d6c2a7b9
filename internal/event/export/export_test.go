package export_test

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	wire "go.opentelemetry.io/proto/otlp/logs/v1"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/event"
	"github.com/sandpool/sandpool/internal/event/export"
	"github.com/sandpool/sandpool/internal/otlp"
	"github.com/sandpool/sandpool/internal/otlp/otlptest"
)

const trace = "0123456789abcdef0123456789abcdef"

// TestExport: a collector gets each event once, in order, with all that is known of it.
func TestExport(t *testing.T) {
	for name, way := range map[string]func(*otlptest.Receiver, testing.TB) string{
		"grpc": (*otlptest.Receiver).GRPC, "http": (*otlptest.Receiver).HTTP} {
		t.Run(name, func(t *testing.T) {
			r := &otlptest.Receiver{}
			to, err := otlp.New(otlp.Config{Setting: "otlp", Endpoint: way(r, t)})
			if err != nil {
				t.Fatal(err)
			}
			x := export.New(slog.New(slog.DiscardHandler), to, "v1")
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- x.Run(ctx) }()
			at := time.Unix(1_700_000_000, 5)
			id := sandpool.PoolID{Subscription: "s", ResourceGroup: "g", Name: "python"}
			x.Consume(ctx, []event.Event{
				{Time: at, Name: event.ExecutionEnded, Pool: id, Sandbox: "box", By: "token:x",
					Outcome: "ok", Took: 1500 * time.Millisecond, Trace: trace},
				{Time: at, Name: event.NetworkUnchanged, Pool: id, Message: "a sentence",
					Count: 3, Err: errors.New("a cause"), Trace: "no trace"}})
			r.Await(t, "events", func() bool { return len(r.Records()) == 2 })
			for range 1000 {
				x.Consume(ctx, []event.Event{{Time: at, Name: event.PoolReady}})
			}
			stop()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			got := r.Records()
			if len(got) != 1002 {
				t.Fatalf("%d records came, want 1002", len(got))
			}
			checkRecord(t, got[0], at)
			if bad := got[1]; bad.SeverityNumber != wire.SeverityNumber_SEVERITY_NUMBER_ERROR ||
				len(bad.TraceId) != 0 || texts(bad)["exception.message"] != "a cause" ||
				texts(bad)["sandpool.message"] != "a sentence" {
				t.Errorf("an error is %v", bad)
			}
		})
	}
}

func checkRecord(t *testing.T, r *wire.LogRecord, at time.Time) {
	t.Helper()
	if r.EventName != "ExecutionEnded" || r.TimeUnixNano != uint64(at.UnixNano()) ||
		r.Body.GetStringValue() != "an execution ended" || hex.EncodeToString(r.TraceId) != trace ||
		r.SeverityNumber != wire.SeverityNumber_SEVERITY_NUMBER_DEBUG {
		t.Errorf("the record is %v", r)
	}
	for key, want := range map[string]string{"sandpool.pool": "python", "sandpool.sandbox": "box",
		"sandpool.by": "token:x", "sandpool.outcome": "ok",
		"sandpool.stream": "AppEnvSessionLifecycleLogs"} {
		if got := texts(r)[key]; got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	for _, a := range r.Attributes {
		if a.Key == "sandpool.took_seconds" && a.Value.GetDoubleValue() != 1.5 {
			t.Errorf("it took %v", a.Value)
		}
	}
}

func texts(r *wire.LogRecord) map[string]string {
	all := map[string]string{}
	for _, a := range r.Attributes {
		all[a.Key] = a.Value.GetStringValue()
	}
	return all
}

// TestAway: a collector that does not answer holds nobody up, and the log says what is lost.
func TestAway(t *testing.T) {
	var said strings.Builder
	to, err := otlp.New(otlp.Config{Setting: "otlp", Endpoint: "http://key@127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	x := export.New(slog.New(slog.NewTextHandler(&said, nil)), to, "v1")
	events := make([]event.Event, 10_000)
	for i := range events {
		events[i] = event.Event{Name: event.PoolReady}
	}
	x.Consume(t.Context(), events) // nobody takes them
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := x.Run(ctx); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"events=1808", "could not be sent"} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("the log has no %s: %s", want, said.String())
		}
	}
	if strings.Contains(said.String(), "key@") {
		t.Errorf("the log has the collector's password: %s", said.String())
	}
}

// TestEndOfServer: a batch that is under way when the server ends arrives, though the collector
// takes its time.
func TestEndOfServer(t *testing.T) {
	came, answer := make(chan struct{}, 1), make(chan struct{})
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		came <- struct{}{}
		select {
		case <-answer:
			w.WriteHeader(http.StatusOK)
		case <-r.Context().Done():
		}
	}))
	defer collector.Close()
	to, err := otlp.New(otlp.Config{Setting: "otlp", Endpoint: collector.URL})
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	x := export.New(slog.New(slog.NewTextHandler(&log, nil)), to, "v1")
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- x.Run(ctx) }()
	x.Consume(ctx, make([]event.Event, 600)) // more than one batch
	<-came
	stop()
	answer <- struct{}{}
	<-came // what was left
	answer <- struct{}{}
	if err := <-ended; err != nil || log.Len() > 0 {
		t.Errorf("%v\n%s", err, log.String())
	}
}
