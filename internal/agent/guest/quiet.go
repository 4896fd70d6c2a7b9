package guest

import (
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Go's runtime has a thread (sysmon) that sleeps while nothing runs, and that any
// system call wakes, which may block: it then looks every 20 µs for such that do. Under
// gVisor each look costs more than the call, and all of them together most of a short
// execution. Calls on non-blocking descriptors cannot block; made without the runtime's knowledge they
// let that thread sleep.

// quietListener accepts connections that are read and written that way.
type quietListener struct{ *net.TCPListener }

// Accept implements net.Listener.
func (l quietListener) Accept() (net.Conn, error) {
	conn, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return &quietTCP{TCPConn: conn, quiet: quiet{raw}}, nil
}

// quietTCP is a TCP connection; what is not a read or a write is net's.
type quietTCP struct {
	*net.TCPConn
	quiet quiet
}

// Read implements net.Conn.
func (c *quietTCP) Read(p []byte) (int, error) { return c.quiet.Read(p) }

// Write implements net.Conn.
func (c *quietTCP) Write(p []byte) (int, error) { return c.quiet.Write(p) }

// quietUnix is the same of a Unix socket.
type quietUnix struct {
	*net.UnixConn
	quiet quiet
}

func newQuietUnix(conn *net.UnixConn) (*quietUnix, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return &quietUnix{UnixConn: conn, quiet: quiet{raw}}, nil
}

// Read implements net.Conn.
func (c *quietUnix) Read(p []byte) (int, error) { return c.quiet.Read(p) }

// Write implements net.Conn.
func (c *quietUnix) Write(p []byte) (int, error) { return c.quiet.Write(p) }

// quiet reads and writes a non-blocking descriptor. Deadlines of its owner count.
type quiet struct{ raw syscall.RawConn }

// Read implements io.Reader.
func (q quiet) Read(p []byte) (n int, err error) {
	if len(p) == 0 {
		return 0, nil
	}
	var errno syscall.Errno
	err = q.raw.Read(func(fd uintptr) bool {
		n, errno = quietRead(int(fd), p)
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
func (q quiet) Write(p []byte) (written int, err error) {
	for written < len(p) {
		var n int
		var errno syscall.Errno
		err := q.raw.Write(func(fd uintptr) bool {
			n, errno = quietWrite(int(fd), p[written:])
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

// quietRead is read(2) of a non-blocking descriptor into p, which is not empty.
func quietRead(fd int, p []byte) (int, syscall.Errno) {
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}

// quietWrite is write(2) of p, which is not empty, to a non-blocking descriptor.
func quietWrite(fd int, p []byte) (int, syscall.Errno) {
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}
