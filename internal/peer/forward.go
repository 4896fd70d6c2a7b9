package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/arm"
	"github.com/sandpool/sandpool/internal/pool"
	"github.com/sandpool/sandpool/internal/store"
)

const (
	// maxKept is the largest body that is kept for another try.
	maxKept = 64 << 10
	// moveWait is how long a request waits for another owner. An owner that dies is replaced
	// within 5 s with the default patience.
	moveWait = 8 * time.Second
	// movePause is the time between two questions for the owner.
	movePause = 100 * time.Millisecond
	// dialTime bounds a new connection to another server.
	dialTime = 2 * time.Second
	// watchEvery is how often a request that takes long asks whether its server has died.
	watchEvery = time.Second
	// idleConns bounds the connections to each server that wait for their next request.
	idleConns = 256
)

// Pools is what a Forwarder needs of package pool.
type Pools interface {
	// Seat returns which server owns a pool, as far as is known or, with anew, as it is now.
	Seat(ctx context.Context, id sandpool.PoolID, anew bool) (pool.Seat, error)
	// Emptiest returns the server that is to own the next new pool.
	Emptiest() pool.Seat
	// Gone reports whether a server has died.
	Gone(name string) bool
}

// Options are the parts of a Forwarder that the server chooses. All are required.
type Options struct {
	// Find returns the pool that a request is for, and false if it is for none; make says that
	// the request may make the pool.
	Find func(r *http.Request) (id sandpool.PoolID, make, ok bool)
	// Fail writes an error as the answer.
	Fail func(w http.ResponseWriter, r *http.Request, err error)
}

// Forwarder hands requests to the servers that own their pools.
type Forwarder struct {
	log      *slog.Logger
	pools    Pools
	o        Options
	one, two *http.Transport // for HTTP/1.1, and for HTTP/2
	buffers  sync.Pool
}

// New returns a Forwarder that shows the identity to others.
func New(log *slog.Logger, pools Pools, id *Identity, o Options) (*Forwarder, error) {
	if log == nil || pools == nil || id == nil || o.Find == nil || o.Fail == nil {
		return nil, errors.Join(errNoIdentity, errors.New("peers: all parts are required"))
	}
	f := &Forwarder{log: log, pools: pools, o: o}
	f.buffers.New = func() any { b := make([]byte, 32<<10); return &b }
	transport := func(two bool) *http.Transport {
		var p http.Protocols
		p.SetHTTP1(!two)
		p.SetHTTP2(two)
		return &http.Transport{
			DialContext:            (&net.Dialer{Timeout: dialTime}).DialContext,
			TLSClientConfig:        id.client(),
			TLSHandshakeTimeout:    dialTime,
			Protocols:              &p,
			DisableCompression:     true,
			MaxIdleConnsPerHost:    idleConns,
			IdleConnTimeout:        90 * time.Second,
			ExpectContinueTimeout:  time.Second,
			MaxResponseHeaderBytes: 1 << 20,
		}
	}
	f.one, f.two = transport(false), transport(true)
	return f, nil
}

// Close closes the connections that wait for their next request.
func (f *Forwarder) Close() {
	f.one.CloseIdleConnections()
	f.two.CloseIdleConnections()
}

// Middleware hands on the requests for pools of other servers, and the rest to next.
func (f *Forwarder) Middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, makes, ok := f.o.Find(r)
		if !ok {
			next.ServeHTTP(w, r)
			return
		}
		seat, err := f.pools.Seat(r.Context(), id, false)
		switch {
		case err != nil:
			f.o.Fail(w, r, err)
			return
		case seat.Server == "" && !seat.Here && makes && !wasHandedOn(r.Context()):
			seat = f.pools.Emptiest()
		}
		switch {
		case seat.Here || seat.Server == "":
			next.ServeHTTP(w, r)
		case wasHandedOn(r.Context()):
			w.Header().Set(movedHeader, "1")
			w.WriteHeader(http.StatusMisdirectedRequest)
		default:
			t := &try{f: f, w: w, r: r, next: next, id: id, seat: seat}
			t.run()
		}
	})
}

// try is a request that is handed on, once or several times.
type try struct {
	f    *Forwarder
	w    http.ResponseWriter
	r    *http.Request
	next http.Handler
	id   sandpool.PoolID
	seat pool.Seat
	kept []byte // the body, if it is kept
	body *once

	tries int
}

// Errors of one try.
var (
	errMoved = errors.New("the server does not own the pool any more")
	errGone  = errors.New("the server has died")
)

func (t *try) run() {
	if err := t.keep(); err != nil {
		return // the caller has gone, and nobody can be told
	}
	// Answers may begin before the request has ended.
	_ = http.NewResponseController(t.w).EnableFullDuplex() // HTTP/2 has no need of it
	for end := time.Now().Add(moveWait); ; {
		t.tries++
		err := t.once()
		if err == nil || t.r.Context().Err() != nil {
			return
		}
		var dial *net.OpError
		again := (errors.Is(err, errMoved) || errors.As(err, &dial) && dial.Op == "dial") &&
			(t.kept != nil || !t.body.used())
		if !again || time.Now().After(end) {
			t.f.log.Debug("a request was not handed on", "server", t.seat.Server, "error", err)
			t.f.o.Fail(t.w, t.r, t.explain(err))
			return
		}
		if t.await(err) {
			return
		}
	}
}

// keep reads a small body, so that it can be sent again.
func (t *try) keep() error {
	n := t.r.ContentLength
	upgrade := t.r.Header.Get("Upgrade") != ""
	if n == 0 && !upgrade {
		t.kept = []byte{}
	}
	t.body = &once{ReadCloser: t.r.Body}
	if n <= 0 || n > maxKept || upgrade || t.r.Header.Get("Expect") != "" {
		return nil
	}
	kept := make([]byte, n)
	if _, err := io.ReadFull(t.r.Body, kept); err != nil {
		return err
	}
	t.kept = kept
	return nil
}

// await waits until something is known of the owner that the try before did not know, and reports
// whether the request was served here meanwhile.
func (t *try) await(err error) bool {
	ctx := t.r.Context()
	if !errors.Is(err, errMoved) || t.tries > 1 {
		pause := time.NewTimer(movePause)
		defer pause.Stop()
		select {
		case <-pause.C:
		case <-ctx.Done():
			return true
		}
	}
	seat, err := t.f.pools.Seat(ctx, t.id, true)
	switch {
	case err != nil:
		t.f.o.Fail(t.w, t.r, err)
	case seat.Here || seat.Server == "":
		r := t.r.Clone(ctx)
		if t.kept != nil {
			r.Body = io.NopCloser(bytes.NewReader(t.kept))
		}
		t.next.ServeHTTP(t.w, r)
	default:
		t.seat = seat
		return false
	}
	return true
}

// once hands the request on. An error says that no answer has begun.
func (t *try) once() (err error) {
	if t.seat.Address == "" {
		return unreachable(t.id, t.seat.Server,
			"it has no address for other servers (peers.listen)")
	}
	ctx, cancel := context.WithCancelCause(t.r.Context())
	defer cancel(nil)
	stop := t.watch(cancel)
	defer stop()
	transport := t.f.one
	if t.r.ProtoMajor >= 2 {
		transport = t.f.two
	}
	p := &httputil.ReverseProxy{
		Rewrite: t.rewrite, Transport: transport, FlushInterval: -1, BufferPool: t.f,
		ErrorLog: slog.NewLogLogger(t.f.log.Handler(), slog.LevelDebug),
		ModifyResponse: func(resp *http.Response) error {
			if resp.Header.Get(movedHeader) != "" {
				return errMoved
			}
			resp.Header.Del("X-Ms-Request-Id") // which this server's answer has
			return nil
		},
		ErrorHandler: func(_ http.ResponseWriter, _ *http.Request, failed error) {
			err = failed
			if cause := context.Cause(ctx); errors.Is(cause, errGone) {
				err = cause
			}
		},
	}
	r := t.r.WithContext(ctx)
	switch {
	case len(t.kept) > 0:
		// With GetBody a request is sent again by itself when its idle connection turns out closed.
		r.GetBody = func() (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(t.kept)), nil
		}
		r.Body, _ = r.GetBody()
	case t.kept != nil:
		r.Body = http.NoBody
	default:
		r.Body = io.NopCloser(t.body)
	}
	p.ServeHTTP(taker{t.w}, r)
	return err
}

// watch cancels a request whose server dies, so that nobody waits for a machine that is gone.
func (t *try) watch(cancel context.CancelCauseFunc) (stop func()) {
	var mu sync.Mutex // guards timer and over
	var timer *time.Timer
	over := false
	look := func() {
		mu.Lock()
		defer mu.Unlock()
		if over {
			return
		}
		if t.f.pools.Gone(t.seat.Server) {
			cancel(errGone)
			return
		}
		timer.Reset(watchEvery)
	}
	mu.Lock()
	defer mu.Unlock()
	timer = time.AfterFunc(watchEvery, look)
	return func() {
		mu.Lock()
		defer mu.Unlock()
		over = true
		timer.Stop()
	}
}

// rewrite makes the request that goes to the other server.
func (t *try) rewrite(p *httputil.ProxyRequest) {
	in, out := p.In, p.Out
	out.URL.Scheme, out.URL.Host, out.URL.Opaque = "https", t.seat.Address, ""
	out.URL.Path, out.URL.RawPath, out.URL.RawQuery = "/", "", ""
	out.Host = in.Host
	for name := range out.Header {
		if strings.HasPrefix(name, prefix) {
			delete(out.Header, name)
		}
	}
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host",
		"X-Forwarded-Proto"} {
		if values, ok := in.Header[name]; ok {
			out.Header[name] = values // what becomes of them is the owner's to decide
		}
	}
	if _, ok := in.Header["User-Agent"]; !ok {
		out.Header["User-Agent"] = nil
	}
	uri := in.RequestURI
	if uri == "" {
		uri = in.URL.RequestURI()
	}
	out.Header.Set(uriHeader, uri)
	out.Header.Set(fromHeader, in.RemoteAddr)
	to := in.Host
	if local, ok := in.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		to = local.String()
	}
	out.Header.Set(toHeader, to)
	if in.TLS != nil {
		out.Header.Set(tlsHeader, "tls "+in.TLS.ServerName)
	}
	if id := arm.TraceID(in.Context()); id != "" {
		out.Header.Set(traceHeader, id)
	}
}

// explain is the error of a request that could not be handed on, in words for its caller.
func (t *try) explain(err error) error {
	var own *sandpool.Error
	switch {
	case errors.As(err, &own):
		return err
	case errors.Is(err, errMoved):
		return store.NotOwner(t.id)
	case errors.Is(err, errGone):
		return unreachable(t.id, t.seat.Server,
			"it died while it had the request, which may or may not have been carried out")
	}
	return &sandpool.Error{Class: sandpool.Unavailable, Code: "SessionPoolOwnerUnreachable",
		Target: "sessionPool", RetryAfter: time.Second, Err: err,
		Message: fmt.Sprintf("The server that has the session pool %q does not answer; try again.",
			t.id.Name)}
}

func unreachable(id sandpool.PoolID, server, why string) error {
	return &sandpool.Error{Class: sandpool.Unavailable, Code: "SessionPoolOwnerUnreachable",
		Target: "sessionPool", RetryAfter: time.Second,
		Message: fmt.Sprintf("The session pool %q is on the server %q: %s.", id.Name, server, why)}
}

// Get implements httputil.BufferPool.
func (f *Forwarder) Get() []byte { return *f.buffers.Get().(*[]byte) }

// Put implements httputil.BufferPool.
func (f *Forwarder) Put(b []byte) { f.buffers.Put(&b) }

// once is a body that knows whether any of it was read.
type once struct {
	io.ReadCloser
	mu   sync.Mutex // guards read
	read bool
}

// Read implements io.Reader.
func (o *once) Read(p []byte) (int, error) {
	o.mu.Lock()
	o.read = true
	o.mu.Unlock()
	return o.ReadCloser.Read(p)
}

func (o *once) used() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.read
}
