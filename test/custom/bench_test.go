package custom_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool/internal/oci/ocitest"
)

// How often each start is measured.
const (
	warmStarts = 20
	coldStarts = 5
)

// BenchmarkStarts measures how long a new identifier waits for the first byte of its container's
// answer: warm, with one ready; cold, with none, by boot and by snapshot. live is what the same
// request takes in a session that has begun, on the same connection: the application's own time and
// that of forwarding. Times are in milliseconds; make bench runs it.
func BenchmarkStarts(b *testing.B) {
	k := newKit(b)
	hub := ocitest.NewHub(b)
	hub.TokenAuth("me", "open-sesame")
	for _, a := range applications() {
		hub.Push(a.name+":1.0", a.image(b))
	}
	for _, a := range applications() {
		b.Run(a.name, func(b *testing.B) {
			for range b.N {
				warm, live := k.starts(b, a, hub, "snapshot", 3, warmStarts)
				b.ReportMetric(middle(warm), "warm-p50-ms")
				b.ReportMetric(warm[len(warm)*9/10], "warm-p90-ms")
				b.ReportMetric(middle(live), "live-p50-ms")
				for _, start := range []string{"boot", "snapshot"} {
					cold, _ := k.starts(b, a, hub, start, 0, coldStarts)
					b.ReportMetric(middle(cold), start+"-p50-ms")
				}
			}
			b.ReportMetric(0, "ns/op") // of a whole row, which says nothing
		})
	}
}

func middle(sorted []float64) float64 { return sorted[len(sorted)/2] }

// starts begins n sessions of a pool with so many ready sandboxes, one after the other, and returns
// what each took to the first byte, and to that of its next request, sorted.
func (k *kit) starts(b *testing.B, a application, hub *ocitest.Hub, start string,
	ready, n int) (first, live []float64) {
	b.Helper()
	pool := fmt.Sprintf("%s-%s-%d", a.name, start, ready)
	p := a.pool(hub, start)
	p.Properties.ScaleConfiguration.ReadySessionInstances = &ready
	k.makePool(b, pool, p)
	ask := k.asker(b, a, pool)
	ask("somebody") // the connection and the pages that the first of all touches
	for i := range n {
		if _, err := k.WaitReady(b.Context(), pool, nil); err != nil {
			b.Fatal(err)
		}
		session := fmt.Sprintf("bench-%d", i)
		first = append(first, ask(session))
		live = append(live, ask(session))
		if err := k.DeleteSession(b.Context(), pool, session); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := k.DeletePool(b.Context(), pool); err != nil {
		b.Fatal(err)
	}
	slices.Sort(first)
	slices.Sort(live)
	return first, live
}

// asker returns what sends the smallest request of the application's protocol as a session, and
// says how many milliseconds pass before the first byte of the answer.
func (k *kit) asker(b *testing.B, a application, pool string) func(session string) float64 {
	b.Helper()
	host := strings.TrimPrefix(k.Endpoint(), "http://")
	path := strings.TrimPrefix(k.PoolEndpoint(pool), k.Endpoint())
	if hello := a.hello; hello != "" {
		return func(session string) float64 {
			begin := time.Now()
			c, err := k.Tunnel(b.Context(), pool, session, a.port)
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			if _, err := io.WriteString(c, hello); err != nil {
				b.Fatal(err)
			}
			if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
				b.Fatal(err)
			}
			return millis(time.Since(begin))
		}
	}
	conn, err := net.Dial("tcp", host)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	r := bufio.NewReader(conn)
	return func(session string) float64 {
		begin := time.Now()
		fmt.Fprintf(conn,
			"GET %s/count?identifier=%s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n",
			path, session, host, k.token)
		if _, err := r.Peek(1); err != nil {
			b.Fatal(err)
		}
		took := millis(time.Since(begin))
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode >= 500 {
			b.Fatal(resp.Status, err)
		}
		return took
	}
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
