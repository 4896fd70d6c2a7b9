package arm

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/internal/descriptor"
)

// refusing starts a server whose refusals are watched, with TLS if wanted, and returns its
// address and how to reach it.
func refusing(t *testing.T, secure bool) (string, func() net.Conn) {
	t.Helper()
	rs := &Responder{Log: slog.New(slog.DiscardHandler)}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/tls":
			fmt.Fprint(w, r.TLS != nil && r.TLS.HandshakeComplete)
		case "/echo":
			_, _ = io.Copy(w, r.Body)
		case "/like":
			// An answer in pieces, the last of which looks like a refusal.
			w.Header().Set("Content-Length", fmt.Sprint(8192+len(lookalike)))
			_, _ = w.Write(bytes.Repeat([]byte("x"), 8192))
			_ = http.NewResponseController(w).Flush()
			_, _ = io.WriteString(w, lookalike)
		}
	})
	var l net.Listener
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if secure {
			conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
		}
		return conn
	}
	if secure {
		source := httptest.NewUnstartedServer(nil)
		source.StartTLS()
		certs := source.TLS.Certificates
		source.Close()
		l = tls.NewListener(l, &tls.Config{Certificates: certs, NextProtos: []string{"h2",
			"http/1.1"}})
	}
	srv := &http.Server{Handler: handler, MaxHeaderBytes: 4 << 10,
		ReadHeaderTimeout: 10 * time.Second}
	watching := rs.Refusals(srv, l)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(watching) }()
	t.Cleanup(func() {
		_ = srv.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return address, dial
}

const lookalike = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n" +
	"Connection: close\r\n\r\n400 Bad Request"

// refused reads an answer and checks that it is an error in our form.
func refused(t *testing.T, what string, conn net.Conn, status int) api.ErrorDetail {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	defer resp.Body.Close()
	var body api.ErrorBody
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
		t.Fatalf("%s: status %d, %v", what, resp.StatusCode, err)
	}
	e := body.Error
	if resp.StatusCode != status || e.Code == "" || e.Message == "" || e.TraceID == "" ||
		e.TraceID != resp.Header.Get("X-Ms-Request-Id") ||
		resp.Header.Get("X-Ms-Error-Code") != e.Code || !resp.Close {
		t.Errorf("%s: status %d, want %d: %+v %v", what, resp.StatusCode, status, e, resp.Header)
	}
	if strings.Contains(e.Message, "%!") {
		t.Errorf("%s: the message is broken: %s", what, e.Message)
	}
	return e
}

// TestRefusals: what net/http refuses by itself has the form of every other error.
func TestRefusals(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{false, true} {
		_, dial := refusing(t, secure)
		for what, c := range map[string]struct {
			request string
			status  int
			says    string
		}{
			"a wrong escape": {"GET /files/100%.csv HTTP/1.1\r\nHost: x\r\n\r\n", 400,
				"%25"},
			"a wrong escape at the end": {"GET /% HTTP/1.1\r\nHost: x\r\n\r\n", 400, "%25"},
			"large headers": {"GET / HTTP/1.1\r\nHost: x\r\nX: " +
				strings.Repeat("x", 16<<10) + "\r\n\r\n", 431, "4096"},
			"a long line": {"GET /" + strings.Repeat("x", 16<<10) +
				" HTTP/1.1\r\nHost: x\r\n\r\n", 431, "4096"},
			"no host": {"GET / HTTP/1.1\r\n\r\n", 400, "HTTP"},
			"two hosts": {"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400,
				"HTTP"},
			"a bad host": {"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400, "HTTP"},
			"a bad header": {"GET / HTTP/1.1\r\nHost: x\r\nA b: c\r\n\r\n", 400,
				"HTTP"},
			"no request":   {"hello\r\n\r\n", 400, "HTTP"},
			"a bad method": {"G(T / HTTP/1.1\r\nHost: x\r\n\r\n", 400, "HTTP"},
			"two lengths": {
				"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400,
				"HTTP"},
			"another version": {"GET / HTTP/3.0\r\nHost: x\r\n\r\n", 505, "HTTP/1.1"},
			"another coding": {
				"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501, "chunked"},
			"another expectation": {
				"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nExpect: the-best\r\n\r\n", 417,
				"100-continue"},
		} {
			conn := dial()
			if _, err := io.WriteString(conn, c.request); err != nil {
				t.Fatal(err)
			}
			if e := refused(t, what, conn, c.status); !strings.Contains(e.Message, c.says) {
				t.Errorf("%s: %s", what, e.Message)
			}
		}
		// The second request of a connection too, after an answer.
		conn := dial()
		if _, err := io.WriteString(conn, "GET /tls HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		r := bufio.NewReader(conn)
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(resp.Body); err != nil || string(b) != fmt.Sprint(secure) {
			t.Errorf("the handler sees TLS: %s, %v, want %v", b, err, secure)
		}
		if _, err := io.WriteString(conn, "GET /% HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		refused(t, "the second request", conn, 400)
	}
}

// TestAnswersAreNotRefusals: what a handler writes is never taken for a refusal.
func TestAnswersAreNotRefusals(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{false, true} {
		_, dial := refusing(t, secure)
		conn := dial()
		r := bufio.NewReader(conn)
		for range 3 {
			if _, err := io.WriteString(conn, "GET /like HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatal(err)
			}
			if b, err := io.ReadAll(resp.Body); err != nil ||
				!strings.HasSuffix(string(b), lookalike) {
				t.Errorf("%d bytes, %v", len(b), err)
			}
		}
	}
}

// TestHTTP2: a client that speaks it does.
func TestHTTP2(t *testing.T) {
	t.Parallel()
	address, _ := refusing(t, true)
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	for range 3 {
		req, err := http.NewRequestWithContext(t.Context(), "POST", "https://"+address+"/echo",
			strings.NewReader("hello"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.ProtoMajor != 2 || string(b) != "hello" {
			t.Errorf("%s %q, %v", resp.Proto, b, err)
		}
	}
}

// TestSilentHandshake: a caller that does not shake hands keeps nobody else waiting.
func TestSilentHandshake(t *testing.T) {
	t.Parallel()
	address, dial := refusing(t, true)
	for range 20 {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	conn := dial()
	if _, err := io.WriteString(conn, "GET /tls HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if resp, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil ||
		resp.StatusCode != 200 {
		t.Errorf("%v, %v", resp, err)
	}
}

// TestPlainHTTPToTLS: who forgets the s in https learns it.
func TestPlainHTTPToTLS(t *testing.T) {
	t.Parallel()
	address, _ := refusing(t, true)
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintf(conn, "%s / HTTP/1.1\r\nHost: x\r\n\r\n", method); err != nil {
			t.Fatal(err)
		}
		if e := refused(t, method, conn, 400); !strings.Contains(e.Message, "https://") {
			t.Errorf("%s: %s", method, e.Message)
		}
		_ = conn.Close()
	}
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "SSH-2.0-x\r\n"); err != nil {
		t.Fatal(err)
	}
	if b, _ := io.ReadAll(conn); bytes.Contains(b, []byte("HTTP")) {
		t.Errorf("something else is answered with %q", b)
	}
}

// TestRefusalsKeepTheWatch: who watched the server's connections before goes on to see them.
func TestRefusalsKeepTheWatch(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	states := make(chan http.ConnState, 8)
	srv := &http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: time.Minute,
		ConnState: func(_ net.Conn, s http.ConnState) { states <- s }}
	rs := &Responder{Log: slog.New(slog.DiscardHandler)}
	go srv.Serve(rs.Refusals(srv, l)) //nolint:errcheck // it ends with the test
	t.Cleanup(func() { _ = srv.Close() })
	resp, err := http.Get("http://" + l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	for _, want := range []http.ConnState{http.StateNew, http.StateActive} {
		if got := <-states; got != want {
			t.Errorf("a connection is %v, want %v", got, want)
		}
	}
}

// TestHandshakesAreWatched: a connection is one of the server's from the moment it is there, so
// that a bound on them holds for callers that never shake hands.
func TestHandshakesAreWatched(t *testing.T) {
	source := httptest.NewUnstartedServer(nil)
	source.StartTLS()
	certs := source.TLS.Certificates
	source.Close()
	for _, proto := range []string{"http/1.1", "h2"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		const most = 4
		bound := descriptor.NewConns(most)
		states := make(chan http.ConnState, 100)
		srv := &http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: time.Minute,
			ConnState: func(c net.Conn, s http.ConnState) { states <- s; bound.Watch(c, s) }}
		rs := &Responder{Log: slog.New(slog.DiscardHandler)}
		go srv.Serve(rs.Refusals(srv, tls.NewListener(l, //nolint:errcheck // it ends with the test
			&tls.Config{Certificates: certs, NextProtos: []string{proto}})))
		t.Cleanup(func() { _ = srv.Close() })
		var silent []net.Conn
		for range most + 1 {
			conn, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			silent = append(silent, conn)
			select {
			case got := <-states:
				if got != http.StateNew {
					t.Fatalf("%s: a connection is %v, want %v", proto, got, http.StateNew)
				}
			case <-time.After(20 * time.Second):
				t.Fatalf("%s: a connection that shakes no hands is not seen", proto)
			}
		}
		_ = silent[0].SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := silent[0].Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
			t.Errorf("%s: beyond the bound the first silent connection is not ended", proto)
		}
		shaken, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{InsecureSkipVerify: true,
			NextProtos: []string{proto}})
		if err != nil {
			t.Fatalf("%s: %v", proto, err)
		}
		defer shaken.Close()
		if got := shaken.ConnectionState().NegotiatedProtocol; got != proto {
			t.Errorf("the protocol is %q, want %q", got, proto)
		}
	}
}
