package gvisor

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/sandbox"
)

// Ports of the guest beside HTTP's; see testdata/guest/stream.go.
const (
	sinkPort   = 8081
	sourcePort = 8082
	deafPort   = 8083
	fullPort   = 8084
)

// halfCloser is what a stream to a sandbox can do beside net.Conn.
type halfCloser interface {
	net.Conn
	CloseWrite() error
}

func dialStream(t *testing.T, e *Engine, h sandbox.Handle, port int) halfCloser {
	t.Helper()
	conn, err := e.Dial(t.Context(), h, port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return conn.(halfCloser)
}

// TestStreamIsWhole: what is written into a sandbox arrives, however slowly it is read
// there, and an end of file on the way in leaves the way out open.
func TestStreamIsWhole(t *testing.T) {
	e, h := attack(t, nil)
	conn := dialStream(t, e, h, sinkPort)
	block := make([]byte, 1<<20)
	_, _ = rand.Read(block) // it never fails
	sum := sha256.New()
	const total = 200
	for range total {
		sum.Write(block)
		if n, err := conn.Write(block); err != nil {
			t.Fatalf("%d bytes written: %v", n, err)
		}
		block[0]++
	}
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(conn)
	if want := fmt.Sprintf("%d bytes %x", total<<20, sum.Sum(nil)); err != nil ||
		string(got) != want {
		t.Errorf("the guest has read %s (%v), want %s", got, err, want)
	}
}

// TestStreamOutIsWhole is the other way round: the guest sends, ends, and listens on.
func TestStreamOutIsWhole(t *testing.T) {
	e, h := attack(t, nil)
	conn := dialStream(t, e, h, sourcePort)
	if _, err := conn.Write([]byte("0200")); err != nil {
		t.Fatal(err)
	}
	sum := sha256.New()
	if n, err := io.CopyN(sum, conn, 200<<20); err != nil {
		t.Fatalf("after %d bytes: %v", n, err)
	}
	said, err := io.ReadAll(conn)
	if want := fmt.Sprintf("%x", sum.Sum(nil)); err != nil || string(said) != want {
		t.Errorf("the guest has sent %s, %v; %s arrived", said, err, want)
	}
	if _, err := conn.Write([]byte("goodbye")); err != nil {
		t.Errorf("after the guest's end: %v", err)
	}
	if err := conn.CloseWrite(); err != nil {
		t.Error(err)
	}
	if got := ask(t, e, h, "/hear", nil); got != "goodbye, <nil>" {
		t.Errorf("after its end the guest has heard %q", got)
	}
}

// TestHangUp: a caller that is gone ends a connection that the guest would keep.
func TestHangUp(t *testing.T) {
	e, h := attack(t, nil)
	if err := dialStream(t, e, h, deafPort).Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if got, err := tryAsk(ctx, e, h, "/leave", nil); err != nil || got == "" {
		t.Errorf("a connection that nobody has ended: %q, %v", got, err)
	}
}

// TestFullQueue: connections that a guest does not accept are no reason to wait for other ones.
func TestFullQueue(t *testing.T) {
	e, h := attack(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	full := false
	for range 10_000 { // the guest's queue has room for some
		short, stop := context.WithTimeout(ctx, 500*time.Millisecond)
		conn, err := e.Dial(short, h, fullPort)
		stop()
		if err != nil {
			full = true
			break
		}
		defer conn.Close()
	}
	if !full {
		t.Fatal("the guest's queue is endless; this test is not what it takes itself for")
	}
	if got, err := tryAsk(ctx, e, h, "/state", nil); err != nil || got != "1" {
		t.Errorf("another port answers %q, %v", got, err)
	}
}

// TestBackPressure: who sends to a connection inside the sandbox that nobody reads must wait.
func TestBackPressure(t *testing.T) {
	e, h := attack(t, nil)
	sent, err := strconv.Atoi(ask(t, e, h, "/press", nil))
	if err != nil || sent > 16<<20 {
		t.Errorf("%d bytes were taken that nobody reads (%v), want a few million", sent, err)
	}
}

// TestAccept: a connection to a port that nothing in the sandbox listens at reaches whoever
// accepts it, whole and in order, and no other sandbox's; one that says nothing holds up no other,
// and the port stays taken when the host starts anew.
func TestAccept(t *testing.T) {
	e, h := attack(t, nil)
	const port = 42356
	at := url.Values{"addr": {"127.0.0.1:42356"}, "say": {"who is there"}}
	if got := ask(t, e, h, "/visit", at); !strings.Contains(got, "refused") {
		t.Fatalf("before anybody accepts: %s", got)
	}
	serve := func(e *Engine, say string) {
		t.Helper()
		conn, err := e.Accept(t.Context(), h, port)
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		heard, err := io.ReadAll(conn)
		if err != nil {
			t.Error(err)
		}
		fmt.Fprintf(conn, "%s: %s", say, heard)
	}
	for range 2 {
		if err := e.Listen(t.Context(), h, port); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Listen(t.Context(), h, sinkPort); sandpool.ClassOf(err) != sandpool.Conflict {
		t.Errorf("a port of the guest's own: %v", err)
	}
	for i := range 3 {
		accepted := make(chan struct{})
		go func() { defer close(accepted); serve(e, strconv.Itoa(i)) }()
		got := ask(t, e, h, "/visit", at)
		if <-accepted; got != fmt.Sprintf("%d: who is there", i) {
			t.Errorf("the guest was told %q", got)
		}
	}
	if got := ask(t, e, h, "/take", url.Values{"addr": {":42356"}}); !strings.Contains(got,
		"in use") {
		t.Errorf("the guest takes the port too: %s", got)
	}
	silent, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := e.Accept(silent, h, port); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("nobody came: %v", err)
	}
	if _, err := e.Accept(t.Context(), h, sinkPort); sandpool.ClassOf(err) != sandpool.Conflict {
		t.Errorf("a port of the guest's own: %v", err)
	}
	other := start(t, e, prepare(t, e, template(t, sandbox.Restore)), "other")
	if got := ask(t, e, other, "/visit", at); !strings.Contains(got, "refused") {
		t.Errorf("another sandbox: %s", got)
	}
	ended := make(chan error, 1)
	go func() { _, err := e.Accept(t.Context(), h, port); ended <- err }()
	if err := e.Stop(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; sandpool.ClassOf(err) != sandpool.Ended {
		t.Errorf("the sandbox has ended: %v", err)
	}
}
