package server

import (
	"context"
	"errors"
	"net"
	"net/http"
	"testing"
	"testing/synctest"

	"github.com/sandpool/sandpool"
)

// TestAgentsForgetUnclaimed: the client of a sandbox that ends before anybody
// claims it is not kept.
func TestAgentsForgetUnclaimed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAgents()
		s := sandpool.Sandbox{ID: "box", Secret: "0123456789abcdef"}
		ours, theirs := net.Pipe()
		guest := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte("{}"))
		})}
		l := &oneConn{conn: theirs, done: make(chan struct{})}
		go func() { _ = guest.Serve(l) }()
		if err := a.init(t.Context(), s, func(context.Context, int) (net.Conn, error) { return ours, nil }); err != nil {
			t.Fatal(err)
		}
		if len(a.idle) != 1 {
			t.Fatalf("%d clients kept after init, want 1", len(a.idle))
		}
		if err := guest.Close(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		a.mu.Lock()
		defer a.mu.Unlock()
		if len(a.idle) != 0 {
			t.Error("the client of an ended sandbox is kept")
		}
	})
}

// TestAgentsForgetFailed: nothing is kept of a sandbox that could not be initialised.
func TestAgentsForgetFailed(t *testing.T) {
	a := newAgents()
	broken := errors.New("no way in")
	err := a.init(t.Context(), sandpool.Sandbox{ID: "box", Secret: "0123456789abcdef"},
		func(context.Context, int) (net.Conn, error) { return nil, broken })
	if !errors.Is(err, broken) {
		t.Errorf("error %v, want %v", err, broken)
	}
	if len(a.idle) != 0 {
		t.Error("a client is kept")
	}
}

// oneConn is a listener of one connection.
type oneConn struct {
	conn net.Conn
	done chan struct{}
}

func (l *oneConn) Accept() (net.Conn, error) {
	if c := l.conn; c != nil {
		l.conn = nil
		return c, nil
	}
	<-l.done
	return nil, net.ErrClosed
}

func (l *oneConn) Close() error {
	select {
	case <-l.done:
	default:
		close(l.done)
	}
	return nil
}

func (l *oneConn) Addr() net.Addr { return &net.UnixAddr{Name: "guest"} }
