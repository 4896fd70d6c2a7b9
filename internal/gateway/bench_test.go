package gateway

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sandpool/sandpool/internal/agent"
)

// BenchmarkExecute compares a call through the HTTP server, the middleware and the
// gateway, with a sandbox that answers at once, with an HTTP server that only
// reads the body and answers. The difference is what the gateway costs.
func BenchmarkExecute(b *testing.B) {
	const body = `{"codeInputType":"Inline","executionType":"Synchronous","code":"1+1","timeoutInSeconds":60}`
	w := newWorld(b, Options{})
	w.returns(agent.ExecuteResult{Outcome: agent.OK, HasValue: true, Text: "2",
		Stdout: strings.Repeat("a line of output\n", 10)})
	answer := w.do("POST", "executions?identifier=abcd", body).body
	bare := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, answer)
	}))
	defer bare.Close()
	for name, url := range map[string]string{"gateway": w.url, "bare": bare.URL} {
		b.Run(name, func(b *testing.B) {
			w := &world{t: b, url: url}
			for b.Loop() {
				if got := w.do("POST", "executions?identifier=abcd", body); got.status != 200 {
					b.Fatal(got.body)
				}
			}
		})
	}
}
