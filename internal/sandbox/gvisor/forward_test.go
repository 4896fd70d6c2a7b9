package gvisor

import (
	"bufio"
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/proxy"
	"github.com/sandpool/sandpool/internal/quiet"
	"github.com/sandpool/sandpool/internal/sandbox"
)

// held is a sandbox as the proxy sees it.
type held struct {
	e   *Engine
	h   sandbox.Handle
	ctx context.Context
}

func (s held) Sandbox() sandpool.Sandbox { return sandpool.Sandbox{ID: s.h.ID} }
func (s held) Context() context.Context  { return s.ctx }
func (s held) Dial(ctx context.Context, port int) (net.Conn, error) {
	return s.e.Dial(ctx, s.h, port)
}

// A forwardWay is one way from a client to the server in a sandbox.
type forwardWay struct {
	name string
	dial func() (net.Conn, error)
}

// forwardWays are the bare stream, the proxy of ours behind what every request passes, and the
// standard library's.
func forwardWays(b *testing.B) []forwardWay {
	e := open(b)
	s := held{e, start(b, e, prepare(b, e, template(b, sandbox.Boot)), "forward"), b.Context()}
	p := proxy.New(proxy.Options{})
	b.Cleanup(p.Close)
	respond := &arm.Responder{Log: slog.New(slog.DiscardHandler)}
	ours := arm.Trace(respond.Handle(func(w http.ResponseWriter, r *http.Request) error {
		q, err := proxy.Check(w, r, proxy.Target{Port: 8080, Path: proxy.RawPath(r)})
		if err != nil {
			return err
		}
		return p.Serve(q, s)
	}))
	std := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: "x"})
			r.SetXForwarded()
		},
		Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return s.Dial(ctx, 8080)
			}},
	}
	listen := func(h http.Handler) func() (net.Conn, error) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		srv := &http.Server{Handler: h}
		//nolint:errcheck // it ends with the test
		go srv.Serve(quiet.Listener{TCPListener: l.(*net.TCPListener)})
		b.Cleanup(func() { _ = srv.Close() })
		return func() (net.Conn, error) { return net.Dial("tcp", l.Addr().String()) }
	}
	return []forwardWay{
		{"bare stream", func() (net.Conn, error) { return s.Dial(b.Context(), 8080) }},
		{"sandpool", listen(ours)},
		{"ReverseProxy", listen(std)},
	}
}

// A forwardClient asks for the same again and again on one connection.
type forwardClient struct {
	conn net.Conn
	r    *bufio.Reader
}

func (w forwardWay) client(b *testing.B) *forwardClient {
	conn, err := w.dial()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	return &forwardClient{conn, bufio.NewReader(conn)}
}

func (c *forwardClient) ask() error {
	if _, err := io.WriteString(c.conn, "GET /ready?identifier=chat-42 HTTP/1.1\r\nHost: x\r\n"+
		"User-Agent: bench\r\nAuthorization: Bearer x\r\n\r\n"); err != nil {
		return err
	}
	for length := 0; ; {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if v, ok := strings.CutPrefix(string(line), "Content-Length: "); ok {
			_, _ = fmt.Sscan(v, &length)
		}
		if len(line) == 2 {
			_, err := c.r.Discard(length)
			return err
		}
	}
}

// BenchmarkForward prints what a forwarded request costs beyond the bare stream to the same server
// in a sandbox: the median on one connection, and requests a second on 16, each way in turn.
func BenchmarkForward(b *testing.B) {
	ways := forwardWays(b)
	took := make([][]time.Duration, len(ways))
	rates := make([]float64, len(ways))
	const rounds = 5
	for range rounds {
		for i, w := range ways {
			c := w.client(b)
			for range 500 {
				begin := time.Now()
				if err := c.ask(); err != nil {
					b.Fatal(w.name, err)
				}
				took[i] = append(took[i], time.Since(begin))
			}
			var all sync.WaitGroup
			var n atomic.Int64
			end := time.Now().Add(time.Second)
			for range 16 {
				c := w.client(b)
				all.Go(func() {
					for time.Now().Before(end) {
						if err := c.ask(); err != nil {
							b.Error(w.name, err)
							return
						}
						n.Add(1)
					}
				})
			}
			all.Wait()
			rates[i] += float64(n.Load()) / rounds
		}
	}
	for i, w := range ways {
		slices.Sort(took[i])
		mid := func(t []time.Duration) time.Duration { return t[len(t)/2].Round(time.Microsecond) }
		b.Logf("%-14s p50 %v (+%v)   16 connections: %5.0f/s (%.0f %%)", w.name, mid(took[i]),
			mid(took[i])-mid(took[0]), rates[i], 100*rates[i]/rates[0])
	}
}

// BenchmarkForwardBulk prints megabytes a second through an echo, up and down at once.
func BenchmarkForwardBulk(b *testing.B) {
	ways := forwardWays(b)
	const size = 256 << 20
	for range 2 {
		for _, w := range ways {
			client := http.Client{Transport: &http.Transport{DialContext: func(context.Context,
				string, string) (net.Conn, error) {
				return w.dial()
			}}}
			begin := time.Now()
			req, _ := http.NewRequestWithContext(b.Context(), http.MethodPost, "http://x/echo",
				io.LimitReader(zeros{}, size))
			resp, err := client.Do(req)
			if err != nil {
				b.Fatal(err)
			}
			n, err := io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			b.Logf("%-14s %4.0f MB/s, %v", w.name, float64(n)/1e6/time.Since(begin).Seconds(), err)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// TestForward: a body goes into a real sandbox and comes back whole, and a tunnel's two directions
// end apart.
func TestForward(t *testing.T) {
	e := open(t)
	s := held{e, start(t, e, prepare(t, e, template(t, sandbox.Boot)), "forwarded"), t.Context()}
	p := proxy.New(proxy.Options{})
	t.Cleanup(p.Close)
	respond := &arm.Responder{Log: slog.New(slog.DiscardHandler)}
	srv := httptest.NewServer(respond.Handle(func(w http.ResponseWriter, r *http.Request) error {
		to := proxy.Target{Port: 8080, Path: proxy.RawPath(r)}
		q, err := proxy.Check(w, r, to)
		if r.Header.Get("Upgrade") != "" {
			q, err = proxy.CheckTunnel(w, r, to, "")
		}
		if err != nil {
			return err
		}
		return p.Serve(q, s)
	}))
	t.Cleanup(srv.Close)

	const size = 64 << 20
	sent, got := crc32.NewIEEE(), crc32.NewIEEE()
	source := rand.NewChaCha8([32]byte{1})
	resp, err := http.Post(srv.URL+"/echo", "text/plain", io.TeeReader(io.LimitReader(source, size),
		sent))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if n, err := io.Copy(got, resp.Body); err != nil || n != size || got.Sum32() != sent.Sum32() {
		t.Errorf("%d of %d bytes came back, %v", n, size, err)
	}

	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	_, _ = io.WriteString(conn,
		"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
	r := bufio.NewReader(conn)
	if resp, err := http.ReadResponse(r, nil); err != nil ||
		resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(resp, err)
	}
	_, _ = io.WriteString(conn, "POST /echo HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello")
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if all, err := io.ReadAll(r); err != nil || !strings.HasSuffix(string(all), "\r\n\r\nhello") {
		t.Errorf("after the half-close: %q, %v", all, err)
	}
}
