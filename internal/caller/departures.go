package caller

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool/internal/quiet"
)

// departures notices callers that leave while a request of theirs is under way. Requests wait in
// young for Grace; most are over then. The others are given to epoll(7), whose descriptor one
// goroutine waits for. The order of locks: that of a conn, then mu.
type departures struct {
	poll *os.File
	raw  syscall.RawConn

	// mu guards the fields below it.
	mu sync.Mutex
	// users are the listener and its connections; the last one closes poll.
	users int
	// young are requests whose callers are not watched yet, the oldest first. While there are any,
	// a timer is set.
	young []underWay
	// watched are connections by their ids, which are not used twice.
	watched map[uint64]*conn
	ids     uint64
}

// underWay is a request, with its number in its connection.
type underWay struct {
	conn    *conn
	request uint64
	since   time.Time
}

func newDepartures() (*departures, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("watch callers: %w", os.NewSyscallError("epoll_create1", err))
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, errors.Join(fmt.Errorf("watch callers: %w", err), unix.Close(fd))
	}
	poll := os.NewFile(uintptr(fd), "epoll")
	raw, err := poll.SyscallConn()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("watch callers: %w", err), poll.Close())
	}
	d := &departures{poll: poll, raw: raw, users: 1, watched: map[uint64]*conn{}}
	go d.wait()
	return d, nil
}

func (d *departures) use() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.users++
}

func (d *departures) release() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.users--; d.users == 0 {
		_ = d.poll.Close() // which ends wait
	}
}

// expect has the caller on c watched if its request is still under way after Grace.
func (d *departures) expect(c *conn) {
	c.mu.Lock()
	request := c.request
	c.mu.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.young = append(d.young, underWay{c, request, time.Now()})
	if len(d.young) == 1 {
		time.AfterFunc(Grace, d.sweep)
	}
}

// sweep watches the callers of requests that have lasted for Grace.
func (d *departures) sweep() {
	d.mu.Lock()
	old := 0
	for old < len(d.young) && time.Since(d.young[old].since) >= Grace {
		old++
	}
	grown := append([]underWay(nil), d.young[:old]...)
	n := copy(d.young, d.young[old:])
	clear(d.young[n:])
	if d.young = d.young[:n]; n > 0 {
		time.AfterFunc(Grace, d.sweep)
	}
	d.mu.Unlock()
	for _, u := range grown {
		d.watch(u)
	}
}

// watch watches the caller of u, if u is still under way.
func (d *departures) watch(u underWay) {
	c := u.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.request != u.request {
		return
	}
	d.mu.Lock()
	d.ids++
	c.id = d.ids
	d.watched[c.id] = c
	d.mu.Unlock()
	// Data that comes is a request sent ahead, and tells nothing.
	event := unix.EpollEvent{Events: unix.EPOLLRDHUP | unix.EPOLLONESHOT,
		Fd: int32(c.id), Pad: int32(c.id >> 32)}
	if err := c.control(func(fd int) error {
		return d.control(func(poll int) error {
			return unix.EpollCtl(poll, unix.EPOLL_CTL_ADD, fd, &event)
		})
	}); err != nil {
		d.remove(c)
	}
}

// forget ends watch. The caller holds c.mu.
func (d *departures) forget(c *conn) {
	// A descriptor that is closed is not watched any more.
	_ = c.control(func(fd int) error {
		return d.control(func(poll int) error {
			return unix.EpollCtl(poll, unix.EPOLL_CTL_DEL, fd, nil)
		})
	})
	d.remove(c)
}

func (d *departures) remove(c *conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.watched, c.id)
	c.id = 0
}

// wait cancels the requests of callers that leave, until poll is closed.
func (d *departures) wait() {
	var events [64]unix.EpollEvent
	for {
		n := 0
		err := d.raw.Read(func(fd uintptr) bool {
			var err error
			n, err = unix.EpollWait(int(fd), events[:], 0)
			return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
		})
		if err != nil {
			return
		}
		for _, e := range events[:max(0, n)] {
			d.mu.Lock()
			c := d.watched[uint64(uint32(e.Fd))|uint64(uint32(e.Pad))<<32]
			d.mu.Unlock()
			if c != nil {
				c.departed()
			}
		}
	}
}

// departed ends the requests of a caller of whom nothing more will come. What has come already is
// answered first, as a client that sends several requests at once may then send no more.
func (c *conn) departed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.id == 0 {
		return
	}
	gone := false
	if err := c.control(func(fd int) error {
		var p [1]byte
		n, errno := quiet.Peek(fd, p[:])
		gone = errno != unix.EAGAIN && n <= 0
		return nil
	}); err == nil && gone && c.leave != nil {
		c.leave()
	}
}

// control calls f with c's descriptor.
func (c *conn) control(f func(fd int) error) error { return control(c.raw, f) }

// control calls f with poll's descriptor.
func (d *departures) control(f func(fd int) error) error { return control(d.raw, f) }

func control(raw syscall.RawConn, f func(fd int) error) error {
	var done error
	if err := raw.Control(func(fd uintptr) { done = f(int(fd)) }); err != nil {
		return err
	}
	return done
}
