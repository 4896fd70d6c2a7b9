package proxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/sandpool/sandpool"
)

// echo answers each message with itself, compressed if the client can read that.
func echo(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"chat"},
		CompressionMode: websocket.CompressionNoContextTakeover})
	if err != nil {
		return
	}
	defer func() { _ = c.CloseNow() }()
	c.SetReadLimit(64 << 20)
	for {
		kind, p, err := c.Read(r.Context())
		if err != nil || c.Write(r.Context(), kind, p) != nil {
			return
		}
	}
}

func TestWebSocket(t *testing.T) {
	srv, c := newFront(t, http.HandlerFunc(echo))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	ws, resp, err := websocket.Dial(ctx, srv.URL+"/chat?room=1",
		&websocket.DialOptions{Subprotocols: []string{"chat"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ws.CloseNow() }()
	if ws.Subprotocol() != "chat" || resp.Header.Get("X-Ms-Request-Id") == "" {
		t.Errorf("%+v", resp.Header)
	}
	ws.SetReadLimit(64 << 20)
	for _, size := range []int{0, 1, 125, 126, 65535, 65536, 16 << 20} {
		want := bytes.Repeat([]byte("x"), size)
		if err := ws.Write(ctx, websocket.MessageBinary, want); err != nil {
			t.Fatal(err)
		}
		if _, got, err := ws.Read(ctx); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes: %d, %v", size, len(got), err)
		}
	}
	// The session's end ends it.
	c.end("the session was deleted")
	if _, _, err := ws.Read(ctx); err == nil || ctx.Err() != nil {
		t.Errorf("after the end: %v", err)
	}
}

// A container's refusal of an upgrade is an answer like any other, and what the caller has sent too
// early is its next request, never bytes for the container.
func TestUpgradeRefused(t *testing.T) {
	var paths []string
	srv, _ := newFront(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		paths = append(paths, r.URL.Path)
		w.WriteHeader(http.StatusForbidden)
	}))
	got := ask(t, srv.Listener.Addr().String(), "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: "+
		"Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 777\r\n\r\n"+
		"GET /second HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	if strings.Count(got, "HTTP/1.1 403") != 2 || fmt.Sprint(paths) != "[/ws /second]" {
		t.Errorf("%v, %q", paths, got)
	}
}

// A container cannot change to another protocol than the one asked for.
func TestUpgradeToAnother(t *testing.T) {
	c := newContainer(t)
	c.answers(8080,
		"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
	p := New(Options{})
	t.Cleanup(p.Close)
	srv := front(t, p, c, Target{Port: 8080})
	got := ask(t, srv.Listener.Addr().String(),
		"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n")
	if !strings.HasPrefix(got, "HTTP/1.1 502 ") {
		t.Errorf("%q", got)
	}
}

// tunnelFront is a front whose requests all are for tunnels.
func tunnelFront(t *testing.T, p *Proxy, to Session, target Target) string {
	t.Helper()
	return serveFunc(t, func(w http.ResponseWriter, r *http.Request) error {
		q, err := CheckTunnel(w, r, target, r.URL.Query().Get("port"))
		if err != nil {
			return err
		}
		return p.Serve(q, to)
	}).Listener.Addr().String()
}

// openTunnel opens one by Upgrade: tcp.
func openTunnel(t *testing.T, addr, port string) (net.Conn, *http.Response) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	fmt.Fprintf(conn, "GET /.management/tunnel?port=%s HTTP/1.1\r\nHost: x\r\nConnection: "+
		"Upgrade\r\nUpgrade: tcp\r\n\r\n", port)
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &buffered{Conn: conn, ahead: peeked(r)}, resp
}

func peeked(r *bufio.Reader) []byte {
	p, _ := r.Peek(r.Buffered())
	return bytes.Clone(p)
}

// A tunnel carries bytes both ways, and each side ends what it sends on its own.
func TestTunnel(t *testing.T) {
	c := newContainer(t)
	c.serveRaw(6379, func(conn net.Conn) {
		defer conn.Close()
		_, _ = io.WriteString(conn, "hello\n") // before the client has said anything
		all, _ := io.ReadAll(conn)
		fmt.Fprintf(conn, "%x", sha256.Sum256(all))
	})
	p := New(Options{})
	t.Cleanup(p.Close)
	addr := tunnelFront(t, p, c, Target{Port: 8080, Ports: []int{6379}})
	want := bytes.Repeat([]byte("0123456789"), 1<<20)

	t.Run("upgrade", func(t *testing.T) {
		conn, resp := openTunnel(t, addr, "6379")
		if resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Upgrade") != "tcp" {
			t.Fatal(resp.Status)
		}
		if _, err := conn.Write(want); err != nil {
			t.Fatal(err)
		}
		if err := conn.(*buffered).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(conn)
		if err != nil || string(got) != fmt.Sprintf("hello\n%x", sha256.Sum256(want)) {
			t.Errorf("%q, %v", got, err)
		}
	})
	t.Run("websocket", func(t *testing.T) {
		ws, _, err := websocket.Dial(t.Context(), "ws://"+addr+"/.management/tunnel?port=6379", nil)
		if err != nil {
			t.Fatal(err)
		}
		conn := websocket.NetConn(t.Context(), ws, websocket.MessageBinary)
		defer conn.Close()
		line := make([]byte, 6)
		if _, err := io.ReadFull(conn, line); err != nil || string(line) != "hello\n" {
			t.Fatalf("%q, %v", line, err)
		}
	})
}

func TestTunnelRefused(t *testing.T) {
	c := newContainer(t)
	c.serve(8080, http.NotFoundHandler())
	p := New(Options{})
	t.Cleanup(p.Close)
	addr := tunnelFront(t, p, c, Target{Port: 8080, Ports: []int{6379}})
	for port, want := range map[string]int{
		"22": http.StatusForbidden, "0": http.StatusBadRequest, "65536": http.StatusBadRequest,
		"-1":    http.StatusBadRequest,
		"8080x": http.StatusBadRequest, "6379": http.StatusBadGateway, // nobody listens there
	} {
		if _, resp := openTunnel(t, addr, port); resp.StatusCode != want ||
			resp.Header.Get("X-Sandpool-Error") == "" {
			t.Errorf("port %q: %s, want %d", port, resp.Status, want)
		}
	}
	resp, err := http.Get("http://" + addr + "/.management/tunnel")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest || resp.Header.Get("Upgrade") == "" {
		t.Errorf("without an upgrade: %s", resp.Status)
	}
}

// A tunnel in which nothing flows ends after its limit; one in which one direction flows does not.
func TestTunnelIdle(t *testing.T) {
	const idle = 2 * time.Second
	c := newContainer(t)
	c.serveRaw(8080, func(conn net.Conn) {
		defer conn.Close()
		tick := time.NewTicker(idle / 20)
		defer tick.Stop()
		for range 25 {
			<-tick.C
			if _, err := conn.Write([]byte(".")); err != nil {
				return
			}
		}
		_, _ = io.Copy(io.Discard, conn)
	})
	p := New(Options{})
	t.Cleanup(p.Close)
	conn, _ := openTunnel(t, tunnelFront(t, p, c, Target{Port: 8080, Idle: idle}), "")
	begin := time.Now()
	got, err := io.ReadAll(conn)
	if took := time.Since(begin); err != nil || len(got) != 25 || took < 2*idle {
		t.Errorf("%q, %v after %v", got, err, took)
	}
}

// A session that ends takes its tunnels with it, and so does a proxy that is closed.
func TestTunnelEnds(t *testing.T) {
	for name, end := range map[string]func(*Proxy, *container){
		"session": func(_ *Proxy, c *container) { c.end("the session was deleted") },
		"proxy":   func(p *Proxy, _ *container) { p.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			c := newContainer(t)
			c.serveRaw(8080, func(conn net.Conn) { _, _ = io.Copy(conn, conn); _ = conn.Close() })
			p := New(Options{})
			t.Cleanup(p.Close)
			conn, _ := openTunnel(t, tunnelFront(t, p, c, Target{Port: 8080}), "")
			if _, err := conn.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			end(p, c)
			if _, err := io.ReadAll(conn); errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			var e *sandpool.Error
			if err := serve(p, nil, request(t, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"), c,
				Target{Port: 8080, Path: "/"}); !errors.As(err, &e) {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

// request parses a request.
func request(t *testing.T, raw string) *http.Request {
	t.Helper()
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw)))
	if err != nil {
		t.Fatal(err)
	}
	return r.WithContext(t.Context())
}
