package local

import (
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/sandpool/sandpool/internal/server"
)

func TestRedact(t *testing.T) {
	for _, text := range []string{"sp_S3CRETS3CRET", "key spk_S3CRETS3CRET.",
		"store: postgres://sandpool:S3CRET@db.example/x", "Authorization: Bearer S3CRET",
		`{"password": "S3CRET", "a": 1}`, "registry_token=S3CRET", `"client-secret":"S3CRET"`,
		`{"password": "two \"S3CRET, words"}`, "password='two S3CRET'", "https://S3CRET@host/x",
		"postgres://sandpool:a@S3CRET@db/x", "http://joe:it'S3CRET@proxy:3128", "x-api-key: S3CRET", "Basic S3CRET",
		"a token eyJhbGciOiJSUzI1NiJ9.eyJS3CRET.S3CRET ended"} {
		got := string(redact([]byte(text)))
		if strings.Contains(got, "S3CRET") || !strings.Contains(got, "REDACTED") {
			t.Errorf("%s becomes %s", text, got)
		}
	}
	const plain = "listen: 127.0.0.1:8720\nsandpool_up 1\ngoroutine 1 [running]:\n"
	if got := string(redact([]byte(plain))); got != plain {
		t.Errorf("what is not secret becomes %s", got)
	}
}

// TestConfiguration: what a configuration holds of secrets is not in what is sent to others,
// whatever its form.
func TestConfiguration(t *testing.T) {
	cfg := server.DefaultConfig()
	cfg.Store = "postgres://sandpool:S3CRET@db.example/x?sslkey=S3CRET"
	cfg.Traces = server.Traces{Endpoint: "https://S3CRET@collector.example",
		Headers: []string{"x-honeycomb-team=S3CRET", "Authorization=Splunk S3CRET", "S3CRE=S3CRET"}}
	cfg.OTLP = server.OTLP{Endpoint: "https://S3CRET@metrics.example", Headers: []string{
		"api-key=S3CRET"}}
	cfg.Network.UpstreamProxy = "http://joe:it'S3CRET@proxy.example:3128"
	cfg.StoreKey.Command = []string{"vault", "--password=S3CRET"}
	text, err := yaml.Marshal(forOthers(cfg))
	if err != nil || strings.Contains(string(text), "S3CRET") ||
		!strings.Contains(string(text), "db.example") ||
		!strings.Contains(string(text), "proxy.example:3128") ||
		!strings.Contains(string(text), "x-honeycomb-team=") {
		t.Errorf("%v\n%s", err, text)
	}
	if len(cfg.Traces.Headers[0]) < 20 || cfg.StoreKey.Command[1] == redacted {
		t.Error("the configuration itself is changed")
	}
}
