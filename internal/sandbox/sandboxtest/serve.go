package sandboxtest

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"sync"

	"github.com/sandpool/sandpool/internal/sandbox"
)

// place is the key of a request context's value: where the request arrived.
type place struct{}

type location struct {
	id   sandbox.ID
	port int
}

// SandboxOf returns the sandbox and port at which a Fake's handler was reached,
// so that one handler can answer for all sandboxes.
func SandboxOf(ctx context.Context) (id sandbox.ID, port int) {
	at, _ := ctx.Value(place{}).(location)
	return at.id, at.port
}

// server is one sandbox's HTTP server. Its connections are pipes in memory.
type server struct {
	http   *http.Server
	conns  chan portConn
	closed chan struct{}
	once   sync.Once
	done   chan struct{}
}

// portConn is the sandbox's end of a pipe, with the port that was dialled.
type portConn struct {
	net.Conn
	port int
}

func serve(id sandbox.ID, h http.Handler) *server {
	s := &server{conns: make(chan portConn), closed: make(chan struct{}), done: make(chan struct{})}
	s.http = &http.Server{
		Handler:  h,
		ErrorLog: log.New(io.Discard, "", 0),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, place{}, location{id, c.(portConn).port})
		},
	}
	go func() {
		defer close(s.done)
		// The error is always that of the closed listener.
		_ = s.http.Serve(s)
	}()
	return s
}

// dial returns the caller's end of a new connection to the server.
func (s *server) dial(ctx context.Context, port int) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case s.conns <- portConn{far, port}:
		return near, nil
	case <-s.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// stop ends the server and all its connections.
func (s *server) stop() {
	if err := s.http.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		panic(err) // closing channels cannot fail
	}
	s.Close()
	<-s.done
}

// Accept implements net.Listener.
func (s *server) Accept() (net.Conn, error) {
	select {
	case c := <-s.conns:
		return c, nil
	case <-s.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (s *server) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

// Addr implements net.Listener.
func (s *server) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }
