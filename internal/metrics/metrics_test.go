package metrics_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/event"
	"github.com/sandpool/sandpool/internal/metrics"
)

var _ event.Sink = (*metrics.Metrics)(nil)

func scrape(t *testing.T, m *metrics.Metrics, accept string) string {
	t.Helper()
	w, r := httptest.NewRecorder(), httptest.NewRequest("GET", "/metrics", nil)
	r.Header.Set("Accept", accept)
	m.Handler().ServeHTTP(w, r)
	if w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func TestMetrics(t *testing.T) {
	id := sandpool.PoolID{Subscription: "s", ResourceGroup: "g", Name: "python"}
	var broken error
	m, err := metrics.New(slog.New(slog.DiscardHandler), "v1",
		func(context.Context) ([]metrics.Pool, error) {
			return []metrics.Pool{{ID: id, Max: 20, Target: 3, Ready: 2, Starting: 1, Failed: true,
				Claims: map[sandpool.ClaimOutcome]int64{sandpool.ClaimReady: 7,
					sandpool.ClaimFull: 1}}}, broken
		})
	if err != nil {
		t.Fatal(err)
	}
	m.Consume(t.Context(), []event.Event{
		{Name: event.SessionAllocated, Pool: id, Outcome: "ready", Took: 2 * time.Millisecond,
			Sandbox: "secretive"},
		{Name: event.ExecutionEnded, Pool: id, Outcome: "ok", Took: time.Second},
		{Name: event.SandboxStarted, Pool: id, Took: 150 * time.Millisecond},
	})
	text := scrape(t, m, "application/openmetrics-text; version=1.0.0")
	for _, want := range []string{
		`sandpool_pool_sandboxes{pool="python",resource_group="g",state="ready",subscription="s"} 2`,
		`sandpool_pool_claims_total{outcome="ready",pool="python",resource_group="g",subscription="s"} 7`,
		`sandpool_pool_failed{pool="python",resource_group="g",subscription="s"} 1`,
		`sandpool_claim_seconds_bucket{outcome="ready",pool="python",le="0.0025"} 1`,
		`sandpool_execution_seconds_count{outcome="ok",pool="python"} 1`,
		`sandpool_build_info{version="v1"} 1`, "sandpool_up 1", "# EOF",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	if strings.Contains(text, "secretive") {
		t.Error("a metric names a sandbox")
	}
	problems, err := promlint.New(strings.NewReader(scrape(t, m, "text/plain"))).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	broken = errors.New("no")
	if text := scrape(t, m, ""); !strings.Contains(text, "sandpool_up 0") {
		t.Errorf("pools that cannot be read: %s", text)
	}
}

// TestBounds: whatever events say, there are few series, and none of a pool that is gone.
func TestBounds(t *testing.T) {
	m, err := metrics.New(slog.New(slog.DiscardHandler), "v1",
		func(context.Context) ([]metrics.Pool, error) { return nil, nil })
	if err != nil {
		t.Fatal(err)
	}
	id := sandpool.PoolID{Name: "python"}
	for i := range 1000 {
		m.Consume(t.Context(), []event.Event{{Name: event.ExecutionEnded, Pool: id,
			Outcome: fmt.Sprint("outcome ", i)}})
	}
	if n := strings.Count(scrape(t, m, ""), "sandpool_execution_seconds_count"); n != 33 {
		t.Errorf("%d series of executions, want 32 and the others", n)
	}
	m.Consume(t.Context(), []event.Event{{Name: event.PoolDeleted, Pool: id}})
	if strings.Contains(scrape(t, m, ""), `pool="python"`) {
		t.Error("a pool that is gone has series")
	}
}
