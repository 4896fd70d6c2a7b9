package proxy

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// A way is one path from a client to the same server.
type way struct {
	name string
	dial func() (net.Conn, error)
}

// ways are: the stream itself, and through each of three proxies.
func ways(b *testing.B, c *container) []way {
	p := New(Options{})
	b.Cleanup(p.Close)
	mine := front(b, p, c, Target{Port: 8080})
	rp := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: "container"})
			r.SetXForwarded()
		},
		FlushInterval: -1,
		Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return c.Dial(ctx, 8080)
			}},
	}
	std, ngx := startServer(b, rp), nginx(b, c.socket(8080))
	return []way{
		{"bare stream", func() (net.Conn, error) { return c.Dial(context.Background(), 8080) }},
		{"sandpool", func() (net.Conn, error) {
			return net.Dial("tcp", mine.Listener.Addr().String())
		}},
		{"nginx", func() (net.Conn, error) { return net.Dial("tcp", ngx) }},
		{"ReverseProxy", func() (net.Conn, error) { return net.Dial("tcp", std) }},
	}
}

func startServer(b *testing.B, h http.Handler) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	srv := &http.Server{Handler: h}
	go func() { _ = srv.Serve(l) }() // until it is closed
	b.Cleanup(func() { srv.Close() })
	return l.Addr().String()
}

type caller struct {
	conn net.Conn
	r    *bufio.Reader
	ask  []byte
}

func (w way) caller(b *testing.B, ask string) *caller {
	conn, err := w.dial()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	return &caller{conn, bufio.NewReaderSize(conn, 64<<10), []byte(ask)}
}

func (c *caller) call() error {
	if _, err := c.conn.Write(c.ask); err != nil {
		return err
	}
	length := int64(0)
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) <= 2 {
			break
		}
		if v, ok := strings.CutPrefix(string(line), "Content-Length: "); ok {
			if length, err = strconv.ParseInt(strings.TrimSpace(v), 10, 64); err != nil {
				return err
			}
		}
	}
	_, err := io.CopyN(io.Discard, c.r, length)
	return err
}

const askSmall = "GET /hello?identifier=chat-42&x=1 HTTP/1.1\r\nHost: pool.example\r\n" +
	"User-Agent: bench/1\r\nAccept: */*\r\nAuthorization: Bearer x\r\n\r\n"

func small(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"hello":"world"}`)
}

// BenchmarkLatency prints the median round trip of one keep-alive connection, each way in turn.
func BenchmarkLatency(b *testing.B) {
	c := newContainer(b)
	c.serve(8080, http.HandlerFunc(small))
	all := ways(b, c)
	callers := make([]*caller, len(all))
	took := make([][]time.Duration, len(all))
	for i, w := range all {
		callers[i] = w.caller(b, askSmall)
		for range 200 {
			if err := callers[i].call(); err != nil {
				b.Fatal(err)
			}
		}
	}
	for range max(b.N, 200) {
		for i, c := range callers {
			for range 10 {
				t := time.Now()
				if err := c.call(); err != nil {
					b.Fatal(all[i].name, err)
				}
				took[i] = append(took[i], time.Since(t))
			}
		}
	}
	for i, w := range all {
		slices.Sort(took[i])
		b.Logf("%-14s p50 %v p99 %v added %v", w.name, took[i][len(took[i])/2],
			took[i][len(took[i])*99/100], took[i][len(took[i])/2]-took[0][len(took[0])/2])
	}
}

// BenchmarkThroughput prints requests a second with 16 connections.
func BenchmarkThroughput(b *testing.B) {
	c := newContainer(b)
	c.serve(8080, http.HandlerFunc(small))
	all := ways(b, c)
	rates := make([]float64, len(all))
	const rounds = 3
	for range rounds {
		for i, w := range all {
			var wg sync.WaitGroup
			var mu sync.Mutex
			n := 0
			end := time.Now().Add(time.Second)
			for range 16 {
				cl := w.caller(b, askSmall)
				wg.Go(func() {
					k := 0
					for time.Now().Before(end) {
						if err := cl.call(); err != nil {
							b.Error(w.name, err)
							return
						}
						k++
					}
					mu.Lock()
					n += k
					mu.Unlock()
				})
			}
			wg.Wait()
			rates[i] += float64(n) / rounds
		}
	}
	for i, w := range all {
		b.Logf("%-14s %6.0f/s  %.0f %%", w.name, rates[i], 100*rates[i]/rates[0])
	}
}
