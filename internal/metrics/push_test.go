package metrics_test

import (
	"context"
	"encoding/hex"
	"log/slog"
	"testing"
	"time"

	wire "go.opentelemetry.io/proto/otlp/metrics/v1"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/event"
	"github.com/sandpool/sandpool/internal/metrics"
	"github.com/sandpool/sandpool/internal/otlp"
	"github.com/sandpool/sandpool/internal/otlp/otlptest"
)

// TestPush: a collector gets by OTLP what a scrape would show: counters, gauges, histograms with
// their buckets and exemplars, and summaries; again and again, and once more at the end.
func TestPush(t *testing.T) {
	for name, way := range map[string]func(*otlptest.Receiver, testing.TB) string{
		"grpc": (*otlptest.Receiver).GRPC, "http": (*otlptest.Receiver).HTTP} {
		t.Run(name, func(t *testing.T) {
			r := &otlptest.Receiver{}
			to, err := otlp.New(otlp.Config{Setting: "otlp", Endpoint: way(r, t)})
			if err != nil {
				t.Fatal(err)
			}
			id := sandpool.PoolID{Subscription: "s", ResourceGroup: "g", Name: "python"}
			m, err := metrics.New(slog.New(slog.DiscardHandler), "v1",
				func(context.Context) ([]metrics.Pool, error) {
					return []metrics.Pool{{ID: id, Ready: 2, Refills: 6}}, nil
				})
			if err != nil {
				t.Fatal(err)
			}
			const trace = "0123456789abcdef0123456789abcdef"
			for _, took := range []time.Duration{2 * time.Millisecond, 2 * time.Millisecond,
				40 * time.Millisecond, time.Hour} {
				m.Consume(t.Context(), []event.Event{{Name: event.ExecutionEnded, Pool: id,
					Outcome: "ok", Took: took, Trace: trace}})
			}
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- m.Push(ctx, to, 10*time.Millisecond) }()
			r.Await(t, "metrics", func() bool { return len(r.Metrics()) > 0 })
			m.AuditLost()
			stop()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			checkPushed(t, r.Metrics(), trace)
		})
	}
}

func checkPushed(t *testing.T, got map[string]*wire.Metric, trace string) {
	t.Helper()
	refills := got["sandpool_pool_refills_total"].GetSum()
	if !refills.GetIsMonotonic() || refills.GetAggregationTemporality() !=
		wire.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE ||
		len(refills.GetDataPoints()) != 1 || refills.DataPoints[0].GetAsDouble() != 6 ||
		refills.DataPoints[0].StartTimeUnixNano == 0 ||
		refills.DataPoints[0].Attributes[0].GetValue().GetStringValue() != "python" {
		t.Errorf("refills: %v", refills)
	}
	if lost := got["sandpool_audit_failures_total"].GetSum(); len(lost.GetDataPoints()) != 1 ||
		lost.DataPoints[0].GetAsDouble() != 1 {
		t.Errorf("what happened last was not told: %v", lost)
	}
	if boxes := got["sandpool_pool_sandboxes"].GetGauge(); len(boxes.GetDataPoints()) != 4 {
		t.Errorf("sandboxes: %v", boxes)
	}
	if gc := got["go_gc_duration_seconds"].GetSummary(); len(gc.GetDataPoints()) != 1 ||
		len(gc.DataPoints[0].QuantileValues) == 0 {
		t.Errorf("a summary: %v", gc)
	}
	if got["sandpool_execution_seconds"].GetDescription() == "" {
		t.Error("a metric has no description")
	}
	runs := got["sandpool_execution_seconds"].GetHistogram().GetDataPoints()
	if len(runs) != 1 || runs[0].Count != 4 || runs[0].GetSum() < 3600 ||
		len(runs[0].BucketCounts) != len(runs[0].ExplicitBounds)+1 {
		t.Fatalf("executions: %v", runs)
	}
	counted := uint64(0)
	for i, n := range runs[0].BucketCounts {
		bound := 1e9
		if i < len(runs[0].ExplicitBounds) {
			bound = runs[0].ExplicitBounds[i]
		}
		if want := map[float64]uint64{.0025: 2, .05: 1, 1e9: 1}[bound]; n != want {
			t.Errorf("the bucket up to %v s has %d, want %d", bound, n, want)
		}
		counted += n
	}
	if counted != 4 {
		t.Errorf("the buckets have %d of 4", counted)
	}
	if e := runs[0].Exemplars; len(e) == 0 || hex.EncodeToString(e[0].TraceId) != trace ||
		e[0].TimeUnixNano == 0 {
		t.Errorf("exemplars: %v", e)
	}
}
