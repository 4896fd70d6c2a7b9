package guest

import (
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/sandpool/sandpool/internal/quiet"
)

// linkConn is a connection that can be asked whether there is something to read, and how much it
// takes to write.
type linkConn interface {
	net.Conn
	syscall.Conn
	Offer(p []byte) (int, error)
}

// caller is the context of the requests on a link: it ends when the host hangs up. A link is
// strictly request and answer, so whatever can be read before the answer is a hang-up.
//
// To notice takes system calls and a goroutine, which a short cell must not pay for. So unlike
// that of other contexts, Err looks; and watching begins with a call of Done and goes
// on until the next one of rest. Without either nothing is noticed.
type caller struct {
	context.Context
	leave context.CancelFunc
	conn  linkConn
	raw   syscall.RawConn

	mu sync.Mutex
	// closed when the watching is over; nil while there is none; guarded by mu
	watched chan struct{}
}

// newCaller returns the caller at the other end of conn, who leaves with ctx at the latest.
func newCaller(ctx context.Context, conn linkConn) (*caller, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	c := &caller{conn: conn, raw: raw}
	c.Context, c.leave = context.WithCancel(ctx)
	return c, nil
}

// Err implements context.Context.
func (c *caller) Err() error {
	left := true
	if err := c.raw.Control(func(fd uintptr) { left = heard(fd) }); err != nil || left {
		c.leave()
	}
	return c.Context.Err()
}

// Done implements context.Context.
func (c *caller) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.watched == nil {
		c.watched = make(chan struct{})
		go c.watch(c.watched)
	}
	return c.Context.Done()
}

func (c *caller) watch(over chan<- struct{}) {
	defer close(over)
	// It calls heard until that is true, whenever the runtime says that it may be.
	if err := c.raw.Read(heard); err == nil || errors.Is(err, net.ErrClosed) {
		c.leave()
	}
}

// rest ends the watching, without which nothing else can read the connection.
func (c *caller) rest() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.watched == nil {
		return
	}
	// fails on a closed connection alone, which is watched no more
	_ = c.conn.SetReadDeadline(time.Unix(1, 0))
	<-c.watched
	_ = c.conn.SetReadDeadline(time.Time{})
	c.watched = nil
}

// heard reports whether a connection can be read, or is over.
func heard(fd uintptr) bool { return quiet.Poll(0, int(fd))[0] }
