package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/arm"
)

// die ends the container's streams and its ports, as the end of its first process does. That the
// session has ended is not known yet.
func (c *container) die() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ports = map[int]func(context.Context) (net.Conn, error){}
	for _, conn := range c.open {
		_ = conn.Close()
	}
}

// A sandbox may take long to end. The request under way, and one that comes meanwhile, learn of the
// end nevertheless, and not of a connection that was lost.
func TestEndTakesLong(t *testing.T) {
	for name, target := range map[string]Target{"HTTP/1.1": {Port: 8080},
		"HTTP/2": {Port: 8080, HTTP2: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newContainer(t)
			arrived := make(chan struct{})
			c.serve(8080, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				arrived <- struct{}{}
				<-r.Context().Done()
			}))
			p := New(Options{})
			t.Cleanup(p.Close)
			srv := front(t, p, c, target)
			told := make(chan string, 2)
			ask := func() {
				resp, err := http.Get(srv.URL)
				if err != nil {
					told <- err.Error()
					return
				}
				defer resp.Body.Close()
				body, _ := io.ReadAll(resp.Body)
				told <- resp.Status + " " + string(body)
			}
			go ask()
			<-arrived
			c.die()
			go ask()
			<-time.After(4 * endGrace)
			c.end("it exited with code 7")
			for range 2 {
				if got := <-told; !strings.HasPrefix(got, "410 ") ||
					!strings.Contains(got, "code 7") {
					t.Error(got)
				}
			}
		})
	}
}

// A container that closes a connection and takes the next one lives: its session does not end, and
// the caller is told of the connection.
func TestConnectionLost(t *testing.T) {
	c := newContainer(t)
	c.serveRaw(8080, func(conn net.Conn) {
		defer conn.Close()
		_, _ = conn.Read(make([]byte, 1024))
	})
	p := New(Options{})
	t.Cleanup(p.Close)
	srv := front(t, p, c, Target{Port: 8080})
	for range 3 {
		resp, err := http.Get(srv.URL)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusBadGateway ||
			resp.Header.Get(arm.OwnHeader) != codeUnreachable {
			t.Error(resp.Status, resp.Header)
		}
	}
	if s, err := p.session(c, 8080); err != nil || !s.serving[8080] {
		t.Errorf("the port counts as one that takes no connections, %v", err)
	}
}

// TestAnswerCutShort: a container that stops in the middle of its answers is not a fault of the
// server, whose log shows those.
func TestAnswerCutShort(t *testing.T) {
	for name, text := range map[string]string{
		"sized":   "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nnot all",
		"chunked": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nnot all",
	} {
		c := newContainer(t)
		c.answers(8080, text)
		p := New(Options{})
		t.Cleanup(p.Close)
		over := make(chan error, 1)
		srv := serveFunc(t, func(w http.ResponseWriter, r *http.Request) error {
			err := serve(p, w, r, c, Target{Port: 8080, Path: "/"})
			over <- err
			return err
		})
		resp, err := http.Get(srv.URL)
		if err != nil {
			t.Fatal(name, err)
		}
		if body, err := io.ReadAll(resp.Body); err == nil {
			t.Errorf("%s: %q seems whole", name, body)
		}
		resp.Body.Close()
		if err := <-over; sandpool.ClassOf(err) != sandpool.Unavailable {
			t.Errorf("%s: %v of class %v", name, err, sandpool.ClassOf(err))
		}
	}
}

// held counts how often a hold was told that its request's answer goes on.
type held struct {
	*container
	told atomic.Int32
}

func (h *held) Unattended() { h.told.Add(1) }

// A hold learns of an answer that goes on, since nobody can be told by that of the session's end,
// and not of one that is over at once.
func TestAnswerGoesOn(t *testing.T) {
	c := newContainer(t)
	end := make(chan struct{})
	c.serve(8080, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/quick":
			_, _ = io.WriteString(w, "quick")
		case "/stream":
			_, _ = io.WriteString(w, "begin")
			_ = http.NewResponseController(w).Flush()
			<-end
		case "/upgrade":
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\n"+
				"Connection: upgrade\r\nUpgrade: x\r\n\r\nbegin")
			_, _ = conn.Read(make([]byte, 1))
		}
	}))
	p := New(Options{})
	t.Cleanup(p.Close)
	for _, test := range []struct {
		path, upgrade string
		target        Target
		want          int32
	}{
		{"/quick", "", Target{}, 0}, {"/stream", "", Target{}, 1},
		{"/stream", "", Target{HTTP2: true}, 1}, {"/upgrade", "x", Target{}, 1},
		{"/tunnel", "tcp", Target{}, 1},
	} {
		h := &held{container: c}
		over := make(chan error, 1)
		srv := serveFunc(t, func(w http.ResponseWriter, r *http.Request) error {
			to := test.target
			to.Port, to.Path = 8080, test.path
			q, err := Check(w, r, to)
			if test.path == "/tunnel" {
				q, err = CheckTunnel(w, r, to, "")
			}
			if err == nil {
				err = p.Serve(q, h)
			}
			over <- err
			return err
		})
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		if test.upgrade != "" {
			r.Header.Set("Connection", "upgrade")
			r.Header.Set("Upgrade", test.upgrade)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(test.path, err)
		}
		if test.path == "/stream" || test.path == "/upgrade" {
			if _, err := io.ReadFull(resp.Body, make([]byte, 5)); err != nil {
				t.Error(test.path, err)
			}
		}
		if test.path == "/stream" {
			waitUntil(t, func() bool { return h.told.Load() == test.want })
			end <- struct{}{}
		}
		if conn, ok := resp.Body.(io.Closer); ok && test.upgrade != "" {
			_ = conn.Close()
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if err := <-over; err != nil && !errors.Is(err, ErrCallerGone) {
			t.Error(test.path, err)
		}
		if got := h.told.Load(); got != test.want {
			t.Errorf("%s %+v: told %d times, want %d", test.path, test.target, got, test.want)
		}
	}
}
