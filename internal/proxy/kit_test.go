package proxy

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/openapi/openapitest"
)

// described holds the answers of all tests to the description.
var described = openapitest.New("Containers")

func TestMain(m *testing.M) { os.Exit(described.End(m.Run())) }

// operation returns the described operation that r is for; other methods are not described.
func operation(r *http.Request) string {
	const pool = " /subscriptions/{s}/resourceGroups/{g}/sessionPools/{p}"
	switch r.Method {
	case http.MethodGet:
		if r.URL.Path == "/.management/tunnel" {
			return "GET" + pool + "/.management/tunnel"
		}
		return "GET" + pool + "/{path}"
	case http.MethodPut, http.MethodPost, http.MethodDelete, http.MethodPatch:
		return r.Method + pool + "/{path}"
	}
	return ""
}

// A container is what a sandbox is to the proxy: ports that can be dialed, until it ends. Its
// streams are Unix sockets, as those of the engine are.
type container struct {
	t      testing.TB
	id     sandpool.SandboxID
	dir    string
	ctx    context.Context
	cancel context.CancelCauseFunc
	dialed atomic.Int64

	mu    sync.Mutex
	ports map[int]func(context.Context) (net.Conn, error)
	open  []net.Conn
}

var sandboxes atomic.Int64

func newContainer(t testing.TB) *container {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	c := &container{t: t, dir: t.TempDir(), ctx: ctx, cancel: cancel,
		ports: map[int]func(context.Context) (net.Conn, error){},
		id:    sandpool.SandboxID("s" + strings.Repeat("x", int(sandboxes.Add(1))))}
	t.Cleanup(func() { c.end("the test is over") })
	return c
}

func (c *container) Sandbox() sandpool.Sandbox { return sandpool.Sandbox{ID: c.id} }
func (c *container) Context() context.Context  { return c.ctx }

func (c *container) Dial(ctx context.Context, port int) (net.Conn, error) {
	c.mu.Lock()
	dial := c.ports[port]
	c.mu.Unlock()
	if c.ctx.Err() != nil {
		return nil, context.Cause(c.ctx)
	}
	if dial == nil {
		return nil, errors.New("connection refused")
	}
	conn, err := dial(ctx)
	if err == nil {
		c.dialed.Add(1)
		c.mu.Lock()
		c.open = append(c.open, conn)
		c.mu.Unlock()
	}
	return conn, err
}

// end ends the sandbox: its streams first, as it is with real ones, then the session.
func (c *container) end(why string) {
	c.mu.Lock()
	for _, conn := range c.open {
		_ = conn.Close()
	}
	c.mu.Unlock()
	c.cancel(sandpool.Errorf(sandpool.Ended, "", "", "The session ended: %s.", why))
}

// socket is where port is on this machine.
func (c *container) socket(port int) string { return filepath.Join(c.dir, strconv.Itoa(port)) }

// listen makes port one that l accepts connections of.
func (c *container) listen(port int) net.Listener {
	c.t.Helper()
	path := c.socket(port)
	l, err := net.Listen("unix", path)
	if err != nil {
		c.t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ports[port] = func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
	c.t.Cleanup(func() { _ = l.Close() })
	return l
}

// serve runs an HTTP server on port.
func (c *container) serve(port int, h http.Handler) {
	c.t.Helper()
	var p http.Protocols
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	srv := &http.Server{Handler: h, Protocols: &p, ErrorLog: slog.NewLogLogger(slog.DiscardHandler,
		0)}
	l := c.listen(port)
	go srv.Serve(l) //nolint:errcheck // it ends with the test
	c.t.Cleanup(func() { _ = srv.Close() })
}

// serveRaw hands each connection to port to f, which owns it.
func (c *container) serveRaw(port int, f func(net.Conn)) {
	c.t.Helper()
	l := c.listen(port)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go f(conn)
		}
	}()
}

// answers is a server that reads a request's head and answers text, whatever was asked.
func (c *container) answers(port int, text string) {
	c.serveRaw(port, func(conn net.Conn) {
		defer conn.Close()
		buf := make([]byte, 0, 4096)
		for !strings.Contains(string(buf), "\r\n\r\n") {
			p := make([]byte, 1024)
			n, err := conn.Read(p)
			if err != nil {
				return
			}
			buf = append(buf, p[:n]...)
		}
		_, _ = io.WriteString(conn, text)
	})
}

// front is a server as the product has it, with the proxy where its routes would be.
func front(t testing.TB, p *Proxy, to Session, target Target) *httptest.Server {
	t.Helper()
	return serveFunc(t, func(w http.ResponseWriter, r *http.Request) error {
		t := target
		t.Path = RawPath(r)
		return serve(p, w, r, to, t)
	})
}

// serve has p forward r.
func serve(p *Proxy, w http.ResponseWriter, r *http.Request, to Session, t Target) error {
	q, err := Check(w, r, t)
	if err != nil {
		return err
	}
	return p.Serve(q, to)
}

func serveFunc(t testing.TB, f func(http.ResponseWriter, *http.Request) error) *httptest.Server {
	t.Helper()
	respond := &arm.Responder{Log: slog.New(slog.DiscardHandler)}
	handler := respond.Handle(f)
	if _, test := t.(*testing.T); test { // and no benchmark
		handler = described.Handler(operation, handler)
	}
	srv := httptest.NewUnstartedServer(arm.Trace(handler))
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	srv.Config.Protocols = &protocols
	srv.Start()
	t.Cleanup(srv.Close)
	return srv
}

// newFront is a proxy in front of a new container whose port 8080 is served by h.
func newFront(t testing.TB, h http.Handler) (*httptest.Server, *container) {
	t.Helper()
	c := newContainer(t)
	c.serve(8080, h)
	p := New(Options{})
	t.Cleanup(p.Close)
	return front(t, p, c, Target{Port: 8080}), c
}
