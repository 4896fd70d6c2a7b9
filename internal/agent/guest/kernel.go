package guest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// exitGrace is how long a killed kernel may take to be gone.
const exitGrace = 5 * time.Second

// kernel is one running kernel. It is used under Driver.slot.
type kernel struct {
	pid      int
	control  *net.UnixConn
	frames   frameReader
	out, err *sink
	nursery  *nursery

	over chan struct{}      // closed when the kernel has ended
	exit syscall.WaitStatus // valid then
}

// startKernel forks a kernel from a warm nursery.
func startKernel(n *nursery, user User) (*kernel, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("kernel: socket pair: %w", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "kernel")
	defer theirs.Close()
	control, err := unixConn(pair[0])
	if err != nil {
		return nil, err
	}
	k := &kernel{control: control, nursery: n, frames: frameReader{r: control}, over: make(chan struct{})}
	var outEnd, errEnd *os.File
	k.out, outEnd, err = openSink(user)
	if err == nil {
		defer outEnd.Close()
		k.err, errEnd, err = openSink(user)
	}
	if err == nil {
		defer errEnd.Close()
		k.pid, err = n.fork(theirs, outEnd, errEnd)
	}
	if err != nil {
		k.close()
		return nil, err
	}
	go k.watch()
	go k.out.run()
	go k.err.run()
	return k, nil
}

// openSink makes an output pipe; the second result is the end to write to.
func openSink(user User) (*sink, *os.File, error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, fmt.Errorf("output pipe: %w", err)
	}
	writer := os.NewFile(uintptr(fds[1]), "output")
	// So that a child may open /dev/stdout. Without it that one thing fails.
	_ = unix.Fchown(fds[1], user.UID, user.GID)
	if err := unix.SetNonblock(fds[0], true); err != nil {
		_ = unix.Close(fds[0])
		_ = writer.Close()
		return nil, nil, fmt.Errorf("output pipe: %w", err)
	}
	s, err := newSink(os.NewFile(uintptr(fds[0]), "output"))
	if err != nil {
		_ = writer.Close()
		return nil, nil, err
	}
	return s, writer, nil
}

// call sends a request and waits for its done frame; it is for requests that run no user code.
func (k *kernel) call(request map[string]any, patience time.Duration) error {
	request["id"] = "agent"
	frame, err := encodeFrame(request)
	if err != nil {
		return err
	}
	if err := k.control.SetDeadline(time.Now().Add(patience)); err != nil {
		return fmt.Errorf("kernel: %w", err)
	}
	if _, err := k.control.Write(frame); err != nil {
		return fmt.Errorf("kernel: %q: %w", request["op"], err)
	}
	var f kernelFrame
	if err := k.frames.next(&f); err != nil {
		return fmt.Errorf("kernel: %q: %w", request["op"], err)
	}
	if f.Op != "done" || f.ID != "agent" {
		return fmt.Errorf("kernel: %q: answered by %q", request["op"], f.Op)
	}
	return nil
}

// interrupt sends the kernel and its children what Ctrl-C sends, and wakes
// those that stopped themselves.
func (k *kernel) interrupt() {
	_ = unix.Kill(-k.pid, unix.SIGINT)
	_ = unix.Kill(-k.pid, unix.SIGCONT)
}

// destroy ends the kernel and every process of the user, and returns how the
// kernel ended. notice is how long news of an end of its own may take.
func (k *kernel) destroy(user User, notice time.Duration) (syscall.WaitStatus, error) {
	defer k.close()
	over := k.ended(notice)
	// Whoever is left shares the group, or is found by its user.
	_ = unix.Kill(-k.pid, unix.SIGKILL)
	err := user.killAll()
	if err == nil && !over && !k.ended(exitGrace) {
		err = errors.New("kernel: killed and not gone in time")
	}
	if err != nil {
		return 0, err
	}
	return k.exit, nil
}

// watch notes how the kernel ends. A process that a cell left behind may hold
// the other end of the control socket: it must not keep us waiting.
func (k *kernel) watch() {
	select {
	case k.exit = <-k.nursery.exit(k.pid):
		k.nursery.forget(k.pid)
		close(k.over)
		_ = k.control.CloseRead()
	case <-k.nursery.gone:
	}
}

// ended waits for the kernel's end.
func (k *kernel) ended(patience time.Duration) bool {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-k.over:
		return true
	case <-k.nursery.gone:
		return false
	case <-timer.C:
		return false
	}
}

func (k *kernel) close() {
	_ = k.control.Close()
	for _, s := range []*sink{k.out, k.err} {
		if s != nil {
			s.close()
		}
	}
}
