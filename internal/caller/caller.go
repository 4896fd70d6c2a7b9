// Package caller has the connections on which a server's callers come, made so that a short request
// costs the Go runtime little. What net/http does with them is the same, but for two things that it
// does for every request and that short ones do not need.
//
// # A caller that leaves
//
// While a handler runs, net/http reads a byte ahead in a goroutine of its own, and cancels the
// request's context if that fails: the caller has gone. Beginning and ending this wakes threads
// twice, which takes a fifth of the processor time of a forwarded request. Here that read comes
// back at once, with nothing and without an error, which ends net/http's attempt; a request that
// lasts longer than Grace is watched from then on, all of them by one goroutine (departures).
//
// Such a read is known by its length of one byte while a request is under way (ConnState). Others
// of that length are rare, but exist: a buffer may have room for no more. They are not harmed: only
// one read in a request is answered so, and whoever reads anything else tries again.
//
// Connections with TLS, and HTTP/2, are watched by net/http as ever.
//
// # Deadlines
//
// net/http sets eight deadlines in a request, and each is a change of the runtime's timers. Here
// the runtime learns of one only when a call has to wait and no earlier one is set (deadline).
package caller

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool/internal/quiet"
)

// Grace is how long a request lasts before its caller is watched.
const Grace = 10 * time.Millisecond

// A Listener accepts the connections of callers.
type Listener struct {
	*net.TCPListener
	departures *departures
	closing    sync.Once
}

// Listen makes a Listener of l, whose owner calls Attend for its server, once.
func Listen(l *net.TCPListener) (*Listener, error) {
	d, err := newDepartures()
	if err != nil {
		return nil, err
	}
	return &Listener{TCPListener: l, departures: d}, nil
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	tcp, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		_ = tcp.Close()
		return nil, err
	}
	c := &conn{tcp: tcp, raw: raw, departures: l.departures,
		in: deadline{tell: tcp.SetReadDeadline}, out: deadline{tell: tcp.SetWriteDeadline}}
	l.departures.use()
	return c, nil
}

// Close implements net.Listener.
func (l *Listener) Close() error {
	l.closing.Do(l.departures.release)
	return l.TCPListener.Close()
}

// Attend has srv, which is to serve l, tell the connections of l what it does with them. It may be
// given them within others, which say so by a method NetConn.
func (l *Listener) Attend(srv *http.Server) {
	contextOf, stateOf := srv.ConnContext, srv.ConnState
	srv.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if contextOf != nil {
			ctx = contextOf(ctx, c)
		}
		if own := within(c); own != nil {
			ctx = own.attend(ctx)
		}
		return ctx
	}
	srv.ConnState = func(c net.Conn, state http.ConnState) {
		if own := within(c); own != nil {
			own.turn(state)
		}
		if stateOf != nil {
			stateOf(c, state)
		}
	}
}

// within returns the connection of a Listener in c, nil if there is none or if TLS is around it.
func within(c net.Conn) *conn {
	for {
		switch outer := c.(type) {
		case *conn:
			return outer
		case *tls.Conn:
			return nil
		case interface{ NetConn() net.Conn }:
			c = outer.NetConn()
		default:
			return nil
		}
	}
}

// A conn is a caller's connection.
type conn struct {
	tcp        *net.TCPConn
	raw        syscall.RawConn
	departures *departures
	in, out    deadline
	closing    sync.Once

	// ahead says that the next read of one byte may be net/http's, for a request under way.
	ahead atomic.Bool
	// mu guards the fields below it.
	mu sync.Mutex
	// request is raised when a request begins, and when it ends.
	request uint64
	// id is that under which departures watches it, 0 while it does not.
	id uint64
	// leave cancels the contexts of all requests; nil before there are any.
	leave context.CancelFunc
}

// attend returns the context of c's requests.
func (c *conn) attend(ctx context.Context) context.Context {
	ctx, leave := context.WithCancel(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leave = leave
	return ctx
}

// turn notes what the server does with c.
func (c *conn) turn(state http.ConnState) {
	active := state == http.StateActive
	c.ahead.Store(active)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.request++
	if c.id != 0 {
		c.departures.forget(c)
	}
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (n int, err error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(p) == 1 && c.ahead.CompareAndSwap(true, false) {
		c.departures.expect(c)
		return 0, nil
	}
	var errno syscall.Errno
	err = c.in.do(c.raw.Read, func(fd uintptr) bool {
		n, errno = quiet.Read(int(fd), p)
		return errno != unix.EAGAIN
	})
	switch {
	case err != nil:
		return 0, err
	case errno != 0:
		return 0, os.NewSyscallError("read", errno)
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// Write implements net.Conn.
func (c *conn) Write(p []byte) (written int, err error) {
	for written < len(p) {
		var n int
		var errno syscall.Errno
		err := c.out.do(c.raw.Write, func(fd uintptr) bool {
			n, errno = quiet.Write(int(fd), p[written:])
			return errno != unix.EAGAIN
		})
		if err != nil {
			return written, err
		}
		if errno != 0 {
			return written, os.NewSyscallError("write", errno)
		}
		written += n
	}
	return written, nil
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.closing.Do(func() {
		c.turn(http.StateClosed)
		c.mu.Lock()
		leave := c.leave
		c.mu.Unlock()
		if leave != nil {
			leave()
		}
		c.departures.release()
	})
	return c.tcp.Close()
}

// CloseWrite ends what is sent.
func (c *conn) CloseWrite() error { return c.tcp.CloseWrite() }

// LocalAddr implements net.Conn.
func (c *conn) LocalAddr() net.Addr { return c.tcp.LocalAddr() }

// RemoteAddr implements net.Conn.
func (c *conn) RemoteAddr() net.Addr { return c.tcp.RemoteAddr() }

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error {
	c.in.set(t)
	c.out.set(t)
	return nil
}

// SetReadDeadline implements net.Conn.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.in.set(t)
	return nil
}

// SetWriteDeadline implements net.Conn.
func (c *conn) SetWriteDeadline(t time.Time) error {
	c.out.set(t)
	return nil
}
