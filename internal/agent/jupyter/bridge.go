package jupyter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/agent/kernels"
)

// The descriptors that package kernels gives a kernel.
const (
	agentFD = 3
	inputFD = 6
)

const (
	// startTries is how often a kernel is started that ends before it has answered.
	startTries = 2
	// askEvery is how often a kernel is asked whether it is there: what it says before it has
	// noticed the subscription does not arrive.
	askEvery = 250 * time.Millisecond
)

// bridge stands between the agent and one kernel.
type bridge struct {
	spec     Kernelspec
	kernel   *exec.Cmd
	ended    chan struct{} // closed when the kernel has ended
	link     *link
	signals  chan os.Signal
	requests chan kernels.Request
	acks     chan struct{}
	gone     chan error // the agent
	toAgent  *os.File
	out, err *os.File
	input    *os.File
	cell     *cell // nil while none runs
}

// Run is the bridge to the kernel of that name, whose cells begin in directory. It ends with the
// agent, or as the kernel does, and returns the status to exit with.
func Run(ctx context.Context, name, directory, home string) (int, error) {
	// The kernel is to end with the thread that has started it.
	runtime.LockOSThread()
	for _, l := range []struct {
		what  int
		limit uint64
	}{{unix.RLIMIT_CORE, 0}, {unix.RLIMIT_NOFILE, 4096}} {
		if err := unix.Setrlimit(l.what, &unix.Rlimit{Cur: l.limit, Max: l.limit}); err != nil {
			return 1, err
		}
	}
	unix.Umask(0o022)
	for fd := agentFD; fd <= inputFD; fd++ {
		unix.CloseOnExec(fd)
	}
	if err := os.Setenv("HOME", home); err != nil {
		return 1, err
	}
	spec, err := Find(Dirs(os.Environ()), name)
	if err != nil {
		return 1, err
	}
	b := &bridge{spec: spec, signals: make(chan os.Signal, 8),
		requests: make(chan kernels.Request), acks: make(chan struct{}, 1),
		gone: make(chan error, 1), toAgent: os.NewFile(agentFD, "agent"), out: os.Stdout,
		err: os.Stderr, input: os.NewFile(inputFD, "input")}
	signal.Notify(b.signals, unix.SIGINT)
	go b.listen()
	if _, err := os.Stat(directory); err != nil {
		directory = "/" // a cell has made it inaccessible; another can make it accessible
	}
	for try := 1; ; try++ {
		if err = b.start(ctx, directory); err == nil {
			break
		}
		b.stop()
		if try == startTries || !errors.Is(err, errEnded) {
			return 1, fmt.Errorf("start the kernel %q: %w", name, err)
		}
	}
	return b.serve()
}

// errEnded says that a kernel ended before it had answered.
var errEnded = errors.New("it ended before it answered")

// start starts the kernel and returns when it has answered and is heard.
func (b *bridge) start(ctx context.Context, directory string) error {
	keys := newSigner()
	conn, err := newConnection(b.spec.Name, keys.key)
	if err != nil {
		return err
	}
	file, err := conn.write()
	if err != nil {
		return fmt.Errorf("connection file: %w", err)
	}
	// The kernel has read it when it answers.
	defer func() { _ = os.RemoveAll(filepath.Dir(file)) }()
	argv, env := b.spec.command(file, os.Environ())
	b.kernel = &exec.Cmd{Path: argv[0], Args: argv, Env: env, Dir: directory, Stdout: b.out,
		Stderr: b.err,
		// A group of its own: the agent's signals are for the bridge, which passes them on.
		SysProcAttr: &unix.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL}}
	if err := b.kernel.Start(); err != nil {
		return err
	}
	b.ended = make(chan struct{})
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		_ = b.kernel.Wait() // its state says how
		close(b.ended)
		cancel(errEnded)
	}()
	if b.link, err = dial(ctx, conn, keys); err != nil {
		return err
	}
	return b.meet(ctx)
}

// meet asks the kernel who it is, until the answer is heard on both channels that matter.
func (b *bridge) meet(ctx context.Context) error {
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	asked := map[string]bool{}
	answered, heard := false, false
	for !answered || !heard {
		id, err := b.link.send(shell, "kernel_info_request", nil, struct{}{})
		if err != nil {
			return cause(ctx, err)
		}
		asked[id] = true
		for waiting := true; waiting && (!answered || !heard); {
			select {
			case <-b.link.ready:
			case <-tick.C:
				waiting = false
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			for _, a := range b.link.take() {
				if a.err != nil {
					return cause(ctx, a.err)
				}
				mine := asked[a.parent.ID]
				answered = answered || mine && a.header.Type == "kernel_info_reply"
				heard = heard || mine && a.channel == iopub
			}
		}
	}
	return nil
}

// cause is why a connection broke: the kernel's end, if that comes within a moment.
func cause(ctx context.Context, err error) error {
	select {
	case <-ctx.Done():
		return errors.Join(context.Cause(ctx), err)
	case <-time.After(time.Second):
		return err
	}
}

// stop ends what is left of a kernel that did not start.
func (b *bridge) stop() {
	if b.kernel == nil || b.kernel.Process == nil {
		return
	}
	_ = unix.Kill(-b.kernel.Process.Pid, unix.SIGKILL)
	<-b.ended
	if b.link != nil {
		_ = b.link.close()
		b.link = nil
	}
}

// listen takes what the agent says.
func (b *bridge) listen() {
	frames := agent.NewFrameReader(b.toAgent, agent.MaxCode*6+1<<20)
	for {
		var r kernels.Request
		if err := frames.Next(&r); err != nil {
			b.gone <- err
			return
		}
		if r.Op == "ack" {
			b.acks <- struct{}{}
			continue
		}
		b.requests <- r
	}
}

// serve takes requests and messages, until the agent or the kernel is gone.
func (b *bridge) serve() (int, error) {
	for {
		var err error
		select {
		case r := <-b.requests:
			err = b.obey(r)
		case <-b.link.ready:
			err = b.hear()
		case <-b.signals:
			err = b.interrupt()
		case <-b.timer():
			err = b.done()
		case <-b.ended:
			_ = b.hear() // what it said before
			return die(b.kernel.ProcessState)
		case err := <-b.gone:
			b.stop()
			if errors.Is(err, io.EOF) {
				return 0, nil
			}
			return 1, err
		}
		if err == nil {
			continue
		}
		// A connection that breaks is most likely the kernel's end, which then says more.
		_ = unix.Kill(-b.kernel.Process.Pid, unix.SIGCONT)
		select {
		case <-b.ended:
			return die(b.kernel.ProcessState)
		case <-time.After(time.Second):
			b.stop()
			return 1, err
		}
	}
}

// obey does what the agent asks for.
func (b *bridge) obey(r kernels.Request) error {
	switch r.Op {
	case kernels.OpRun:
		return b.run(r)
	case kernels.OpWarm, kernels.OpInit: // the kernel is there, and takes no seed
		return b.say(frame{Op: "done", ID: r.ID})
	}
	return fmt.Errorf("the agent asks for %q", r.Op)
}

// interrupt passes an interrupt on, if a cell runs.
func (b *bridge) interrupt() error {
	if b.cell == nil {
		return nil
	}
	b.cell.interrupted = true
	group := -b.kernel.Process.Pid
	defer func() { _ = unix.Kill(group, unix.SIGCONT) }() // one that has stopped itself
	if b.spec.InterruptMode == "message" {
		_, err := b.link.send(control, "interrupt_request", nil, struct{}{})
		return err
	}
	_ = unix.Kill(group, unix.SIGINT) // it may have ended
	return nil
}

// die ends the bridge as the kernel has ended, so that the agent can say how.
func die(p *os.ProcessState) (int, error) {
	if s, ok := p.Sys().(syscall.WaitStatus); ok && s.Signaled() {
		signal.Reset()
		if err := setDefault(s.Signal()); err != nil {
			return 1, err
		}
		// To this thread, which is the main one: it is there, and no other takes the signal.
		_ = unix.Tgkill(os.Getpid(), unix.Gettid(), s.Signal())
		return 128 + int(s.Signal()), nil
	}
	return p.ExitCode(), nil
}
