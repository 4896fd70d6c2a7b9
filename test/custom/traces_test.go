package custom_test

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	wire "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/sandpool/sandpool/internal/otlp/otlptest"
	"github.com/sandpool/sandpool/internal/server"
)

// collector is what traces, metrics and events are told.
type collector struct{ otlptest.Receiver }

// of waits for a span of a name in a trace, and returns it.
func (c *collector) of(t *testing.T, trace, name string) (found *wire.Span) {
	t.Helper()
	c.Await(t, name+" of trace "+trace, func() bool {
		for _, s := range c.Spans() {
			if hex.EncodeToString(s.TraceId) == trace && s.Name == name {
				found = s
			}
		}
		return found != nil
	})
	return found
}

// TestTraces: a collector learns what a request to a container took: the steps of the start that it
// waited for, and the time that the container had it, be it a request, a WebSocket or a tunnel. The
// caller says what is traced. The same collector gets metrics and events.
func TestTraces(t *testing.T) {
	c := &collector{}
	at := c.HTTP(t)
	k := newKit(t, func(cfg *server.Config) {
		cfg.Traces.Endpoint = at
		cfg.OTLP.Endpoint, cfg.OTLP.Interval = at, time.Second
	})
	p, none := container(k.push(t, "app:1", app(t))), 0
	p.Properties.ScaleConfiguration.ReadySessionInstances = &none
	k.makePool(t, "traced", p)

	const parent = "00f067aa0ba902b7"
	trace := func(n int) string { return fmt.Sprintf("%032x", 0xabc000+n) }
	k.traced(t, "GET", "/count", "00-"+trace(1)+"-"+parent+"-01", "")
	root := c.of(t, trace(1), "GET /sessionPools")
	if hex.EncodeToString(root.ParentSpanId) != parent {
		t.Errorf("the request is not its caller's: %v", root)
	}
	below := map[string]string{"claim": "GET /sessionPools", "forward": "GET /sessionPools",
		"start": "claim", "turn": "start", "prepare": "start", "spawn": "start", "boot": "start",
		"fill": "start", "ready": "start", "init": "start", "record": "start"}
	for name, above := range below {
		one, of := c.of(t, trace(1), name), c.of(t, trace(1), above)
		if string(one.ParentSpanId) != string(of.SpanId) ||
			one.EndTimeUnixNano < one.StartTimeUnixNano {
			t.Errorf("%s: %v is not below %s", name, one, above)
		}
	}
	if s, boot := c.of(t, trace(1), "start"), c.of(t, trace(1), "boot"); boot.StartTimeUnixNano <
		s.StartTimeUnixNano || boot.EndTimeUnixNano > s.EndTimeUnixNano {
		t.Errorf("a step is outside of its start: %v, %v", s, boot)
	}

	said := k.traced(t, "GET", "/upgrade", "00-"+trace(2)+"-"+parent+"-01", "websocket")
	if s := c.of(t, trace(2), "GET /sessionPools"); !strings.HasSuffix(said,
		"00-"+trace(2)+"-"+hex.EncodeToString(s.SpanId)+"-01") {
		t.Errorf("the container's parent is not %x: %q", s.SpanId, said)
	}
	c.of(t, trace(2), "websocket")
	k.traced(t, "GET", "/.management/tunnel", "00-"+trace(3)+"-"+parent+"-01", "tcp")
	c.of(t, trace(3), "tunnel")

	// Spans are sent in order, so one that was not wanted would be there by now.
	said = k.traced(t, "GET", "/upgrade", "00-"+trace(4)+"-"+parent+"-00", "websocket")
	if !strings.HasSuffix(said, "00-"+trace(4)+"-"+parent+"-00") {
		t.Errorf("a caller's context that is not traced becomes %q", said)
	}
	k.traced(t, "GET", "/count", "00-"+trace(5)+"-"+parent+"-01", "")
	c.of(t, trace(5), "GET /sessionPools")
	for _, s := range c.Spans() {
		if hex.EncodeToString(s.TraceId) == trace(4) {
			t.Errorf("a span that its caller did not want: %v", s)
		}
	}

	// Metrics and events come to the same place.
	c.Await(t, "the session in metrics and events", func() bool {
		for _, p := range c.Metrics()["sandpool_pool_sandboxes"].GetGauge().GetDataPoints() {
			if p.GetAsDouble() == 1 {
				for _, r := range c.Records() {
					if r.EventName == "SessionAllocated" {
						return true
					}
				}
			}
		}
		return false
	})
}

// traced sends a request with a trace, on a connection of its own, and returns the whole answer.
func (k *kit) traced(t *testing.T, method, path, parent, upgrade string) string {
	t.Helper()
	at, err := url.Parse(k.PoolEndpoint("traced") + path)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", at.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	head := "close"
	if upgrade != "" {
		head = "Upgrade\r\nUpgrade: " + upgrade
	}
	fmt.Fprintf(conn, "%s %s?identifier=alice HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n"+
		"Traceparent: %s\r\nConnection: %s\r\n\r\n", method, at.EscapedPath(), at.Host, k.token,
		parent, head)
	if upgrade == "tcp" {
		answer, err := bufio.NewReader(conn).ReadString('\n')
		if err != nil || !strings.Contains(answer, "101") {
			t.Fatalf("%q, %v", answer, err)
		}
		return answer
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	return string(answer)
}
