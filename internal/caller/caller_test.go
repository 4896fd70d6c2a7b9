package caller

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

// serve runs a server with a Listener on its connections.
func serve(t *testing.T, h http.Handler) *Listener {
	t.Helper()
	l := listen(t)
	srv := &http.Server{Handler: h, ReadHeaderTimeout: patience, IdleTimeout: patience}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	srv.Protocols = &protocols
	l.Attend(srv)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() {
		_ = srv.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return l
}

func listen(t *testing.T) *Listener {
	t.Helper()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := Listen(tcp.(*net.TCPListener))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func dial(t *testing.T, l *Listener) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c.(*net.TCPConn)
}

func send(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

const get = "GET / HTTP/1.1\r\nHost: h\r\n\r\n"

// A handler learns that its caller has gone, however it went and whatever it has sent.
func TestDeparture(t *testing.T) {
	const sized = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"
	requests := map[string]string{"get": get, "sized body": sized,
		"chunked body": "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" +
			"5\r\nhello\r\n0\r\n\r\n",
		"second request": "GET /quick HTTP/1.1\r\nHost: h\r\n\r\n" + get}
	ends := map[string]func(*net.TCPConn) error{
		"close": func(c *net.TCPConn) error { return c.Close() },
		"half":  func(c *net.TCPConn) error { return c.CloseWrite() },
		"reset": func(c *net.TCPConn) error { return errors.Join(c.SetLinger(0), c.Close()) },
	}
	begun, left := make(chan struct{}), make(chan error)
	l := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.URL.Path == "/quick" {
			return
		}
		begun <- struct{}{}
		select {
		case <-r.Context().Done():
			left <- r.Context().Err()
		case <-time.After(patience):
			left <- errors.New("the handler was not told")
		}
	}))
	for what, request := range requests {
		for how, end := range ends {
			t.Run(what+", "+how, func(t *testing.T) {
				c := dial(t, l)
				send(t, c, request)
				<-begun
				if err := end(c); err != nil {
					t.Fatal(err)
				}
				if err := <-left; !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			})
		}
	}
}

// A caller that has sent its next request and then no more has not gone: the one before is
// answered, though it lasts longer than Grace.
func TestSentAhead(t *testing.T) {
	begun, end := make(chan struct{}), make(chan struct{})
	l := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun <- struct{}{}
		<-end
		fmt.Fprint(w, r.Context().Err())
	}))
	c := dial(t, l)
	send(t, c, get)
	<-begun
	await(t, "the request is watched", func() bool { return l.departures.count() == 1 })
	send(t, c, get)
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	<-time.After(3 * Grace) // in which the end would be noticed
	end <- struct{}{}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(resp.Body); err != nil || string(got) != "<nil>" {
		t.Errorf("the request's context: %q, %v", got, err)
	}
	<-begun
	end <- struct{}{}
}

// Requests that are over soon are never watched. All of many slow ones are, without a goroutine
// for each, and none is once its request is over or its caller has gone.
func TestWatched(t *testing.T) {
	const many = 300
	var begun sync.WaitGroup
	begun.Add(many)
	end := make(chan struct{})
	l := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/quick" {
			return
		}
		begun.Done()
		select {
		case <-end:
		case <-r.Context().Done():
		}
	}))
	var callers []*net.TCPConn
	for range many {
		c := dial(t, l)
		send(t, c, get)
		callers = append(callers, c)
	}
	begun.Wait()
	await(t, "slow requests are watched", func() bool { return l.departures.count() == many })
	for _, c := range callers[:many/2] {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "callers that left are forgotten",
		func() bool { return l.departures.count() == many/2 })
	close(end)
	await(t, "requests that are over are forgotten",
		func() bool { return l.departures.count() == 0 })
	await(t, "no timer goes on", func() bool {
		l.departures.mu.Lock()
		defer l.departures.mu.Unlock()
		return len(l.departures.young) == 0
	})
	if n := l.departures.ids; n != many {
		t.Errorf("%d requests were watched, want the %d slow ones", n, many)
	}
}

func (d *departures) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.watched)
}

func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for end := time.Now().Add(patience); !done(); <-look.C {
		if time.Now().After(end) {
			t.Fatalf("it did not happen that %s", what)
		}
	}
}

// A reader whose buffer has room for one byte more is not net/http's look-out, and loses nothing.
func TestRoomForOne(t *testing.T) {
	l := listen(t)
	defer l.Close()
	far := dial(t, l)
	near, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	near.(*conn).turn(http.StateActive)
	r := bufio.NewReaderSize(near, 16)
	send(t, far, strings.Repeat("x", 15))
	if _, err := r.Peek(15); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.WriteString(far, "\nrest\n") }()
	for _, want := range []string{strings.Repeat("x", 15) + "\n", "rest\n"} {
		if line, err := r.ReadString('\n'); err != nil || line != want {
			t.Errorf("line %q, %v, want %q", line, err, want)
		}
	}
}

// A chunked body whose lines end where net/http's buffer does arrives whole, in whatever pieces.
func TestChunkLines(t *testing.T) {
	l := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		_ = http.NewResponseController(w).EnableFullDuplex()
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush() // so that the caller knows where it is
		_, _ = io.Copy(w, r.Body)
	}))
	for length := 4085; length <= 4094; length++ {
		c := dial(t, l)
		r := bufio.NewReader(c)
		send(t, c, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		line := "5;" + strings.Repeat("e", length-4) + "\r\n"
		send(t, c, line[:len(line)-1])
		send(t, c, line[len(line)-1:]+"hello\r\n0\r\n\r\n")
		if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "hello" {
			t.Errorf("line of %d bytes: %q, %v", length, body, err)
		}
	}
}

// A handler that takes the connection over reads byte by byte, and its own deadlines count.
func TestHijack(t *testing.T) {
	l := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			<-time.After(3 * Grace) // the caller is watched by now
		}
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
		if _, err := rw.ReadByte(); !isTimeout(err) {
			t.Errorf("a read beyond its deadline: %v", err)
		}
		_ = c.SetDeadline(time.Time{})
		_, _ = io.WriteString(c, "ready\n")
		var p [1]byte
		for {
			n, err := c.Read(p[:])
			if n != 1 || err != nil {
				if !errors.Is(err, io.EOF) {
					t.Errorf("%d bytes, %v", n, err)
				}
				return
			}
			_, _ = c.Write(p[:])
		}
	}))
	for _, path := range []string{"/", "/slow"} {
		c := dial(t, l)
		send(t, c, "GET "+path+" HTTP/1.1\r\nHost: h\r\n\r\n")
		r := bufio.NewReader(c)
		if line, err := r.ReadString('\n'); err != nil || line != "ready\n" {
			t.Fatalf("%q, %v", line, err)
		}
		for _, text := range []string{"a", "bcd", "e"} {
			send(t, c, text)
			got := make([]byte, len(text))
			if _, err := io.ReadFull(r, got); err != nil || string(got) != text {
				t.Errorf("%q came back as %q, %v", text, got, err)
			}
		}
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if rest, err := io.ReadAll(r); err != nil || len(rest) > 0 {
			t.Errorf("%q after the end, %v", rest, err)
		}
	}
}

// HTTP/2 without TLS works, with frames of a byte.
func TestHTTP2(t *testing.T) {
	l := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			t.Errorf("protocol %s", r.Proto)
		}
		_, _ = io.Copy(w, r.Body)
	}))
	var two http.Protocols
	two.SetUnencryptedHTTP2(true)
	client := &http.Client{Transport: &http.Transport{Protocols: &two}}
	defer client.CloseIdleConnections()
	for range 20 {
		body, w := io.Pipe()
		go func() {
			for range 20 {
				_, _ = io.WriteString(w, "x")
			}
			_ = w.Close()
		}()
		resp, err := client.Post("http://"+l.Addr().String(), "", body)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || string(got) != strings.Repeat("x", 20) {
			t.Errorf("%q, %v", got, err)
		}
	}
}
