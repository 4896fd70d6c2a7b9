package gvisor

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/unet"
	"gvisor.dev/gvisor/pkg/urpc"
	"gvisor.dev/gvisor/runsc/boot"

	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/gvisor/cores"
	"github.com/sandpool/sandpool/internal/sandbox/gvisor/kernfile"
)

// process is a sandbox process that this engine started or adopted.
type process struct {
	id     sandbox.ID
	pid    int
	pidfd  *os.File
	status chan unix.WaitStatus // of an adopted one, what the sentry said in the end

	stopping atomic.Bool
	oom      atomic.Bool                // it went over its memory limit, and was killed for that
	memory   *os.File                   // becomes readable when it has no memory left; may be nil
	channel  atomic.Pointer[os.File]    // of the host, until Dial takes it
	called   atomic.Bool                // by way of the channel, or that is closed
	layer    atomic.Int32               // the sentry's descriptor of the writable layer, or 0
	stay     atomic.Pointer[cores.Stay] // nil before it is bound to a core
	left     chan struct{}              // closed when the engine is closed
	done     chan struct{}              // closed when the process has ended; exit is set before
	exit     sandbox.Exit
}

// watch keeps a process and waits for its end in the background.
// The goroutines end with the process or with the engine, and with either the channel, nil for
// none, if nobody has taken it. After an error the process is there, so that Stop can end it.
func (e *Engine) watch(id sandbox.ID, pid int, pidfd, channel *os.File, adopted bool) (*process,
	error) {
	events, err := e.cgroups.OOMEvents(id)
	b := &process{id: id, pid: pid, pidfd: pidfd, memory: events, left: make(chan struct{}),
		done: make(chan struct{})}
	b.channel.Store(channel)
	if adopted {
		b.status = make(chan unix.WaitStatus, 1)
		go e.askStatus(b)
	}
	e.mu.Lock()
	e.processes[id] = b
	e.mu.Unlock()
	go func() {
		defer b.pidfd.Close()
		if err := waitReadable(b.pidfd); err != nil {
			return // the engine was closed
		}
		b.exit = e.exitOf(b)
		b.dropChannel()
		close(b.done)
		b.stay.Load().Leave() // bind looks the other way round
	}()
	e.killOverLimit(b, events)
	return b, err
}

// over reports whether the process has ended, so that its number may be another's.
func (b *process) over() bool {
	select {
	case <-b.done:
		return true
	default:
		return false
	}
}

// dropChannel closes the channel if nobody has taken it.
func (b *process) dropChannel() {
	if f := b.channel.Swap(nil); f != nil {
		_ = f.Close()
	}
}

// abandon ends the watching without an answer.
func (b *process) abandon() {
	b.dropChannel()
	select {
	case <-b.done:
	default:
		b.pidfd.Close()
		close(b.left)
		b.stay.Load().Leave()
	}
}

// waitReadable returns when a file can be read, which of a pidfd is when its process has
// ended. It takes no thread.
func waitReadable(f *os.File) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	return conn.Read(func(fd uintptr) bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return err == nil && n > 0
	})
}

// askStatus has the sentry of an adopted sandbox say how its first process
// ended. The kernel tells a process that is not the parent only since Linux 6.15.
func (e *Engine) askStatus(b *process) {
	socket, err := unet.Connect(e.socket(b.id), false)
	if err != nil {
		return // it is ending; the kernel may know
	}
	client := urpc.NewClient(socket)
	defer client.Close()
	answered := make(chan struct{})
	defer close(answered)
	go func() {
		select {
		case <-b.left:
			_ = socket.Shutdown()
		case <-answered:
		}
	}()
	name := string(b.id)
	var status unix.WaitStatus
	if client.Call(boot.ContMgrWait, &name, &status) == nil {
		b.status <- status
	}
}

// exitOf finds out why the process of b ended. Called once, after it did.
func (e *Engine) exitOf(b *process) sandbox.Exit {
	status, known := endStatus(b)
	const killed = 128 + int(unix.SIGKILL)
	want, err := e.cgroups.Want(b.id)
	switch report := e.crashReport(b.id); {
	case b.stopping.Load():
		return sandbox.Exit{Reason: sandbox.Stopped}
	case b.oom.Load(), err == nil && want.Kills > 0 && want.Own && b.toldOfMemory():
		return sandbox.Exit{Reason: sandbox.OutOfMemory, Code: killed}
	case err == nil && want.Kills > 0:
		return sandbox.Exit{Reason: sandbox.HostOutOfMemory, Code: killed}
	case report != "":
		e.log.Error("sandbox process crashed", "sandbox", b.id, "report", report)
		return sandbox.Exit{Reason: sandbox.Crashed, Code: 128 + int(unix.SIGABRT)}
	case !known:
		return sandbox.Exit{Reason: sandbox.Killed, Code: killed}
	case status.Signaled() && isFault(status.Signal()):
		e.log.Error("sandbox process crashed", "sandbox", b.id, "signal", status.Signal())
		return sandbox.Exit{Reason: sandbox.Crashed, Code: 128 + int(status.Signal())}
	case status.Signaled():
		return sandbox.Exit{Reason: sandbox.Killed, Code: 128 + int(status.Signal())}
	default:
		return sandbox.Exit{Reason: sandbox.Exited, Code: status.ExitStatus()}
	}
}

// isFault reports whether a signal is one that a process brings on itself.
func isFault(s unix.Signal) bool {
	return slices.Contains([]unix.Signal{unix.SIGABRT, unix.SIGBUS, unix.SIGFPE, unix.SIGILL,
		unix.SIGSEGV, unix.SIGSYS, unix.SIGTRAP}, s)
}

// endStatus returns the status of an ended process: as its parent, which reaps
// it; from the kernel; or from the sentry's own last word.
func endStatus(b *process) (unix.WaitStatus, bool) {
	var status unix.WaitStatus
	for {
		pid, err := unix.Wait4(b.pid, &status, unix.WNOHANG, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err == nil && pid == b.pid {
			return status, true
		}
		break
	}
	if status, ok := pidfdStatus(b.pidfd); ok {
		return status, true
	}
	select {
	case status := <-b.status:
		return status, true
	default:
		return 0, false
	}
}

// pidfdStatus asks the kernel (PIDFD_GET_INFO with PIDFD_INFO_EXIT, Linux 6.15).
func pidfdStatus(pidfd *os.File) (status unix.WaitStatus, ok bool) {
	conn, err := pidfd.SyscallConn()
	if err != nil {
		return 0, false
	}
	err = conn.Control(func(fd uintptr) {
		info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
		if unix.IoctlPidfdInfo(int(fd), &info) == nil && info.Mask&unix.PIDFD_INFO_EXIT != 0 {
			status, ok = unix.WaitStatus(info.Exit_code), true
		}
	})
	return status, ok && err == nil
}

// threads are those of a sandbox, for package cores.
type threads struct {
	engine *Engine
	id     sandbox.ID
}

// Threads implements cores.Group.
func (t threads) Threads() ([]int, error) { return t.engine.cgroups.Threads(t.id) }

// CPUTime implements cores.Group.
func (t threads) CPUTime() (time.Duration, error) { return t.engine.cgroups.CPUTime(t.id) }

// unwanted is how long a sandbox waits for its first call before it is bound to a core. One
// that is wanted sooner needs all of them to answer soon.
const unwanted = 200 * time.Millisecond

// bind keeps a sandbox on one core while it does little, if it is not wanted at once. It
// is about speed alone.
func (e *Engine) bind(b *process) {
	select {
	case <-time.After(unwanted):
	case <-b.done:
		return
	case <-b.left:
		return
	}
	if b.called.Load() {
		return
	}
	stay, err := e.cores.Bind(threads{e, b.id})
	if err != nil {
		e.log.Debug("the sandbox runs on all cores", "sandbox", b.id, "error", err)
	}
	b.stay.Store(stay)
	select {
	case <-b.done:
		stay.Leave()
	case <-b.left:
		e.unbind(b)
	default:
		if b.called.Load() { // meanwhile, and that was not seen
			e.unbind(b)
		}
	}
}

// unbind lets it run on all cores.
func (e *Engine) unbind(b *process) {
	if err := b.stay.Load().Free(); err != nil && !b.ended() {
		e.log.Warn("the sandbox stays on one core", "sandbox", b.id, "error", err)
	}
}

// observed is a channel on which calls and answers are seen. Without it nobody would see
// that the sandbox computes.
type observed struct {
	net.Conn
	engine  *Engine
	process *process
}

// Write implements net.Conn.
func (c *observed) Write(p []byte) (int, error) {
	c.process.called.Store(true)
	c.process.stay.Load().Called()
	return c.Conn.Write(p)
}

// Read implements net.Conn.
func (c *observed) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.process.stay.Load().Answered()
	return n, err
}

// Close implements net.Conn.
func (c *observed) Close() error {
	c.process.called.Store(true)
	if !c.process.stopping.Load() && !c.process.ended() {
		c.engine.unbind(c.process)
	}
	return c.Conn.Close()
}

// adopt watches every sandbox that was started completely and runs.
func (e *Engine) adopt() error {
	found, err := e.remains()
	if err != nil {
		return err
	}
	for _, id := range found {
		if _, err := os.Stat(filepath.Join(e.dir(id), startedName)); err != nil {
			continue // half-started: List shows it, Stop removes it
		}
		pid, err := e.mainPID(id)
		if err != nil {
			return err
		}
		if pid == 0 {
			continue
		}
		fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
		if err != nil {
			continue // it ended just now
		}
		b, err := e.watch(id, pid, os.NewFile(uintptr(fd), "pidfd"), nil, true)
		if err != nil {
			return err
		}
		// it has no channel any more
		if err := e.cores.Free(threads{e, id}); err != nil && !b.ended() {
			e.log.Warn("the sandbox stays on one core", "sandbox", id, "error", err)
		}
		if err := e.logs.Collect(id, e.dir(id)); err != nil {
			e.log.Warn("the log of a sandbox is lost from here on", "sandbox", id, "error", err)
		}
		e.log.Info("adopted a running sandbox", "sandbox", id, "pid", pid)
	}
	return nil
}

// mainPID returns the sentry among the processes of a sandbox's cgroup: the
// one whose parent is outside. 0 means there is none.
func (e *Engine) mainPID(id sandbox.ID) (int, error) {
	pids, err := e.cgroups.PIDs(id)
	if err != nil {
		return 0, err
	}
	inside := map[int]bool{}
	for _, pid := range pids {
		inside[pid] = true
	}
	for _, pid := range pids {
		ppid, err := kernfile.Field(fmt.Sprintf("/proc/%d/status", pid), "PPid:")
		if err == nil && !inside[int(ppid)] {
			return pid, nil
		}
	}
	return 0, nil
}

// A sandbox over its memory limit is killed whole. Left alone, the OOM killer of cgroup
// v1 ends the one process that maps the most, and that may be a stub in which a
// process of the guest runs: the guest sees it die of a signal, nobody
// learns why, and the sandbox goes on. Two things together prevent that. The
// sentry is made the first choice, which also holds while no server
// runs and when the host itself is out of memory; and the engine ends the
// sandbox at the first sign that its group has no memory left.

// maxOOMScore makes a process the OOM killer's first choice (proc_pid_oom_score_adj(5)).
const maxOOMScore = 1000

// preferToKill makes a sentry the OOM killer's choice. It is called when the stub
// from which all others are cloned exists: they would inherit the value.
func preferToKill(pid int) error {
	path := fmt.Sprintf("/proc/%d/oom_score_adj", pid)
	if err := kernfile.Set(path, strconv.Itoa(maxOOMScore)); err != nil {
		return fmt.Errorf("set %q to %d: %w", path, maxOOMScore, err)
	}
	return nil
}

// killOverLimit watches the memory of b in the background and kills it when
// it is over its limit, or was already, before this engine adopted it. What
// watches ends with the process or with the engine.
func (e *Engine) killOverLimit(b *process, events *os.File) {
	kill := func() {
		// Of cgroup v1 a group above that has no memory left, or the server's own container, tells
		// all groups beneath it. Whom that ends is the kernel's choice.
		if want, err := e.cgroups.Want(b.id); err == nil && want.Own {
			b.killForMemory()
		}
	}
	if want, err := e.cgroups.Want(b.id); err == nil && want.Kills > 0 {
		kill()
	}
	if events == nil {
		return
	}
	go func() {
		if waitReadable(events) == nil {
			kill()
		}
	}()
	go func() {
		defer events.Close()
		select {
		case <-b.done:
		case <-b.left:
		}
	}()
}

// toldOfMemory reports whether the group of b, or one above it, is known to have had no memory
// left, or there is nothing that would have told.
func (b *process) toldOfMemory() bool {
	if b.memory == nil || b.status != nil { // an adopted one may have lived when nobody listened
		return true
	}
	conn, err := b.memory.SyscallConn()
	if err != nil {
		return true
	}
	told := false
	_ = conn.Control(func(fd uintptr) {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		told = err == nil && n > 0
	})
	return told
}

func (b *process) killForMemory() {
	b.oom.Store(true)
	b.kill()
}
