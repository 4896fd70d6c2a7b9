package metrics

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// The parts of the API that requests are told apart by.
const (
	planeControl   = "control"
	planeData      = "data"
	planeDashboard = "dashboard"
)

// requests counts the requests of one plane.
type requests struct {
	took     [6]prometheus.Observer // by the first digit of the status
	in, sent prometheus.Counter
}

// planeOf is the part of the API that a request is for, by its path alone.
func planeOf(r *http.Request, own func(*http.Request) bool) string {
	switch path := r.URL.Path; {
	case own(r):
		return planeData
	case strings.HasPrefix(path, "/ui/"):
		return planeDashboard
	case strings.Contains(path, "/sessionPools/") && !strings.Contains(path, "/providers/"):
		return planeData
	}
	return planeControl
}

// Requests counts the requests that next answers; own says whether one came to a host name of a
// pool's own.
func (m *Metrics) Requests(next http.Handler, own func(*http.Request) bool) http.Handler {
	all := map[string]*requests{}
	for _, plane := range []string{planeControl, planeData, planeDashboard} {
		one := &requests{in: m.received.WithLabelValues(plane),
			sent: m.sent.WithLabelValues(plane)}
		for class := 1; class < len(one.took); class++ {
			one.took[class] = m.requests.WithLabelValues(plane, strconv.Itoa(class)+"xx")
		}
		all[plane] = one
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		of := all[planeOf(r, own)]
		counted := &counted{ResponseWriter: w}
		defer func() {
			class := counted.status / 100
			if class < 1 || class > 5 {
				class = 2 // nothing was said, which is 200, or the connection was taken over
			}
			of.took[class].Observe(time.Since(began).Seconds())
			of.sent.Add(float64(counted.bytes))
			if r.ContentLength > 0 {
				of.in.Add(float64(r.ContentLength))
			}
		}()
		next.ServeHTTP(counted, r)
	})
}

// counted is an answer whose bytes are counted.
type counted struct {
	http.ResponseWriter
	status int
	bytes  int64
}

// Unwrap lets a handler flush, set deadlines and take the connection.
func (c *counted) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func (c *counted) WriteHeader(status int) {
	if status >= 200 && c.status == 0 || status == http.StatusSwitchingProtocols {
		c.status = status
	}
	c.ResponseWriter.WriteHeader(status)
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.bytes += int64(n)
	return n, err
}

// ReadFrom implements io.ReaderFrom, with what the server has for it.
func (c *counted) ReadFrom(r io.Reader) (int64, error) {
	n, err := io.Copy(c.ResponseWriter, r)
	c.bytes += n
	return n, err
}
