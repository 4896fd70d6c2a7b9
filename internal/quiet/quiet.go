// Package quiet reads and writes connections without the Go runtime's knowledge.
//
// The runtime has a thread (sysmon) that sleeps while nothing runs, and that any
// system call wakes, which may block: it then looks every 20 µs for such that do. In a program that
// works for a moment and then waits, that takes more than the calls themselves: under gVisor most
// of a short execution, in the server a sixth of its processor time. Calls on non-blocking
// descriptors cannot block; made without the runtime's knowledge they let that thread sleep.
package quiet

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Listener accepts connections that are read and written quietly.
type Listener struct{ *net.TCPListener }

// Accept implements net.Listener.
func (l Listener) Accept() (net.Conn, error) {
	conn, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	own, err := FromTCP(conn)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return own, nil
}

// FromTCP returns conn as one that is read and written quietly.
func FromTCP(conn *net.TCPConn) (*TCP, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	return &TCP{TCPConn: conn, calls: calls{raw}}, nil
}

// TCP is a TCP connection. Read and Write are those of calls, which hide what TCPConn itself
// embeds; all else is net's.
type TCP struct {
	*net.TCPConn
	calls
}

// Unix is the same of a Unix socket.
type Unix struct {
	*net.UnixConn
	calls
}

// FromFile makes a connection of a Unix socket, and leaves socket to the caller (net.FileConn).
func FromFile(socket *os.File) (*Unix, error) {
	conn, err := net.FileConn(socket)
	if err != nil {
		return nil, err
	}
	own, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("%q is no Unix socket", socket.Name()), conn.Close())
	}
	raw, err := own.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, own.Close())
	}
	return &Unix{UnixConn: own, calls: calls{raw}}, nil
}

// Await waits until the next Read need not wait, or one of the other descriptors can be
// read, for at most patience. It says for each whether it is so, as Poll does, of the
// connection first. One that is closed is not waited for: a read will tell.
func (c *Unix) Await(patience time.Duration, others ...int) []bool {
	ready := make([]bool, 1+len(others))
	if err := c.raw.Control(func(fd uintptr) {
		ready = Poll(patience, append([]int{int(fd)}, others...)...)
	}); err != nil {
		ready[0] = true
	}
	return ready
}

// calls reads and writes a non-blocking descriptor. Deadlines of its owner count.
type calls struct{ raw syscall.RawConn }

// Read implements io.Reader.
func (c calls) Read(p []byte) (n int, err error) {
	if len(p) == 0 {
		return 0, nil
	}
	var errno syscall.Errno
	err = c.raw.Read(func(fd uintptr) bool {
		n, errno = Read(int(fd), p)
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

// Write implements io.Writer.
func (c calls) Write(p []byte) (written int, err error) {
	for written < len(p) {
		var n int
		var errno syscall.Errno
		err := c.raw.Write(func(fd uintptr) bool {
			n, errno = write(int(fd), p[written:])
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

// Offer is a Write of as much of p as is taken at once.
func (c calls) Offer(p []byte) (n int, err error) {
	var errno syscall.Errno
	for n < len(p) && errno == 0 {
		more := 0
		if err := c.raw.Control(func(fd uintptr) {
			more, errno = write(int(fd), p[n:])
		}); err != nil {
			return n, err
		}
		if errno == 0 {
			n += more
		}
	}
	if errno != 0 && errno != unix.EAGAIN {
		return n, os.NewSyscallError("write", errno)
	}
	return n, nil
}

// Read is read(2) of a non-blocking descriptor into p, which is not empty.
func Read(fd int, p []byte) (int, syscall.Errno) {
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&p[0])),
			uintptr(len(p)))
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}

// Peek is a Read of the socket fd that takes nothing out of it.
func Peek(fd int, p []byte) (int, syscall.Errno) {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd),
			uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)),
			unix.MSG_PEEK|unix.MSG_DONTWAIT, 0, 0)
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}

// Poll waits until one of the descriptors can be read or is over, for at most patience,
// and says for each whether it is so, looking at them in their order. It keeps the processor of the
// caller's goroutine for all that time. After an error all count as ready: a read will tell.
func Poll(patience time.Duration, fds ...int) []bool {
	polled := make([]unix.PollFd, len(fds))
	for i, fd := range fds {
		polled[i] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN} // descriptors are small
	}
	// of which the kernel takes what it waited
	left := unix.NsecToTimespec(max(0, patience.Nanoseconds()))
	errno := unix.EINTR
	for errno == unix.EINTR {
		_, _, errno = unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&polled[0])),
			uintptr(len(polled)),
			uintptr(unsafe.Pointer(&left)), 0, 0, 0)
	}
	ready := make([]bool, len(fds))
	for i, p := range polled {
		ready[i] = errno != 0 || p.Revents != 0
	}
	return ready
}

// write is write(2) of p, which is not empty, to a non-blocking descriptor.
func write(fd int, p []byte) (int, syscall.Errno) {
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&p[0])),
			uintptr(len(p)))
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}
