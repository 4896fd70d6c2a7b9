package guest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/agent/kernels"
	"github.com/sandpool/sandpool/internal/quiet"
	"golang.org/x/sys/unix"
)

// maxFrame bounds what a kernel may send at once. Its runner keeps well below;
// only a cell that forges frames goes beyond.
const maxFrame = 48 << 20

// exitGrace is how long a killed kernel may take to be gone.
const exitGrace = 5 * time.Second

// bootstrap reads the runner from descriptor 4, so that it is neither a file in the
// sandbox nor a command line that ps shows.
const bootstrap = "import os; exec(compile(os.fdopen(4).read(), 'sandpool-python', 'exec'))"

// kernel is one running kernel. It is used under Driver.slot.
type kernel struct {
	pid      int
	control  *quiet.Unix
	frames   *agent.FrameReader
	out, err *sink
	shared   *outputs // what it has gathered for both

	over chan struct{}      // closed when the kernel has ended
	exit syscall.WaitStatus // valid then
}

// startKernel starts an interpreter as the user. It answers its first call as soon
// as it has imported what it needs itself.
func startKernel(cfg Config, procs *reaper) (*kernel, error) {
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
	k := &kernel{control: control, frames: agent.NewFrameReader(control, maxFrame), over: make(chan struct{})}
	var outEnd, errEnd *os.File
	k.out, outEnd, err = openSink(cfg.User)
	if err == nil {
		defer outEnd.Close()
		k.err, errEnd, err = openSink(cfg.User)
	}
	if err == nil {
		defer errEnd.Close()
		k.shared, err = newOutputs()
	}
	if err == nil {
		err = k.spawn(cfg, procs, outEnd, errEnd, theirs)
	}
	if err != nil {
		k.close()
		return nil, err
	}
	go k.out.run()
	go k.err.run()
	return k, nil
}

// spawn starts the process with the given output and control, and hands it its program.
func (k *kernel) spawn(cfg Config, procs *reaper, out, err, control *os.File) error {
	python, e := cfg.interpreter()
	if e != nil {
		return e
	}
	source, feed, e := os.Pipe()
	if e != nil {
		return fmt.Errorf("kernel: pipe: %w", e)
	}
	defer source.Close()
	defer feed.Close()
	null, e := os.Open(os.DevNull)
	if e != nil {
		return fmt.Errorf("kernel: %w", e)
	}
	defer null.Close()
	attr := &syscall.ProcAttr{
		Dir:   "/",
		Env:   cfg.environ(),
		Files: []uintptr{null.Fd(), out.Fd(), err.Fd(), control.Fd(), source.Fd(), k.shared.file.Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true, Credential: cfg.User.credential()},
	}
	program, e := kernels.Python()
	if e != nil {
		return e
	}
	pid, exit, e := procs.start([]string{python, "-I", "-c", bootstrap, cfg.DataDir}, attr)
	if e != nil {
		return fmt.Errorf("kernel: %w", e)
	}
	k.pid = pid
	go k.watch(exit)
	if _, e := io.WriteString(feed, program); e != nil {
		return fmt.Errorf("kernel: write program: %w", e)
	}
	return nil
}

func unixConn(fd int) (*quiet.Unix, error) {
	file := os.NewFile(uintptr(fd), "control")
	defer file.Close()
	conn, err := quiet.FromFile(file)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return conn, nil
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

// call sends a request and returns its done frame; it is for requests that run
// no user code. What they print is forgotten.
func (k *kernel) call(request map[string]string, patience time.Duration) (kernelFrame, error) {
	request["id"] = "agent"
	frame, err := agent.EncodeFrame(request)
	if err != nil {
		return kernelFrame{}, err
	}
	k.out.begin(agent.DefaultMaxOutput, nil, nil)
	k.err.begin(agent.DefaultMaxOutput, nil, nil)
	f, err := k.converse(frame, patience)
	k.out.end(false)
	said, _ := k.err.end(false)
	if err != nil {
		return kernelFrame{}, fmt.Errorf("kernel: %q: %w; its standard error: %q", request["op"], err, said)
	}
	return f, nil
}

func (k *kernel) converse(frame []byte, patience time.Duration) (f kernelFrame, err error) {
	if err := k.control.SetDeadline(time.Now().Add(patience)); err != nil {
		return f, err
	}
	if _, err := k.control.Write(frame); err != nil {
		return f, err
	}
	if err := k.frames.Next(&f); err != nil {
		return f, err
	}
	if f.Op != "done" || f.ID != "agent" {
		return f, fmt.Errorf("answered by %q", f.Op)
	}
	return f, nil
}

// interrupt sends the kernel and its children what Ctrl-C sends, and wakes
// those that stopped themselves.
func (k *kernel) interrupt() {
	_ = unix.Kill(-k.pid, unix.SIGINT)
	_ = unix.Kill(-k.pid, unix.SIGCONT)
}

// kill ends the kernel and its group without waiting for it.
func (k *kernel) kill() { _ = unix.Kill(-k.pid, unix.SIGKILL) }

// destroy ends the kernel and forgets what it put out.
func (k *kernel) destroy() error {
	defer k.close()
	_, err := k.stop(0)
	return err
}

// stop ends the kernel and every process of the user, and returns how the kernel ended.
// notice is how long news of an end of its own may take.
func (k *kernel) stop(notice time.Duration) (syscall.WaitStatus, error) {
	over := k.ended(notice)
	k.kill() // whoever is left shares the group, or is found as one of the sandbox
	err := killAll()
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
func (k *kernel) watch(exit <-chan syscall.WaitStatus) {
	k.exit = <-exit
	close(k.over)
	_ = k.control.CloseRead()
}

// gathered takes what the kernel printed and did not move into its pipes.
func (k *kernel) gathered() {
	k.out.gathered(k.shared.area(0))
	k.err.gathered(k.shared.area(1))
}

// glance is gathered while the kernel runs, if there is something and the kernel is not
// about to move it itself.
func (k *kernel) glance() {
	if (k.shared.area(0).empty() && k.shared.area(1).empty()) || !k.shared.lock() {
		return
	}
	defer k.shared.unlock()
	k.gathered()
}

// alive reports whether there is a kernel that has not ended.
func (k *kernel) alive() bool {
	if k == nil {
		return false
	}
	select {
	case <-k.over:
		return false
	default:
		return true
	}
}

// ended waits for the kernel's end.
func (k *kernel) ended(patience time.Duration) bool {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-k.over:
		return true
	case <-timer.C:
	}
	return !k.alive() // both may have been true
}

func (k *kernel) close() {
	_ = k.control.Close()
	for _, s := range []*sink{k.out, k.err} {
		if s != nil {
			s.close()
		}
	}
	if k.shared != nil {
		k.shared.close()
	}
}
