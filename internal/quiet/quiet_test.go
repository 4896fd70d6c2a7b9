package quiet_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/sandpool/sandpool/internal/quiet"
	"golang.org/x/sys/unix"
)

// pairs returns both ends of one connection of each kind; the first end is quiet.
func pairs(t *testing.T) map[string][2]net.Conn {
	t.Helper()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	local, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][2]net.Conn{"tcp": connect(t,
		quiet.Listener{TCPListener: tcp.(*net.TCPListener)}), "unix": connect(t, local)}
	file, err := all["unix"][0].(*net.UnixConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := all["unix"][0].Close(); err != nil {
		t.Fatal(err)
	}
	own, err := quiet.FromFile(file)
	if err != nil {
		t.Fatal(err)
	}
	all["unix"] = [2]net.Conn{own, all["unix"][1]}
	return all
}

// connect returns the accepted end and the one that dialled.
func connect(t *testing.T, l net.Listener) [2]net.Conn {
	t.Helper()
	defer l.Close()
	far, err := net.Dial(l.Addr().Network(), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	near, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = errors.Join(near.Close(), far.Close()) })
	return [2]net.Conn{near, far}
}

// More than any buffer holds arrives whole in both directions, and then the end.
func TestWhole(t *testing.T) {
	for name, c := range pairs(t) {
		t.Run(name, func(t *testing.T) {
			sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
			go func() {
				_, _ = io.Copy(c[1], io.LimitReader(c[1], int64(len(sent))))
				_ = c[1].Close()
			}()
			go func() { _, _ = c[0].Write(sent) }()
			got, err := io.ReadAll(c[0])
			if err != nil || !bytes.Equal(got, sent) {
				t.Errorf("%d of %d bytes came back, error %v", len(got), len(sent), err)
			}
		})
	}
}

// A deadline ends a read that waits, and the connection can be used on.
func TestDeadline(t *testing.T) {
	for name, c := range pairs(t) {
		t.Run(name, func(t *testing.T) {
			if err := c[0].SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
				t.Fatal(err)
			}
			var timeout net.Error
			if _, err := c[0].Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) ||
				!errors.As(err, &timeout) || !timeout.Timeout() {
				t.Fatalf("a read beyond its deadline: %v", err)
			}
			if err := c[0].SetReadDeadline(time.Time{}); err != nil {
				t.Fatal(err)
			}
			if _, err := c[1].Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			if n, err := c[0].Read(make([]byte, 2)); n != 1 || err != nil {
				t.Errorf("a read after it: %d bytes, %v", n, err)
			}
		})
	}
}

// A close ends a read that waits, and writes to a peer that is gone fail.
func TestClosed(t *testing.T) {
	for name, c := range pairs(t) {
		t.Run(name, func(t *testing.T) {
			if err := c[1].Close(); err != nil {
				t.Fatal(err)
			}
			if _, err := c[0].Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Errorf("a read from a peer that is gone: %v", err)
			}
			var err error
			for range 1000 { // the first writes may go into buffers
				if _, err = c[0].Write(make([]byte, 1<<16)); err != nil {
					break
				}
			}
			if err == nil {
				t.Error("a megabyte was written to nobody")
			}
			_ = c[0].Close()
			if _, err := c[0].Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
				t.Errorf("a read after the close: %v", err)
			}
		})
	}
}

// Poll tells what can be read from what cannot, and a peer that is gone can be read.
func TestPoll(t *testing.T) {
	var fds [2][2]int
	for i := range fds {
		if err := unix.Pipe2(fds[i][:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fds[i][0])
	}
	poll := func(when string, want ...bool) {
		t.Helper()
		if got := quiet.Poll(time.Millisecond, fds[0][0], fds[1][0]); !slices.Equal(got, want) {
			t.Errorf("%s: readable are %v, want %v", when, got, want)
		}
	}
	poll("at first", false, false)
	if _, err := unix.Write(fds[1][1], []byte("x")); err != nil {
		t.Fatal(err)
	}
	poll("after a write", false, true)
	if err := errors.Join(unix.Close(fds[0][1]), unix.Close(fds[1][1])); err != nil {
		t.Fatal(err)
	}
	poll("after the end", true, true)
}

// Await returns at what there is to read, not at the end of its patience, and says of what.
func TestAwait(t *testing.T) {
	c := pairs(t)["unix"]
	conn := c[0].(*quiet.Unix)
	var pipe [2]int
	if err := unix.Pipe(pipe[:]); err != nil {
		t.Fatal(err)
	}
	await := func(when string, patience time.Duration, want ...bool) {
		t.Helper()
		begin := time.Now()
		if got := conn.Await(patience, pipe[0]); !slices.Equal(got, want) ||
			time.Since(begin) > time.Minute {
			t.Errorf("%s: %v after %v, want %v", when, got, time.Since(begin), want)
		}
	}
	await("nothing to read", time.Nanosecond, false, false)
	if _, err := unix.Write(pipe[1], []byte("x")); err != nil {
		t.Fatal(err)
	}
	await("the other one can be read", time.Hour, false, true)
	if _, err := c[1].Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	await("both can be read", time.Hour, true, true)
	if _, err := unix.Read(pipe[0], make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	await("the connection can be read", time.Hour, true, false)
	if err := errors.Join(conn.Close(), unix.Close(pipe[0]), unix.Close(pipe[1])); err != nil {
		t.Fatal(err)
	}
	await("after the end", time.Hour, true, false)
}

// A Peek says what a Read would, and takes nothing.
func TestPeek(t *testing.T) {
	for name, pair := range pairs(t) {
		near, far := pair[0], pair[1]
		peek := func() (n int, errno error) {
			t.Helper()
			raw, err := near.(syscall.Conn).SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			err = raw.Control(func(fd uintptr) {
				var p [4]byte
				got, no := quiet.Peek(int(fd), p[:])
				n, errno = got, no
			})
			if err != nil {
				t.Fatal(err)
			}
			return n, errno
		}
		if _, err := peek(); !errors.Is(err, unix.EAGAIN) {
			t.Errorf("%s: a peek at nothing: %v", name, err)
		}
		for _, text := range []string{"ab", "cd"} {
			if _, err := io.WriteString(far, text); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, 1) // waits until the text is there, and leaves some of it
			if _, err := io.ReadFull(near, got); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if n, err := peek(); n != 1 || !errors.Is(err, syscall.Errno(0)) {
					t.Errorf("%s: a peek sees %d bytes, %v", name, n, err)
				}
			}
			if _, err := io.ReadFull(near, got); err != nil || got[0] != text[1] {
				t.Errorf("%s: after a peek %q is read, %v", name, got, err)
			}
		}
		if err := far.Close(); err != nil {
			t.Fatal(err)
		}
		if n, err := near.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("%s: %d bytes after the end, %v", name, n, err)
		}
		if n, err := peek(); n != 0 || !errors.Is(err, syscall.Errno(0)) {
			t.Errorf("%s: a peek at the end: %d bytes, %v", name, n, err)
		}
	}
}
