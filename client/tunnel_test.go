package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
)

// tunnelServer answers what comes through a tunnel, when its end has come, with its length; port 1
// is refused.
func tunnelServer(t *testing.T) *Client {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("port") == "1" || r.Header.Get("Upgrade") != "tcp" ||
			r.Header.Get("Authorization") != "Bearer secret" {
			w.Header().Set("X-Ms-Error-Code", "PortNotExposed")
			w.WriteHeader(http.StatusForbidden)
			return
		}
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"+
			"Upgrade: tcp\r\n\r\nhello ")
		n, _ := io.Copy(io.Discard, rw)
		fmt.Fprint(conn, n)
	}))
	t.Cleanup(srv.Close)
	c, err := New(Config{Endpoint: srv.URL, Token: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTunnel(t *testing.T) {
	c := tunnelServer(t)
	tunnel, err := c.Tunnel(t.Context(), "redis", "chat-42", 6379)
	if err != nil {
		t.Fatal(err)
	}
	defer tunnel.Close()
	_ = tunnel.SetDeadline(time.Now().Add(time.Minute))
	if _, err := tunnel.Write(bytes.Repeat([]byte("x"), 1<<20)); err != nil {
		t.Fatal(err)
	}
	if err := tunnel.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(tunnel); err != nil || string(got) != "hello 1048576" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := c.Tunnel(t.Context(), "redis", "chat-42", 1); sandpool.ClassOf(
		err) != sandpool.Denied {
		t.Errorf("a refused port: %v", err)
	}
}

func TestForward(t *testing.T) {
	c := tunnelServer(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- c.Forward(ctx, l, "redis", "chat-42", 6379, func(err error) { t.Error(err) })
	}()
	for range 3 {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, "abc")
		_ = conn.(*net.TCPConn).CloseWrite()
		if got, err := io.ReadAll(conn); err != nil || string(got) != "hello 3" {
			t.Errorf("%q, %v", got, err)
		}
		_ = conn.Close()
	}
	// One that is open when it ends.
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.ReadFull(conn, make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := io.ReadAll(conn); errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// TestForwardEnds: the end of the context is no error, however it meets the listener's.
func TestForwardEnds(t *testing.T) {
	c, err := New(Config{Endpoint: "http://127.0.0.1:1", Token: "t"})
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		for range 1000 { // so that the contexts made from this one do not end all at once
			child, stop := context.WithCancel(ctx)
			defer stop()
			context.AfterFunc(child, func() {})
		}
		ended := make(chan error, 1)
		go func() { ended <- c.Forward(ctx, l, "pool", "session", 0, func(error) {}) }()
		runtime.Gosched()
		cancel()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	}
}
