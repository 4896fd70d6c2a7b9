package guest

import (
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"syscall"

	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/agent/kernels"
	"golang.org/x/sys/unix"
)

// bootstrap reads the runner from descriptor 4, so that it is neither a file in the
// sandbox nor a command line that ps shows.
const bootstrap = "import os; exec(compile(os.fdopen(4).read(), 'sandpool-python', 'exec'))"

// nurseryFrame is what a nursery says.
type nurseryFrame struct {
	Op      string         `json:"op"`
	Info    agent.Metadata `json:"info"`
	PID     int            `json:"pid"`
	Status  int            `json:"status"`
	Message string         `json:"message"`
}

// nursery is the interpreter that kernels are forked from.
type nursery struct {
	conn   *net.UnixConn
	forked chan nurseryFrame
	warm   chan agent.Metadata
	gone   chan struct{} // closed when it ended

	mu    sync.Mutex
	exits map[int]chan syscall.WaitStatus // by process id, made by whoever comes first
}

// startNursery starts an interpreter, which then warms itself up; see warm.
func startNursery(cfg Config) (*nursery, error) {
	python, err := cfg.interpreter()
	if err != nil {
		return nil, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("nursery: socket pair: %w", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "nursery")
	defer theirs.Close()
	conn, err := unixConn(pair[0])
	if err != nil {
		return nil, err
	}
	if err := spawn(cfg, python, theirs); err != nil {
		_ = conn.Close()
		return nil, err
	}
	n := &nursery{conn: conn, forked: make(chan nurseryFrame, 1), warm: make(chan agent.Metadata, 1),
		gone: make(chan struct{}), exits: map[int]chan syscall.WaitStatus{}}
	go n.read()
	return n, nil
}

// spawn starts the process and hands it its program.
func spawn(cfg Config, python string, control *os.File) error {
	source, feed, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("nursery: pipe: %w", err)
	}
	defer source.Close()
	defer feed.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return fmt.Errorf("nursery: %w", err)
	}
	defer null.Close()
	args := []string{python, "-I", "-c", bootstrap, strconv.Itoa(cfg.User.UID), strconv.Itoa(cfg.User.GID), cfg.DataDir}
	// Not os/exec: its Wait and reap would wait for the same process.
	_, err = syscall.ForkExec(python, args, &syscall.ProcAttr{
		Dir:   "/",
		Env:   cfg.environ(),
		Files: []uintptr{null.Fd(), 2, 2, control.Fd(), source.Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return fmt.Errorf("nursery: start %q: %w", python, err)
	}
	if _, err := io.WriteString(feed, kernels.Python()); err != nil {
		return fmt.Errorf("nursery: write program: %w", err)
	}
	return nil
}

func unixConn(fd int) (*net.UnixConn, error) {
	file := os.NewFile(uintptr(fd), "control")
	defer file.Close()
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return conn.(*net.UnixConn), nil
}

// read distributes what the nursery says until it ends.
func (n *nursery) read() {
	defer close(n.gone)
	frames := frameReader{r: n.conn}
	for {
		var f nurseryFrame
		if err := frames.next(&f); err != nil {
			_ = n.conn.Close()
			return
		}
		switch f.Op {
		case "warm":
			n.warm <- f.Info
		case "forked":
			n.forked <- f
		case "exit":
			n.exit(f.PID) <- syscall.WaitStatus(f.Status)
		}
	}
}

// exit returns where the status of a kernel arrives when it has ended.
func (n *nursery) exit(pid int) chan syscall.WaitStatus {
	n.mu.Lock()
	defer n.mu.Unlock()
	c, ok := n.exits[pid]
	if !ok {
		c = make(chan syscall.WaitStatus, 1)
		n.exits[pid] = c
	}
	return c
}

// forget drops the record of a kernel that is over.
func (n *nursery) forget(pid int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.exits, pid)
}

// fork makes a kernel that takes over the three descriptors. One call at a time.
func (n *nursery) fork(control, out, err *os.File) (int, error) {
	rights := syscall.UnixRights(int(control.Fd()), int(out.Fd()), int(err.Fd()))
	if _, _, err := n.conn.WriteMsgUnix([]byte{'f'}, rights, nil); err != nil {
		return 0, fmt.Errorf("nursery: ask for a kernel: %w", err)
	}
	select {
	case f := <-n.forked:
		if f.PID == 0 {
			return 0, fmt.Errorf("nursery: fork: %s", f.Message)
		}
		return f.PID, nil
	case <-n.gone:
		return 0, fmt.Errorf("nursery: ended while it made a kernel")
	}
}

func (n *nursery) close() { _ = n.conn.Close() }
