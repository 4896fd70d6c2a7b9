package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
)

// Each piece of an answer reaches the caller when the container has sent it, whatever its framing.
func TestFlush(t *testing.T) {
	for name, head := range map[string]string{
		"chunked": "Transfer-Encoding: chunked\r\n", "with a length": "Content-Length: 30\r\n",
		"until the end": "",
	} {
		t.Run(name, func(t *testing.T) {
			c := newContainer(t)
			step := make(chan struct{})
			c.serveRaw(8080, func(conn net.Conn) {
				defer conn.Close()
				if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
					return
				}
				fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n%s\r\n",
					head)
				for i := range 3 {
					<-step
					event := fmt.Sprintf("data: %d\n\n\n", i)
					if name == "chunked" {
						event = fmt.Sprintf("a\r\n%s\r\n", event)
					}
					_, _ = io.WriteString(conn, event)
				}
				if name == "chunked" {
					_, _ = io.WriteString(conn, "0\r\n\r\n")
				}
			})
			p := New(Options{})
			t.Cleanup(p.Close)
			// returns when the head is here
			resp, err := http.Get(front(t, p, c, Target{Port: 8080}).URL)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			for i := range 3 {
				step <- struct{}{}
				p := make([]byte, 10)
				if _, err := io.ReadFull(resp.Body, p); err != nil ||
					string(p) != fmt.Sprintf("data: %d\n\n\n", i) {
					t.Fatalf("event %d: %q, %v", i, p, err)
				}
			}
			if rest, err := io.ReadAll(resp.Body); len(rest) > 0 || name == "chunked" &&
				err != nil {
				t.Errorf("%q, %v", rest, err)
			}
		})
	}
}

// A conversation over one request: each side waits for the other.
func TestBothWays(t *testing.T) {
	srv, _ := newFront(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		_ = control.EnableFullDuplex()
		w.WriteHeader(200)
		_ = control.Flush()
		lines := bufio.NewScanner(r.Body)
		for lines.Scan() {
			fmt.Fprintf(w, "you said %s\n", lines.Text())
			_ = control.Flush()
		}
	}))
	body, say := io.Pipe()
	resp, err := http.Post(srv.URL, "text/plain", body)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answers := bufio.NewReader(resp.Body)
	for i := range 5 {
		fmt.Fprintf(say, "%d\n", i)
		if line, err := answers.ReadString('\n'); err != nil ||
			line != fmt.Sprintf("you said %d\n", i) {
			t.Fatalf("%q, %v", line, err)
		}
	}
	_ = say.Close()
	if rest, err := io.ReadAll(answers); err != nil || len(rest) > 0 {
		t.Errorf("%q, %v", rest, err)
	}
}

// A body behind an expectation is not sent before the container asks for it, nor if it answers at
// once.
func TestExpect(t *testing.T) {
	c := newContainer(t)
	c.serveRaw(8080, func(conn net.Conn) {
		defer conn.Close()
		r := bufio.NewReader(conn)
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		switch req.URL.Path {
		case "/refuse":
			_, _ = io.WriteString(conn, "HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n"+
				"Connection: close\r\n\r\nno")
			return
		case "/ask":
			_, _ = io.WriteString(conn, "HTTP/1.1 100 Continue\r\n\r\n")
		case "/ignore":
		}
		n, _ := io.Copy(io.Discard, req.Body)
		text := fmt.Sprint(n)
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
			len(text), text)
	})
	p := New(Options{})
	t.Cleanup(p.Close)
	srv := front(t, p, c, Target{Port: 8080})
	for path, want := range map[string]string{"/ask": "200 5", "/ignore": "200 5",
		"/refuse": "417 no"} {
		var read atomic.Bool
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL+path,
			readerFunc(func(p []byte) (int, error) {
				if read.Swap(true) {
					return 0, io.EOF
				}
				return copy(p, "hello"), nil
			}))
		r.ContentLength = 5
		r.Header.Set("Expect", "100-continue")
		client := http.Client{Transport: &http.Transport{ExpectContinueTimeout: time.Minute}}
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if got := fmt.Sprintf("%d %s", resp.StatusCode, body); got != want ||
			read.Load() != (path != "/refuse") {
			t.Errorf("%s: %s, body sent: %v", path, got, read.Load())
		}
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// An answer that comes before the end of the request's body reaches the caller, and ends the
// sending.
func TestEarlyAnswer(t *testing.T) {
	c := newContainer(t)
	c.answers(8080,
		"HTTP/1.1 413 Content Too Large\r\nContent-Length: 7\r\nConnection: close\r\n\r\ntoo big")
	p := New(Options{})
	t.Cleanup(p.Close)
	srv := front(t, p, c, Target{Port: 8080})
	body, _ := io.Pipe() // which never comes to its end
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL, body)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); resp.StatusCode != 413 || string(text) != "too big" ||
		err != nil {
		t.Errorf("%s %q %v", resp.Status, text, err)
	}
}

// A stream that the container has closed while it was idle costs nobody an error.
func TestIdleStreamClosed(t *testing.T) {
	c := newContainer(t)
	c.serveRaw(8080, func(conn net.Conn) {
		r := bufio.NewReader(conn)
		req, err := http.ReadRequest(r)
		if err == nil {
			_, _ = io.Copy(io.Discard, req.Body)
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
		_ = conn.Close() // without a word
	})
	p := New(Options{})
	t.Cleanup(p.Close)
	srv := front(t, p, c, Target{Port: 8080})
	for i := range 200 {
		resp, err := http.Post(srv.URL, "text/plain", strings.NewReader("hello"))
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		// The close may still be on its way when the next request is sent; then only what may be
		// repeated is.
		if string(body) != "ok" && i%2 == 0 &&
			resp.Header.Get("X-Sandpool-Error") != codeUnreachable {
			t.Fatalf("request %d: %s %q", i, resp.Status, body)
		}
		resp, err = http.Get(srv.URL)
		if err != nil {
			t.Fatal(err)
		}
		body, _ = io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(body) != "ok" {
			t.Fatalf("request %d: %s %q", i, resp.Status, body)
		}
	}
}

// Requests one after another share one stream.
func TestStreamsAreKept(t *testing.T) {
	srv, c := newFront(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body)
	}))
	for range 50 {
		resp, err := http.Post(srv.URL, "text/plain", strings.NewReader("hello"))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	if n := c.dialed.Load(); n != 1 {
		t.Errorf("50 requests took %d streams", n)
	}
}

// A session that ends under a request is told once, with the reason.
func TestSessionEnds(t *testing.T) {
	c := newContainer(t)
	arrived := make(chan struct{})
	c.serve(8080, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-r.Context().Done()
	}))
	p := New(Options{})
	t.Cleanup(p.Close)
	srv := front(t, p, c, Target{Port: 8080})
	go func() {
		<-arrived
		c.end("it ran out of memory")
	}()
	resp, err := http.Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusGone || !strings.Contains(string(body), "ran out of memory") ||
		resp.Header.Get("X-Sandpool-Error") == "" {
		t.Errorf("%s %s", resp.Status, body)
	}
	waitUntil(t, func() bool { // the proxy has let the session go
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.sessions) == 0
	})
}

// A caller that goes away frees the stream and the container's handler.
func TestCallerGoes(t *testing.T) {
	gone := make(chan struct{})
	arrived := make(chan struct{})
	srv, _ := newFront(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
		close(gone)
	}))
	ctx, cancel := context.WithCancel(t.Context())
	r, _ := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL, nil)
	go func() {
		<-arrived
		cancel()
	}()
	if _, err := http.DefaultClient.Do(r); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	<-gone
}

// TestCallerLeavesAnAnswer: a caller that has heard enough of an answer is no fault of the server.
func TestCallerLeavesAnAnswer(t *testing.T) {
	c := newContainer(t)
	c.serve(8080, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			_, _ = io.WriteString(w, strings.Repeat("more ", 1000))
		}
	}))
	p := New(Options{})
	t.Cleanup(p.Close)
	ended := make(chan error, 1)
	srv := serveFunc(t, func(w http.ResponseWriter, r *http.Request) error {
		err := serve(p, w, r, c, Target{Port: 8080, Path: RawPath(r)})
		ended <- err
		return err
	})
	resp, err := http.Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(resp.Body, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if err := <-ended; !errors.Is(err, ErrCallerGone) {
		t.Errorf("it ends with %v", err)
	}
}

// A gigabyte goes through in each direction, whole, and the memory stays what it was.
func TestGigabyte(t *testing.T) {
	const size = 1 << 30
	srv, _ := newFront(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			h := crc32.NewIEEE()
			n, _ := io.Copy(h, r.Body)
			fmt.Fprintf(w, "%d %x", n, h.Sum(nil))
			return
		}
		_, _ = io.Copy(w, io.LimitReader(&counting{}, size))
	}))
	h := crc32.NewIEEE()
	_, _ = io.Copy(h, io.LimitReader(&counting{}, size))
	want := fmt.Sprintf("%d %x", size, h.Sum(nil))
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for name, r := range map[string]io.Reader{"sized": io.LimitReader(&counting{}, size),
		"chunked": io.LimitReader(&counting{}, size)} {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL, r)
		if name == "sized" {
			req.ContentLength = size
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(got) != want {
			t.Errorf("%s up: %s, want %s", name, got, want)
		}
	}
	resp, err := http.Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(resp.Body)
		t.Fatalf("down: %s %s", resp.Status, text)
	}
	h.Reset()
	n, err := io.Copy(h, resp.Body)
	if got := fmt.Sprintf("%d %x", n, h.Sum(nil)); err != nil || got != want {
		t.Errorf("down: %s, %v, want %s", got, err, want)
	}
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapSys) - int64(before.HeapSys); grown > 32<<20 {
		t.Errorf("3 GB took %d MB of heap", grown>>20)
	}
}

// counting is an endless stream: a pattern whose length fits no buffer, again and again.
type counting struct{ pattern, rest []byte }

func (c *counting) Read(p []byte) (int, error) {
	if c.pattern == nil {
		for i := range 1<<20 + 7 {
			c.pattern = append(c.pattern, byte(i>>(i&15)))
		}
	}
	if len(c.rest) == 0 {
		c.rest = c.pattern
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// Whatever Dial says reaches the caller as a status of its own.
func TestDialFails(t *testing.T) {
	c := newContainer(t)
	p := New(Options{})
	t.Cleanup(p.Close)
	srv := front(t, p, c, Target{Port: 8080})
	for status, err := range map[int]error{
		http.StatusBadGateway:     errors.New("connection refused"),
		http.StatusGatewayTimeout: context.DeadlineExceeded,
		http.StatusGone: sandpool.Errorf(sandpool.Ended, "", "",
			"The sandbox does not run."),
	} {
		c.mu.Lock()
		c.ports[8080] = func(context.Context) (net.Conn, error) { return nil, err }
		c.mu.Unlock()
		resp, err := http.Get(srv.URL)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != status || resp.Header.Get("X-Sandpool-Error") == "" {
			t.Errorf("%s, want %d", resp.Status, status)
		}
	}
}

// A container cannot pass its errors off as the server's.
func TestOwnHeader(t *testing.T) {
	srv, _ := newFront(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Sandpool-Error", "SessionEnded")
		w.Header().Set("X-Ms-Error-Code", "Mine")
		w.Header().Set("X-Ms-Request-Id", "forged")
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	resp, err := http.Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	h := resp.Header
	if resp.StatusCode != 503 || h.Get("X-Sandpool-Error") != "" ||
		h.Get("X-Ms-Error-Code") != "Mine" || len(h["X-Ms-Request-Id"]) != 1 ||
		h.Get("X-Ms-Request-Id") == "forged" {
		t.Errorf("%s %v", resp.Status, h)
	}
}
