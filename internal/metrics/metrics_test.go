package metrics_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
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
				Kind: "PythonLTS", Lag: 4 * time.Second, EgressNames: 5, Read: 4096, Refills: 6,
				SnapshotMade: time.Unix(1_700_000_000, 0),
				Claims: map[sandpool.ClaimOutcome]int64{sandpool.ClaimReady: 7,
					sandpool.ClaimFull: 1}}}, broken
		})
	if err != nil {
		t.Fatal(err)
	}
	m.Consume(t.Context(), []event.Event{
		{Name: event.SessionAllocated, Pool: id, Outcome: "ready", Took: 2 * time.Millisecond,
			Sandbox: "secretive"},
		{Name: event.ExecutionEnded, Pool: id, Outcome: "ok", Took: time.Second,
			Trace: "0123456789abcdef0123456789abcdef"},
		{Name: event.SandboxStarted, Pool: id, Took: 150 * time.Millisecond},
		{Name: event.SessionAnswered, Pool: id, Took: 150 * time.Millisecond},
		{Name: event.SessionQueued, Pool: id, Outcome: "served", Took: 3 * time.Second},
	})
	m.Forwarded("python", "forward", time.Second, "00112233445566778899aabbccddeeff")
	m.Store("claim", time.Millisecond, nil)
	m.Engine("start", time.Second, errors.New("no"))
	m.AuditLost()
	if err := m.Certificates(func() []metrics.Certificate {
		return []metrics.Certificate{{Host: "a.example.com", Start: time.Unix(1_700_000_000, 0),
			End: time.Unix(1_800_000_000, 0)}, {Host: "b.example.com", Failures: 2}}
	}); err != nil {
		t.Fatal(err)
	}
	text := scrape(t, m, "application/openmetrics-text; version=1.0.0")
	for _, want := range []string{
		`sandpool_pool_sandboxes{pool="python",resource_group="g",state="ready",subscription="s"} 2`,
		`sandpool_pool_claims_total{outcome="ready",pool="python",resource_group="g",subscription="s"} 7`,
		"# TYPE sandpool_pool_egress_refused counter",
		`egress_refused_total{kind="name",pool="python",resource_group="g",subscription="s"} 5`,
		`sandpool_pool_failed{pool="python",resource_group="g",subscription="s"} 1`,
		`sandpool_claim_seconds_bucket{outcome="ready",pool="python",le="0.0025"} 1`,
		`sandpool_execution_seconds_count{outcome="ok",pool="python"} 1`,
		`,version="v1"} 1`, `sandpool_pool_refill_lag_seconds{pool="python",resource_group="g",subscription="s"} 4`,
		`sandpool_pool_info{pool="python",resource_group="g",subscription="s",type="PythonLTS"} 1`,
		`sandpool_store_seconds_count{operation="claim",outcome="ok"} 1`,
		`sandpool_pool_refills_total{pool="python",resource_group="g",subscription="s"} 6`,
		`sandpool_pool_read_bytes_total{pool="python",resource_group="g",subscription="s"} 4096`,
		`snapshot_created_timestamp_seconds{pool="python",resource_group="g",subscription="s"} 1.7e+09`,
		"sandpool_audit_failures_total 1",
		`sandpool_certificate_start_timestamp_seconds{host="a.example.com"} 1.7e+09`,
		`sandpool_certificate_expiry_timestamp_seconds{host="a.example.com"} 1.8e+09`,
		`sandpool_certificate_failures_total{host="a.example.com"} 0`,
		`sandpool_certificate_failures_total{host="b.example.com"} 2`,
		`sandpool_engine_seconds_count{operation="start",outcome="error"} 1`,
		`sandpool_queue_wait_seconds_bucket{outcome="served",pool="python",le="5.0"} 1`,
		`sandpool_forward_seconds_count{pool="python",way="forward"} 1`,
		`1 # {trace_id="00112233445566778899aabbccddeeff"} 1.0`,
		`sandpool_first_answer_seconds_count{pool="python"} 1`, "sandpool_up 1", "# EOF",
		`1 # {trace_id="0123456789abcdef0123456789abcdef"} 1.0`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	if strings.Contains(text, `expiry_timestamp_seconds{host="b.example.com"}`) {
		t.Error("a certificate that there is not has an end")
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

// TestRequests: requests are counted by plane and status, and the answer stays what it was.
func TestRequests(t *testing.T) {
	m, err := metrics.New(slog.New(slog.DiscardHandler), "v1",
		func(context.Context) ([]metrics.Pool, error) { return nil, nil })
	if err != nil {
		t.Fatal(err)
	}
	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/none" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		_, _ = io.Copy(w, strings.NewReader("hello"))
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
	})
	for _, asked := range [][2]string{{metrics.Data, "/a"}, {metrics.Data, "/b"},
		{metrics.Dashboard, "/ui/"}, {metrics.Control, "/c"}, {metrics.Control, "/none"}} {
		w := httptest.NewRecorder()
		m.Requests(asked[0], answer).ServeHTTP(w,
			httptest.NewRequest("POST", asked[1], strings.NewReader("1234567")))
		if w.Code == 200 && w.Body.String() != "hello" {
			t.Errorf("%s: %s", asked[1], w.Body)
		}
	}
	text := scrape(t, m, "")
	for _, want := range []string{
		`sandpool_http_request_seconds_count{plane="data",status="2xx"} 2`,
		`sandpool_http_request_seconds_count{plane="control",status="4xx"} 1`,
		`sandpool_http_sent_bytes_total{plane="dashboard"} 5`,
		`sandpool_http_received_bytes_total{plane="data"} 14`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
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
