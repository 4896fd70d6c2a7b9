package arm

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sandpool/sandpool/api"
)

// net/http refuses what it cannot read as a request by itself, in a line of plain text, before
// any handler is asked: a path with a wrong escape, headers that are too large, a version or
// a transfer coding that it does not know. Clients expect the error body there as well, and
// some fail on anything else. There is no hook for it; but such a refusal is the one thing that
// is written to a connection while no handler has been called for a request on it. So the
// connection is watched, and what is written then is replaced.

// Refusals makes srv refuse in the form of all other errors, and returns the listener that
// it must serve in place of l. Its Handler must have been set. Connections of a TLS listener
// (tls.NewListener) that are to speak HTTP/2 are left as they are: they have no such refusals. The
// server's ConnState hears of a connection before hands are shaken, and again when it is served.
func (rs *Responder) Refusals(srv *http.Server, l net.Listener) net.Listener {
	next := srv.Handler
	srv.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, ok := r.Context().Value(connKey{}).(marked); ok {
			c.mark(true)
		}
		next.ServeHTTP(w, r)
	})
	srv.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, connKey{}, c)
	}
	watched := srv.ConnState
	if watched == nil {
		watched = func(net.Conn, http.ConnState) {}
	}
	srv.ConnState = func(c net.Conn, state http.ConnState) {
		watched(c, state)
		if w, ok := c.(marked); ok && state == http.StateIdle { // the answer before is out
			w.mark(false)
		}
	}
	return &watching{Listener: l, rs: rs, maxHeader: srv.MaxHeaderBytes, note: watched,
		accepted: make(chan accepted), over: make(chan struct{})}
}

type connKey struct{}

// marked is a connection that is told whether a handler has been called for the request that
// is under way on it.
type marked interface{ mark(handled bool) }

// watching is a listener whose connections are watched. net/http knows HTTP/2 by the type of
// a connection, and which protocol it is shows when hands were shaken; so that is done here,
// for each connection in a goroutine of its own.
type watching struct {
	net.Listener
	rs        *Responder
	maxHeader int
	note      func(net.Conn, http.ConnState) // of a connection that shakes hands

	begin    sync.Once
	accepted chan accepted
	ending   sync.Once
	over     chan struct{} // closed when the listener is
}

// accepted is what Accept returns.
type accepted struct {
	conn net.Conn
	err  error
}

// Accept implements net.Listener.
func (l *watching) Accept() (net.Conn, error) {
	l.begin.Do(func() { go l.acceptAll() })
	select {
	case a := <-l.accepted:
		return a.conn, a.err
	case <-l.over:
		return nil, net.ErrClosed
	}
}

// acceptAll accepts connections until the listener is closed. An error waits until Accept takes
// it, whose caller knows how long to wait before the next attempt.
func (l *watching) acceptAll() {
	for {
		c, err := l.Listener.Accept()
		t, secure := c.(*tls.Conn)
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			l.pass(accepted{err: err})
		case secure:
			l.note(t, http.StateNew)
			go l.shakeHands(t)
		default:
			l.pass(accepted{conn: &watched{Conn: c, l: l}})
		}
	}
}

// pass hands a over to Accept.
func (l *watching) pass(a accepted) {
	select {
	case l.accepted <- a:
	case <-l.over:
		if a.conn != nil {
			_ = a.conn.Close()
			l.note(a.conn, http.StateClosed)
		}
	}
}

// Close implements net.Listener.
func (l *watching) Close() error {
	l.ending.Do(func() { close(l.over) })
	return l.Listener.Close()
}

// handshakeTime bounds a handshake.
const handshakeTime = 10 * time.Second

// shakeHands makes a connection ready to be accepted. Who forgot TLS learns it.
func (l *watching) shakeHands(t *tls.Conn) {
	_ = t.SetDeadline(time.Now().Add(handshakeTime))
	if err := t.Handshake(); err != nil {
		var plain tls.RecordHeaderError
		if errors.As(err, &plain) && plain.Conn != nil && isHTTP(plain.RecordHeader) {
			_, _ = plain.Conn.Write(l.refusal(http.StatusBadRequest, "InvalidRequest",
				"This is an HTTPS port, and the request came without TLS. Use an address that "+
					"begins with https://."))
		}
		_ = t.NetConn().Close()
		l.note(t, http.StateClosed)
		return
	}
	_ = t.SetDeadline(time.Time{})
	if t.ConnectionState().NegotiatedProtocol == "h2" {
		l.pass(accepted{conn: t})
		return
	}
	l.note(t, http.StateClosed) // the server knows another one, which is around it
	l.pass(accepted{conn: &watchedTLS{watched: &watched{Conn: t, l: l}, tls: t}})
}

// watched is a marked connection.
type watched struct {
	net.Conn
	l       *watching
	handled atomic.Bool
}

func (c *watched) mark(handled bool) { c.handled.Store(handled) }

// Write implements net.Conn.
func (c *watched) Write(p []byte) (int, error) {
	if c.handled.Load() {
		return c.Conn.Write(p)
	}
	instead := c.l.replace(p)
	if instead == nil {
		return c.Conn.Write(p)
	}
	if _, err := c.Conn.Write(instead); err != nil {
		return 0, err
	}
	return len(p), nil
}

// CloseWrite ends the sending side, as net/http does after a refusal.
func (c *watched) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// watchedTLS is a watched connection with TLS.
type watchedTLS struct {
	*watched
	tls *tls.Conn
}

// ConnectionState is what net/http shows to handlers.
func (c *watchedTLS) ConnectionState() tls.ConnectionState { return c.tls.ConnectionState() }

// isHTTP reports whether what came in place of a TLS record is the beginning of a request.
func isHTTP(head [5]byte) bool {
	switch string(head[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "PATCH", "DELET", "OPTIO":
		return true
	}
	return false
}

// refusalOf names what net/http refuses, by the status that it gives.
var refusalOf = map[int]struct{ code, message string }{
	http.StatusBadRequest: {"InvalidRequest",
		"The request cannot be read as HTTP. In its path a '%' must be followed by two " +
			"hexadecimal digits, so write %25 for the sign itself; header names and values must be of the characters that HTTP allows."},
	http.StatusExpectationFailed: {"ExpectationFailed",
		"The only value of the header Expect is 100-continue."},
	http.StatusRequestHeaderFieldsTooLarge: {"RequestHeaderFieldsTooLarge",
		"The request line and the headers are larger than the %d bytes that are allowed."},
	http.StatusNotImplemented: {"TransferEncodingNotSupported",
		"The only Transfer-Encoding is chunked."},
	http.StatusHTTPVersionNotSupported: {"HTTPVersionNotSupported",
		"The server speaks HTTP/1.1 and HTTP/1.0 here."},
}

// replace returns what is written instead of a refusal of net/http's, and nil if p is none.
func (l *watching) replace(p []byte) []byte {
	const version = "HTTP/1.1 "
	if !bytes.HasPrefix(p, []byte(version)) || len(p) < len(version)+3 {
		return nil
	}
	status, err := strconv.Atoi(string(p[len(version) : len(version)+3]))
	if err != nil || status < 400 {
		return nil
	}
	r, known := refusalOf[status]
	if !known {
		r.code, r.message = "InvalidRequest", "The request cannot be read as HTTP: "+
			http.StatusText(status)+"."
	}
	if status == http.StatusRequestHeaderFieldsTooLarge {
		r.message = fmt.Sprintf(r.message, l.maxHeader)
	}
	return l.refusal(status, r.code, r.message)
}

// refusal is a whole answer, after which the connection is closed.
func (l *watching) refusal(status int, code, message string) []byte {
	trace := newTraceID()
	l.rs.Log.Debug("unreadable request", "trace", trace, "status", status)
	body, err := json.Marshal(api.ErrorBody{Error: api.ErrorDetail{Code: code, Message: message,
		Details: []api.ErrorDetail{}, TraceID: trace}})
	if err != nil {
		return nil
	}
	return fmt.Appendf(nil, "HTTP/1.1 %d %s\r\nContent-Type: application/json; charset=utf-8\r\n"+
		"X-Content-Type-Options: nosniff\r\n"+
		"Cache-Control: no-store\r\nX-Ms-Error-Code: %s\r\n%s: %s\r\nX-Ms-Request-Id: %s\r\n"+
		"Content-Length: %d\r\nConnection: close\r\n\r\n%s",
		status, http.StatusText(status), code, OwnHeader, code, trace, len(body), body)
}
