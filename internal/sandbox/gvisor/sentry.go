package gvisor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/control/server"
	"gvisor.dev/gvisor/pkg/sentry/pgalloc"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/gvisor/cgroup"
	"github.com/sandpool/sandpool/internal/sandbox/gvisor/logs"
)

// nobody is who a sandbox process is on the host.
const nobody = 65534

// Names in a sandbox's directory.
const (
	socketName  = "control.sock"
	panicName   = "panic.log"
	startedName = "started" // its presence says that Start has succeeded
)

// Capabilities (capabilities(7)) that the sentry has in its own new user
// namespace while it builds its empty root, and drops before it starts.
const (
	capSetPCap   = 8
	capSysChroot = 18
	capSysAdmin  = 21
)

// sentryFlags are gVisor's own settings. What is not named here has its
// default, which is the strict one for everything that touches the host
// (no host sockets, no host pipes, no raw sockets).
func sentryFlags() []string {
	return []string{
		"--platform=systrap",
		"--network=sandbox", // netstack; the namespace around it is empty
		"--directfs=false",  // no host filesystem beside the images
		"--host-uds=none",
		"--host-fifo=none",
		"--net-raw=false",
		"--overlay2=none",    // overlays are set for each mount instead
		"--traceback=single", // bounds what a crash writes
		"--in-sandbox-cgroup=v2",
	}
}

// sentry is a sandbox process that has just been started.
type sentry struct {
	pid   int
	pidfd *os.File
	ready *os.File // one byte, or end of file if it died

	channel *os.File // the host's end; nil without one
}

// files of the child, in order; numbers begin at 3 after the standard streams.
type childFiles struct {
	list []*os.File
	args []string

	channel *os.File // the host's end, which the child does not get; nil without one
}

func (c *childFiles) add(flag string, files ...*os.File) {
	for _, f := range files {
		c.args = append(c.args, fmt.Sprintf("--%s=%d", flag, 3+len(c.list)))
		c.list = append(c.list, f)
	}
}

// addPrograms adds what starts a sentry, and returns its path in the child.
func (c *childFiles) addPrograms() (string, error) {
	const own = "/proc/self/exe"
	if !tinyPrograms {
		return own, nil
	}
	self, err := os.OpenFile(own, unix.O_PATH, 0)
	if err != nil {
		return "", fmt.Errorf("open the program: %w", err)
	}
	c.list = append(c.list, self)
	launcher, err := programFile("launch", launchCode)
	if err != nil {
		return "", err
	}
	c.list = append(c.list, os.NewFile(uintptr(launcher), "launch"))
	return fmt.Sprintf("/proc/self/fd/%d", launcherFD), nil
}

// addChannel adds a stream to the host as the guest's standard input. gVisor hands the
// guest's system calls on it to the host; a connection to a port takes three more
// goroutines of the sentry each way, and the guest's network stack.
func (c *childFiles) addChannel() error {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("make the channel: %w", err)
	}
	c.channel = os.NewFile(uintptr(fds[0]), "channel")
	c.add("stdio-fds", os.NewFile(uintptr(fds[1]), "guest's end of the channel"))
	return nil
}

func (c *childFiles) close() {
	for _, f := range c.list {
		f.Close()
	}
}

// spawn starts a sentry for p in the cgroup of id, which exists already. It
// waits for no answer; see sentry.wait.
func (e *Engine) spawn(id sandbox.ID, p *prepared, console *os.File) (_ *sentry, err error) {
	t := p.template
	var files childFiles
	defer files.close()
	defer func() {
		if err != nil && files.channel != nil {
			_ = files.channel.Close()
		}
	}()
	path, err := files.addPrograms()
	if err != nil {
		return nil, err
	}
	global, err := e.openFiles(id, p, console, &files)
	if err != nil {
		return nil, err
	}
	filters, err := e.filters()
	if err != nil {
		return nil, err
	}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make the start pipe: %w", err)
	}
	files.add("start-sync-fd", write)
	extra := append(slices.Clone(files.list), filters) // which is kept, unlike the others
	if n := 3 + len(extra); n > givenFDs {
		return nil, errors.Join(invalid("layers",
			"The template has %d layers, which take more than the %d descriptors of a sandbox.",
			len(t.Layers), givenFDs), read.Close())
	}
	args := append(sentryFlags(), global...)
	if t.Setuid {
		args = append(args, "--allow-suid")
	}
	args = append(args, "boot", "--bundle=/", "--apply-caps", setUpRoot,
		"--gofer-mount-confs="+mountConfs(t))
	args = append(args, files.args...)
	args = append(args, resourceArgs(t.Limits)...)
	args = append(args, string(id))

	pidfd := -1
	cmd := &exec.Cmd{
		Path: path,
		Args: append([]string{sentryName}, args...),
		Env: []string{
			fmt.Sprintf("%s=%d", filterVariable, 2+len(extra)),
			"GOMAXPROCS=" + strconv.Itoa(processors(t.Limits)),
		},
		Dir:         "/",
		ExtraFiles:  extra,
		SysProcAttr: sentryAttr(&pidfd),
	}
	if e.isPreparing(id) {
		cmd.Env = append(cmd.Env, snapshotVariable+"=1")
	}
	if err := e.cgroups.Start(id, cmd); err != nil {
		read.Close()
		return nil, fmt.Errorf("start the sandbox process of %q: %w", id, err)
	}
	if pidfd < 0 {
		return nil, errors.Join(fmt.Errorf("the kernel gives no pidfd"), cmd.Process.Kill(),
			read.Close())
	}
	pid := cmd.Process.Pid
	_ = cmd.Process.Release() // the pidfd is used instead; see watch
	f, err := pidfdFile(pidfd)
	if err != nil {
		return nil, errors.Join(err, read.Close())
	}
	return &sentry{pid: pid, pidfd: f, ready: read, channel: files.channel}, nil
}

// openFiles opens what the sentry gets from the host, and returns the
// arguments that go before the subcommand. The standard streams of the guest
// are /dev/null, but for the standard error of a boot and the channel of a template
// that has one: nothing of the server's is shared with it.
func (e *Engine) openFiles(id sandbox.ID, p *prepared, console *os.File,
	files *childFiles) (global []string, err error) {
	t := p.template
	dir := e.dir(id)
	logFile, err := os.OpenFile(filepath.Join(dir, panicName),
		os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	files.add("panic-log-fd", logFile)
	global, files.args = files.args, nil

	spec, err := guestSpec(p, id)
	if err != nil {
		return nil, err
	}
	specFile, err := memFile("spec", spec)
	if err != nil {
		return nil, err
	}
	files.add("spec-fd", specFile)
	socket, err := server.CreateSocket(e.socket(id))
	if err != nil {
		return nil, fmt.Errorf("make the control socket: %w", err)
	}
	files.add("controller-fd", os.NewFile(uintptr(socket), "control"))
	for _, l := range append([]sandbox.Layer{p.root}, t.Layers...) {
		f, err := os.Open(l.Path)
		if err != nil {
			return nil, fmt.Errorf("open layer: %w", err)
		}
		files.add("io-fds", f)
		// The lock belongs to what the sandbox holds open: it tells whoever tidies up the images
		// that this one is used, as long as the sandbox lives.
		if err := unix.Flock(int(f.Fd()), unix.LOCK_SH); err != nil {
			return nil, fmt.Errorf("lock layer %q: %w", l.Path, err)
		}
	}
	store, err := e.openStore()
	if err != nil {
		return nil, err
	}
	files.add("gofer-filestore-fds", store)
	if err := p.addHostFiles(id, files); err != nil {
		return nil, err
	}
	streams := []string{os.DevNull, os.DevNull, os.DevNull}
	if console != nil {
		streams[2] = fmt.Sprintf("/proc/self/fd/%d", console.Fd())
	}
	if t.Channel {
		if err := files.addChannel(); err != nil {
			return nil, err
		}
		streams = streams[1:]
	}
	if t.Logs {
		out, errs, err := logs.Make(dir)
		if err != nil {
			return nil, err
		}
		for _, path := range streams[:len(streams)-2] {
			if err := files.addStream(path); err != nil {
				return nil, errors.Join(err, out.Close(), errs.Close())
			}
		}
		files.add("stdio-fds", out, errs)
		return global, nil
	}
	for _, path := range streams {
		if err := files.addStream(path); err != nil {
			return nil, err
		}
	}
	return global, nil
}

// addStream adds a standard stream of the guest.
func (c *childFiles) addStream(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	c.add("stdio-fds", f)
	return nil
}

// addHostFiles adds the archive with the files that the guest gets over its root's. A snapshot
// has them already.
func (p *prepared) addHostFiles(id sandbox.ID, files *childFiles) error {
	none := p.template.HostFiles == sandbox.NoHostFiles && p.trust == nil
	if none || p.snapshot != "" || !p.etc {
		return nil
	}
	data, err := p.hostFiles(id)
	if err != nil {
		return fmt.Errorf("write the host files: %w", err)
	}
	f, err := memFile("host files", data)
	if err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil { // the sentry reads from where it is
		return errors.Join(err, f.Close())
	}
	files.add("rootfs-upper-tar-fd", f)
	return nil
}

// openStore makes the file behind a sandbox's writable layer. It has no name
// and is gone with the last descriptor, the sentry's.
func (e *Engine) openStore() (*os.File, error) {
	dir := filepath.Join(e.cfg.Root, boxesName)
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf(
			"make a file without a name in %q (ext4, xfs, btrfs and tmpfs can): %w", dir, err)
	}
	pgalloc.IMAWorkAroundForMemFile(uintptr(fd))
	return os.NewFile(uintptr(fd), "writable layer"), nil
}

// processors is how many a sandbox sees. Fewer than two make some programs drop
// locks that they need (gVisor has the same floor).
func processors(l sandpool.Resources) int {
	return min(max(int(l.CPU+0.999), 2), max(runtime.NumCPU(), 1))
}

// resourceArgs tell the guest what it has.
func resourceArgs(l sandpool.Resources) []string {
	var info unix.Sysinfo_t
	total := uint64(l.Memory)
	if unix.Sysinfo(&info) == nil {
		total = uint64(info.Totalram) * uint64(info.Unit)
	}
	return []string{
		"--cpu-num=" + strconv.Itoa(processors(l)),
		"--cpu-quota=" + strconv.FormatInt(cgroup.CPUQuota(l.CPU), 10),
		"--cpu-period=" + strconv.Itoa(cgroup.CPUPeriod),
		"--total-host-memory=" + strconv.FormatUint(total, 10),
		"--total-memory=" + strconv.FormatUint(min(total, uint64(l.Memory)), 10),
	}
}

// sentryAttr describes who the sandbox process is on the host: nobody, alone in
// every namespace, with the capabilities to build its root inside its own
// user namespace and none outside. Its network namespace has not even a
// loopback device that is up. It is in a session of its own and
// no death signal ties it to the server, because it outlives it.
func sentryAttr(pidfd *int) *syscall.SysProcAttr {
	id := []syscall.SysProcIDMap{{ContainerID: nobody, HostID: nobody, Size: 1}}
	return &syscall.SysProcAttr{
		Setsid:     true,
		Credential: &syscall.Credential{Uid: nobody, Gid: nobody},
		Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID |
			unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
		UidMappings: id,
		GidMappings: id,
		// Without it Go leaves the child in the groups that the server is in.
		GidMappingsEnableSetgroups: true,
		AmbientCaps:                []uintptr{capSysAdmin, capSysChroot, capSetPCap},
		PidFD:                      pidfd,
	}
}

// memFile returns a file in memory that holds data.
func memFile(name string, data []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("make a memory file: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.Write(data); err != nil {
		f.Close()
		return nil, fmt.Errorf("write a memory file: %w", err)
	}
	return f, nil
}

// pidfdFile wraps a pidfd so that waiting for it costs no thread.
func pidfdFile(fd int) (*os.File, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("make pidfd non-blocking: %w", err)
	}
	return os.NewFile(uintptr(fd), "pidfd"), nil
}

// wait returns when the sentry answers on its control socket.
func (s *sentry) wait(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = s.ready.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	defer s.ready.Close()
	if _, err := io.ReadFull(s.ready, make([]byte, 1)); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("the sandbox process ended while it started: %w", err)
	}
	return nil
}

// monitorSlack is by how much the sleeps of a sentry's monitor thread may overrun.
const monitorSlack = time.Millisecond

// calm makes the monitor thread of the sentry's Go runtime wake less often. While the
// sentry has work it wakes every 20 µs, and where a hundred sandboxes share two cores, a
// seventh of the processor time of their first answers went into that (by perf). Go has no
// setting for it; Linux has one for the timers of a thread. What the monitor does is none the
// worse for a millisecond: it takes processors back from system calls that last, and
// preempts after 10 ms. An error costs time only.
func (s *sentry) calm() error {
	dir, err := os.Open(fmt.Sprintf("/proc/%d/task", s.pid))
	if err != nil {
		return err
	}
	defer dir.Close()
	// in the order of their creation, and the monitor is what a Go program creates first
	threads, err := dir.Readdirnames(2)
	if err != nil || len(threads) < 2 {
		return errors.Join(errors.New("the sandbox process has no second thread"), err)
	}
	return os.WriteFile(fmt.Sprintf("/proc/%s/timerslack_ns", threads[1]),
		strconv.AppendInt(nil, monitorSlack.Nanoseconds(), 10), 0)
}

// consoleSize bounds what a boot's first process can say on its standard error.
const consoleSize = 64 << 10

// console returns a file in memory for that which cannot grow. It is no pipe: a
// snapshot with one can be restored only with a pipe in its place.
func console() (*os.File, error) {
	f, err := memFile("console", make([]byte, consoleSize))
	if err != nil {
		return nil, err
	}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS,
		unix.F_SEAL_GROW|unix.F_SEAL_SHRINK); err != nil {
		return nil, errors.Join(fmt.Errorf("seal a memory file: %w", err), f.Close())
	}
	return f, nil
}

// tail returns the end of the text in the first size bytes of f, which may be nil.
func tail(f *os.File, size int64) string {
	if f == nil {
		return ""
	}
	data, err := io.ReadAll(io.NewSectionReader(f, 0, size))
	if err != nil {
		return ""
	}
	data = bytes.TrimSpace(bytes.Trim(data, "\x00"))
	return string(data[max(0, len(data)-reportSize):])
}

// reportSize is how much of what a process said goes into an error.
const reportSize = 2 << 10

// crashReport returns the beginning of what the sentry wrote when it died. There a Go program
// says what was wrong; stacks follow.
func (e *Engine) crashReport(id sandbox.ID) string {
	f, err := os.Open(filepath.Join(e.dir(id), panicName))
	if err != nil {
		return ""
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, reportSize))
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(data))
}
