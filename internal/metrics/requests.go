package metrics

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sandpool/sandpool/internal/reply"
	"github.com/sandpool/sandpool/internal/tracing"
)

// The parts of the API that requests are told apart by.
const (
	Control   = "control"
	Data      = "data"
	Dashboard = "dashboard"
)

// Requests counts the requests that next answers, which are for the given part of the API.
func (m *Metrics) Requests(plane string, next http.Handler) http.Handler {
	in, sent := m.received.WithLabelValues(plane), m.sent.WithLabelValues(plane)
	var took [6]prometheus.Observer // by the first digit of the status
	for class := 1; class < len(took); class++ {
		took[class] = m.requests.WithLabelValues(plane, strconv.Itoa(class)+"xx")
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		out := reply.Of(w)
		defer func() {
			class := out.Status / 100
			if class < 1 || class > 5 {
				class = 2 // nothing was said, which is 200, or the connection was taken over
			}
			observe(took[class], time.Since(began), tracing.Of(r.Context()).TraceID())
			sent.Add(float64(out.Bytes))
			if r.ContentLength > 0 {
				in.Add(float64(r.ContentLength))
			}
		}()
		next.ServeHTTP(out, r)
	})
}
