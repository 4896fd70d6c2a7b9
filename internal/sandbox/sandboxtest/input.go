package sandboxtest

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/sandbox"
)

// input is the standard input of a sandbox's first process, which sends back what it reads
// there. It is a pair of real sockets: what nobody has read yet is kept.
type input struct {
	starter *Fake         // who alone may take the channel
	near    chan net.Conn // holds the host's end until it is taken
	far     net.Conn      // nil without a channel
	read    int64         // set before over is closed
	over    chan struct{} // closed when the process has read all
}

func newInput(starter *Fake, channel bool) (*input, error) {
	in := &input{starter: starter, near: make(chan net.Conn, 1), over: make(chan struct{})}
	if !channel {
		close(in.over)
		return in, nil
	}
	near, far, err := socketPair()
	if err != nil {
		return nil, err
	}
	in.near <- near
	in.far = far
	go func() {
		defer close(in.over)
		in.read, _ = io.Copy(in.far, in.far) // ends with either end
	}()
	return in, nil
}

func socketPair() (near, far net.Conn, err error) {
	syscall.ForkLock.RLock() // not every system has SOCK_CLOEXEC
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fds[0])
		syscall.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	var conns [2]net.Conn
	var errs [2]error
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "channel")
		conns[i], errs[i] = net.FileConn(f)
		_ = f.Close() // net.FileConn duplicates it
	}
	return conns[0], conns[1], errors.Join(errs[:]...)
}

// take returns the host's end, or nil.
func (in *input) take() net.Conn {
	select {
	case conn := <-in.near:
		return conn
	default:
		return nil
	}
}

// end is what the end of the process does.
func (in *input) end() {
	if in.far != nil {
		_ = in.far.Close()
	}
	<-in.over
	if conn := in.take(); conn != nil {
		_ = conn.Close()
	}
}

// channel hands out the channel of b, which runs.
func (f *Fake) channel(id sandbox.ID, b *fakeSandbox) (net.Conn, error) {
	if b.input.starter == f {
		if conn := b.input.take(); conn != nil {
			return conn, nil
		}
	}
	return nil, sandpool.Errorf(sandpool.Conflict, "", "port",
		"The sandbox %q has no channel, or it is taken.", id)
}

// Input waits until the first process of a running sandbox has met the end of its standard
// input, and returns how many bytes it has read there.
func (f *Fake) Input(ctx context.Context, id sandbox.ID) (int64, error) {
	w := f.world
	w.mu.Lock()
	b := w.sandboxes[id]
	running := b != nil && b.running
	w.mu.Unlock()
	if !running {
		return 0, ended(id)
	}
	select {
	case <-b.input.over:
		return b.input.read, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}
