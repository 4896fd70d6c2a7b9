package guest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/agent/guest/output"
	"github.com/sandpool/sandpool/internal/agent/kernels"
	"github.com/sandpool/sandpool/internal/quiet"
	"golang.org/x/sys/unix"
)

// maxFrame bounds what a kernel may send at once. Its runner keeps well below;
// only a cell that forges frames goes beyond.
const maxFrame = 48 << 20

// exitGrace is how long a killed kernel may take to be gone.
const exitGrace = 5 * time.Second

// kernel is one running kernel. It is used under Driver.slot.
type kernel struct {
	pid     int
	spec    kernels.Spec
	control *quiet.Unix
	frames  *agent.FrameReader
	input   *os.File // what a cell reads from its standard input
	stdin   *os.File // the same, opened by the kernel's side: its descriptor 0
	fed     bool     // there is something in it
	alone   func() bool
	*output.Outputs

	over chan struct{}      // closed when the kernel has ended
	exit syscall.WaitStatus // valid then
}

// startKernel starts an interpreter as the user. It answers its first call as soon
// as it has imported what it needs itself.
func startKernel(cfg Config, procs *reaper, alone func() bool) (*kernel, error) {
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
	outputs, ends, err := output.Open(cfg.User.UID, cfg.User.GID, cfg.log)
	if err != nil {
		_ = control.Close()
		return nil, err
	}
	defer ends.Close()
	k := &kernel{spec: cfg.Kernel, control: control, frames: agent.NewFrameReader(control,
		maxFrame), Outputs: outputs, over: make(chan struct{}), alone: alone}
	if err := k.spawn(cfg, procs, ends, theirs); err != nil {
		k.close()
		return nil, err
	}
	go k.Out.Run()
	go k.Err.Run()
	return k, nil
}

// spawn starts the process with the given output and control, and hands it its program.
func (k *kernel) spawn(cfg Config, procs *reaper, ends output.Ends, control *os.File) error {
	command, e := cfg.command()
	if e != nil {
		return e
	}
	text, e := cfg.Kernel.Program()
	if e != nil {
		return e
	}
	program, e := memoryFile("program", text)
	if e != nil {
		return e
	}
	defer program.Close()
	if k.input, e = memoryFile("input", ""); e != nil {
		return e
	}
	// Reading alone, and with an offset that the kernel and its children share with us.
	if k.stdin, e = os.Open(fmt.Sprintf("/proc/self/fd/%d", k.input.Fd())); e != nil {
		return fmt.Errorf("kernel: standard input: %w", e)
	}
	attr := &syscall.ProcAttr{
		Dir: "/",
		Env: cfg.environ("HOME=/"), // the kernel sets the true one when it is there
		Files: []uintptr{k.stdin.Fd(), ends.Out.Fd(), ends.Err.Fd(),
			control.Fd(), program.Fd(), ends.Memory.Fd(), k.input.Fd()},
		Sys: &syscall.SysProcAttr{Setsid: true, Credential: cfg.User.credential()},
	}
	pid, exit, e := procs.start(command, attr)
	if e != nil {
		return fmt.Errorf("kernel: %w", e)
	}
	k.pid = pid
	go k.watch(exit)
	return nil
}

// memoryFile returns a file without a name that holds text, to be read from its beginning.
func memoryFile(name, text string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("kernel: %s: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.WriteAt([]byte(text), 0); err != nil {
		return nil, errors.Join(fmt.Errorf("kernel: write its %s: %w", name, err), f.Close())
	}
	return f, nil
}

// feed makes text the standard input of the next cell.
func (k *kernel) feed(text string) error {
	if text == "" && !k.fed {
		return nil
	}
	if err := k.input.Truncate(0); err != nil {
		return fmt.Errorf("standard input: %w", err)
	}
	if _, err := k.stdin.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("standard input: %w", err)
	}
	if _, err := k.input.WriteAt([]byte(text), 0); err != nil {
		return fmt.Errorf("standard input: %w", err)
	}
	k.fed = text != ""
	return nil
}

// encode writes a request as the kernel reads it.
func (k *kernel) encode(r kernels.Request) ([]byte, error) {
	if k.spec.Encode != nil {
		return k.spec.Encode(r)
	}
	return agent.EncodeFrame(r)
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

// call sends a request and returns its done frame; it is for requests that run
// no user code. What they print is forgotten.
func (k *kernel) call(request kernels.Request, patience time.Duration) (kernelFrame, error) {
	request.ID = "agent"
	frame, err := k.encode(request)
	if err != nil {
		return kernelFrame{}, err
	}
	k.Out.Begin(agent.DefaultMaxOutput, nil, nil)
	k.Err.Begin(agent.DefaultMaxOutput, nil, nil)
	f, err := k.converse(frame, patience)
	k.Out.End(false)
	said, _ := k.Err.End(false)
	if err != nil {
		return kernelFrame{}, &callError{request.Op, said, err}
	}
	return f, nil
}

// callError is why a request that runs no user code failed.
type callError struct {
	op, said string
	cause    error
}

func (e *callError) Error() string {
	return fmt.Sprintf("kernel: %q: %v; its standard error: %q", e.op, e.cause, e.said)
}

func (e *callError) Unwrap() error { return e.cause }

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
	err := k.killRest()
	if err == nil && !over && !k.ended(exitGrace) {
		err = errors.New("kernel: killed and not gone in time")
	}
	if err != nil {
		return 0, err
	}
	return k.exit, nil
}

// killRest ends what the kernel has started. While there are other kernels, that is what is of its
// session; a process that has left it lives on, as one of the sandbox's.
func (k *kernel) killRest() error {
	if k.alone() {
		return killAll()
	}
	return endSession(k.pid, 0)
}

// watch notes how the kernel ends. A process that a cell left behind may hold
// the other end of the control socket: it must not keep us waiting.
func (k *kernel) watch(exit <-chan syscall.WaitStatus) {
	k.exit = <-exit
	close(k.over)
	_ = k.control.CloseRead()
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
	for _, f := range []*os.File{k.input, k.stdin} {
		if f != nil {
			_ = f.Close()
		}
	}
	k.Outputs.Close()
}
