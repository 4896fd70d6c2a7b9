package proxy

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Whoever is too slow is cut off, and holds nothing afterwards.
func TestSlow(t *testing.T) {
	o := Options{Stall: time.Second, Quiet: 2 * time.Second}
	big := bytes.Repeat([]byte("x"), 64<<10)
	c := newContainer(t)
	handled := make(chan struct{}, 1)
	c.serve(8080, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() { handled <- struct{}{} }()
		switch r.URL.Path {
		case "/silent":
			<-r.Context().Done()
		case "/head":
			w.WriteHeader(200)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		case "/endless":
			for {
				if _, err := w.Write(big); err != nil {
					return
				}
			}
		case "/body":
			_, _ = io.Copy(io.Discard, r.Body)
		}
	}))
	p := New(o)
	t.Cleanup(p.Close)
	addr := front(t, p, c, Target{Port: 8080}).Listener.Addr().String()
	for name, test := range map[string]struct{ raw, want string }{
		"a container that says nothing": {"GET /silent HTTP/1.1\r\nHost: x\r\n\r\n",
			"HTTP/1.1 504 "},
		"a container that stops":      {"GET /head HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 "},
		"a caller that takes nothing": {"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n", ""},
		"a short body that stops": {
			"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello", "HTTP/1.1 408 "},
		"a long body that stops": {
			"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nhello",
			"HTTP/1.1 408 "},
		"a chunked body that stops": {
			"POST /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
			"HTTP/1.1 408 "},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.(*net.TCPConn).SetReadBuffer(4 << 10)
			if _, err := io.WriteString(conn, test.raw); err != nil {
				t.Fatal(err)
			}
			if test.want != "" {
				_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
				got := make([]byte, len(test.want))
				if _, err := io.ReadFull(conn, got); err != nil || string(got) != test.want {
					t.Errorf("%q, %v", got, err)
				}
			}
			if !strings.Contains(name, "short body") { // which never reached the container
				<-handled
			}
			waitUntil(t, func() bool { calls, busy := p.holds(); return calls == 0 && busy == 0 })
		})
	}
}

// holds counts what is under way.
func (p *Proxy) holds() (calls, busy int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.sessions {
		s.mu.Lock()
		calls += s.calls
		busy += len(s.busy)
		s.mu.Unlock()
	}
	return calls, busy
}

func waitUntil(t *testing.T, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatal("it does not come true")
		}
	}
}

// A session's requests are bounded, and the bound is told.
func TestTooManyCalls(t *testing.T) {
	c := newContainer(t)
	hold := make(chan struct{})
	arrived := make(chan struct{})
	c.serve(8080, http.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request) {
		arrived <- struct{}{}
		<-hold
	}))
	p := New(Options{MaxCalls: 3})
	t.Cleanup(p.Close)
	srv := front(t, p, c, Target{Port: 8080})
	for range 3 {
		go func() {
			if resp, err := http.Get(srv.URL); err == nil {
				resp.Body.Close()
			}
		}()
		<-arrived
	}
	resp, err := http.Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("%s, %v", resp.Status, resp.Header)
	}
	close(hold)
}

// Idle streams are closed after their time, and none is kept beyond the bound.
func TestIdleStreams(t *testing.T) {
	c := newContainer(t)
	hold := make(chan struct{})
	var open atomic.Int64
	c.serve(8080, http.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request) {
		open.Add(1)
		<-hold
	}))
	p := New(Options{MaxIdle: 2, IdleTime: 100 * time.Millisecond})
	t.Cleanup(p.Close)
	srv := front(t, p, c, Target{Port: 8080})
	done := make(chan error, 5)
	for range 5 {
		go func() {
			resp, err := http.Get(srv.URL)
			if err == nil {
				resp.Body.Close()
			}
			done <- err
		}()
	}
	waitUntil(t, func() bool { return open.Load() == 5 })
	close(hold)
	for range 5 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	idle := func() int {
		p.mu.Lock()
		defer p.mu.Unlock()
		s := p.sessions[c.id]
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.idle)
	}
	if n := idle(); n > 2 {
		t.Errorf("%d streams are idle", n)
	}
	waitUntil(t, func() bool { return idle() == 0 })
}
