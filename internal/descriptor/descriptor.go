// Package descriptor sees to it that a server has file descriptors left for what must go on.
//
// A process may have so many descriptors open and no more (RLIMIT_NOFILE, getrlimit(2)). Anybody
// who reaches the server's port takes one with each connection, before a token is asked for, while
// each sandbox needs some: its process, its channel, its memory's events, and a dozen while it
// starts. So the limit is raised at the start. Connections get a quarter of it, and as many
// requests may be under way, each of which takes two at most: a stream into a sandbox, and a
// connection that it has taken over, which is not one of the others any more. That leaves a
// quarter.
package descriptor

import (
	"container/list"
	"fmt"
	"net"
	"net/http"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Wanted is the limit that Raise asks for: half a million connections and sandboxes would be
// beyond every machine's memory.
const Wanted = 1 << 20

// Raise raises this process's limit as far as it may, up to Wanted, and returns what it is then.
// Programs that this one starts have the limit that it was started with.
func Raise() (limit uint64, err error) {
	var have unix.Rlimit
	if err := prlimit(nil, &have); err != nil {
		return 0, err
	}
	// Only with a capability (CAP_SYS_RESOURCE) may the upper limit be raised.
	for _, want := range []unix.Rlimit{{Cur: Wanted, Max: max(have.Max, Wanted)},
		{Cur: have.Max, Max: have.Max}} {
		if want.Cur > have.Cur && prlimit(&want, nil) == nil {
			return want.Cur, nil
		}
	}
	return have.Cur, nil
}

// prlimit is the system call. That of package syscall also has every new child inherit the limit.
func prlimit(to, old *unix.Rlimit) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE,
		uintptr(unsafe.Pointer(to)), uintptr(unsafe.Pointer(old)), 0, 0)
	if errno != 0 {
		return fmt.Errorf("limit of file descriptors: %w", errno)
	}
	return nil
}

// Bounds of the connections, whatever the limit.
const (
	fewest = 16
	most   = 16 << 10
)

// Beside is how many connections a listener may have that stands beside the API's, for what has no
// token: metrics and the challenges of an authority.
const Beside = 64

// Share returns how many connections a server may have under a limit of descriptors, and how many
// requests under way.
func Share(limit uint64) int { return int(min(max(limit/4, fewest), most)) }

// Conns bounds the connections of an http.Server. Beyond the bound the connection that has been
// without a request for longest is closed; if all have one, it is the new connection.
type Conns struct {
	max int

	mu sync.Mutex
	// net.Conn without a request, the one that is so for longest first
	idle  *list.List
	conns map[net.Conn]*list.Element // of idle; nil of one with a request
}

// NewConns returns a bound of max connections.
func NewConns(max int) *Conns {
	return &Conns{max: max, idle: list.New(), conns: map[net.Conn]*list.Element{}}
}

// Watch is to be the ConnState of the server. What handlers have taken over (hijacked) is not
// counted any more: whoever got so far has shown a token.
func (c *Conns) Watch(conn net.Conn, state http.ConnState) {
	if surplus := c.note(conn, state); surplus != nil {
		_ = surplus.Close() // nobody waits for it
	}
}

// note notes the state of a connection and returns which one is to be closed, if any.
func (c *Conns) note(conn net.Conn, state http.ConnState) (surplus net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old, known := c.conns[conn]
	if old != nil {
		c.idle.Remove(old)
	}
	switch state {
	case http.StateNew, http.StateIdle:
		if known || state == http.StateNew {
			c.conns[conn] = c.idle.PushBack(conn)
		}
	case http.StateActive:
		if known {
			c.conns[conn] = nil
		}
	case http.StateClosed, http.StateHijacked:
		delete(c.conns, conn)
	}
	if len(c.conns) <= c.max {
		return nil
	}
	longest := c.idle.Front()
	if longest == nil {
		return nil
	}
	surplus = longest.Value.(net.Conn)
	c.idle.Remove(longest)
	delete(c.conns, surplus)
	return surplus
}
