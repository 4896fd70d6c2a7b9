package arm

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
)

// TestBodyThatNeverComes: a request that is refused before its body was looked at is
// answered, though the body never comes, and its connection ends.
func TestBodyThatNeverComes(t *testing.T) {
	t.Parallel()
	rs := &Responder{Log: slog.New(slog.DiscardHandler)}
	srv := httptest.NewServer(Trace(rs.Handle(fail(sandpool.Errorf(sandpool.Unauthenticated, "", "",
		"no token")))))
	t.Cleanup(srv.Close)
	for _, announced := range []string{"Content-Length: 10000", "Transfer-Encoding: chunked"} {
		conn, err := net.Dial("tcp", srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(lingerTime + time.Minute)); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintf(conn, "POST /x HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n1",
			announced); err != nil {
			t.Fatal(err)
		}
		r := bufio.NewReader(conn)
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatalf("%s: no answer: %v", announced, err)
		}
		if resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: status %d", announced, resp.StatusCode)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
			t.Errorf("%s: the connection stays open: %v", announced, err)
		}
	}
}

// TestConnectionOutlivesAnAnswer: the deadline of one request is not that of the next.
func TestConnectionOutlivesAnAnswer(t *testing.T) {
	t.Parallel()
	slow := make(chan struct{})
	rs := &Responder{Log: slog.New(slog.DiscardHandler)}
	srv := httptest.NewServer(Trace(rs.Handle(func(w http.ResponseWriter, r *http.Request) error {
		if r.URL.Path == "/slow" {
			select {
			case <-r.Context().Done():
				return fmt.Errorf("the request was cut off: %w", r.Context().Err())
			case <-slow:
			}
		}
		return WriteJSON(w, http.StatusOK, "fine")
	})))
	t.Cleanup(srv.Close)
	timer := time.AfterFunc(lingerTime+time.Second, func() { close(slow) })
	defer timer.Stop()
	for _, path := range []string{"/", "/slow", "/"} {
		resp, err := srv.Client().Get(srv.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || string(body) != `"fine"` {
			t.Errorf("%s: %q, %v", path, body, err)
		}
	}
}

// TestOnlyASCIICaseFolds: a name that Unicode lowers to a pool's is not that pool's.
func TestOnlyASCIICaseFolds(t *testing.T) {
	id := sandpool.PoolID{Subscription: "s", ResourceGroup: "g", Name: "\u212Aernel"}
	if err := CheckPoolID(id); sandpool.ClassOf(err) != sandpool.Invalid {
		t.Errorf("%q: %v", id.Name, err)
	}
	id.Name = "Kernel"
	if err := CheckPoolID(id); err != nil {
		t.Errorf("%q: %v", id.Name, err)
	}
}
