package custom_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
)

// TestForward reaches a container by a tunnel and by a forwarded port, as `sandpool session
// forward` does.
func TestForward(t *testing.T) {
	k := newKit(t)
	k.makePool(t, "counter", container(k.push(t, "counter:1", app(t))))

	tunnel, err := k.Tunnel(t.Context(), "counter", "alice", 8080)
	if err != nil {
		t.Fatal(err)
	}
	defer tunnel.Close()
	_ = tunnel.SetDeadline(time.Now().Add(time.Minute))
	_, _ = io.WriteString(tunnel, "GET /count HTTP/1.0\r\n\r\n")
	if err := tunnel.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(tunnel); err != nil ||
		!strings.HasSuffix(string(got), "\r\n\r\n1\n") {
		t.Errorf("by tunnel: %q, %v", got, err)
	}
	if _, err := k.Tunnel(t.Context(), "counter", "alice", 22); sandpool.ClassOf(
		err) != sandpool.Denied {
		t.Errorf("a port that is not exposed: %v", err)
	}

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- k.Forward(ctx, l, "counter", "alice", 8080, func(err error) { t.Error(err) })
	}()
	resp, err := http.Get("http://" + l.Addr().String() + "/count")
	if err != nil {
		t.Fatal(err)
	}
	got, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if string(got) != "2\n" {
		t.Errorf("by the forwarded port: %q", got)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestTunnelEnds: a session that is stopped takes its tunnels with it.
func TestTunnelEnds(t *testing.T) {
	k := newKit(t)
	k.makePool(t, "counter", container(k.push(t, "counter:1", app(t))))
	tunnel, err := k.Tunnel(t.Context(), "counter", "alice", 8080)
	if err != nil {
		t.Fatal(err)
	}
	defer tunnel.Close()
	_ = tunnel.SetDeadline(time.Now().Add(time.Minute))
	status, body := k.do(t, http.MethodPost, "counter", "alice", "/.management/stopSession", nil)
	if status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	if _, err := io.ReadAll(tunnel); err != nil && strings.Contains(err.Error(), "timeout") {
		t.Errorf("the tunnel is still open: %v", err)
	}
}
