package interpreter

import (
	"context"
	"errors"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
)

// TestForgetUnclaimed: the client of a sandbox that ends before anybody
// claims it is not kept.
func TestForgetUnclaimed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := New(Options{})
		s := sandpool.Sandbox{ID: "box", Secret: "0123456789abcdef"}
		link := make(chan net.Conn, 1)
		guest := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter,
			r *http.Request) {
			if r.URL.Path != "/link" {
				w.Header().Set("Content-Type", "application/json")
				_, _ = w.Write([]byte("{}"))
				return
			}
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = conn.Write([]byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: " +
				agent.LinkProtocol + "\r\n\r\n"))
			link <- conn
		})}
		l := &conns{next: make(chan net.Conn), done: make(chan struct{})}
		go func() { _ = guest.Serve(l) }()
		if err := a.Init(t.Context(), s, l.dial); err != nil {
			t.Fatal(err)
		}
		if len(a.known) != 1 {
			t.Fatalf("%d clients kept after init, want 1", len(a.known))
		}
		if err := guest.Close(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		a.mu.Lock()
		defer a.mu.Unlock()
		if len(a.known) != 0 {
			t.Error("the client of an ended sandbox is kept")
		}
		if _, err := (<-link).Read(make([]byte, 1)); err == nil {
			t.Error("its link is open")
		}
	})
}

// TestForgetFailed: nothing is kept of a sandbox that could not be initialised.
func TestForgetFailed(t *testing.T) {
	a := New(Options{})
	broken := errors.New("no way in")
	err := a.Init(t.Context(), sandpool.Sandbox{ID: "box", Secret: "0123456789abcdef"},
		func(context.Context, int) (net.Conn, error) { return nil, broken })
	if !errors.Is(err, broken) {
		t.Errorf("error %v, want %v", err, broken)
	}
	if len(a.known) != 0 {
		t.Error("a client is kept")
	}
}

// conns is a listener of pipes.
type conns struct {
	next chan net.Conn
	done chan struct{}
}

func (l *conns) dial(_ context.Context, port int) (net.Conn, error) {
	if port != agent.Port {
		return nil, errors.New("there is no channel")
	}
	ours, theirs := net.Pipe()
	l.next <- theirs
	return ours, nil
}

func (l *conns) Accept() (net.Conn, error) {
	select {
	case c := <-l.next:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *conns) Close() error {
	select {
	case <-l.done:
	default:
		close(l.done)
	}
	return nil
}

func (l *conns) Addr() net.Addr { return &net.UnixAddr{Name: "guest"} }

// TestLearn: what the first sandbox of a revision holds is known of all, and
// not of an earlier pool of the same name.
func TestLearn(t *testing.T) {
	asked := 0
	guest := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"runtime":"python"}`))
	})}
	l := &conns{next: make(chan net.Conn), done: make(chan struct{})}
	go func() { _ = guest.Serve(l) }()
	defer guest.Close()
	a := New(Options{})
	made := time.Unix(1000, 0)
	box := sandpool.Sandbox{ID: "box", Pool: sandpool.PoolID{Name: "p"}, Revision: 1,
		Secret: "0123456789abcdef", CreatedAt: made.Add(time.Minute)}
	pool := sandpool.Pool{ID: box.Pool, Revision: 1, CreatedAt: made}
	if _, ok := a.infoOf(pool); ok {
		t.Error("something is known before anybody was asked")
	}
	c, _ := a.meet(box, l.dial)
	defer c.Close()
	for range 2 {
		if err := a.learn(t.Context(), box, c); err != nil {
			t.Fatal(err)
		}
	}
	if md, ok := a.infoOf(pool); !ok || md.Runtime != "python" || asked != 1 {
		t.Errorf("metadata %+v, %t after %d questions, want python after one", md, ok, asked)
	}
	next := pool
	next.Revision = 2
	if _, ok := a.infoOf(next); ok {
		t.Error("known of a revision that nobody asked")
	}
	again := pool
	again.CreatedAt = box.CreatedAt.Add(time.Minute)
	if _, ok := a.infoOf(again); ok {
		t.Error("known of a pool that was made since")
	}
}
