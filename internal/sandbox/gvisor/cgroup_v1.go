package gvisor

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool/internal/sandbox"
)

// cgroupV1 has one directory for each controller; parents[i] belongs to
// names[i]. Memory comes first: it is the hierarchy that processes are counted in.
type cgroupV1 struct {
	parents []string
	memory  string
	cpu     string
	cpuacct string
	pids    string
}

func newCgroupV1(mounts map[string]string, name string) (*cgroupV1, error) {
	c := &cgroupV1{
		memory:  filepath.Join(mounts["memory"], name),
		cpu:     filepath.Join(mounts["cpu"], name),
		cpuacct: filepath.Join(mounts["cpuacct"], name),
		pids:    filepath.Join(mounts["pids"], name),
	}
	c.parents = []string{c.memory, c.cpu, c.pids}
	if c.cpuacct != c.cpu { // they are often mounted together
		c.parents = append(c.parents, c.cpuacct)
	}
	for _, dir := range c.parents {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fmt.Errorf("make cgroup %q: %w", dir, err)
		}
	}
	return c, nil
}

func (c *cgroupV1) dirs(id sandbox.ID) []string {
	dirs := make([]string, len(c.parents))
	for i, p := range c.parents {
		dirs[i] = filepath.Join(p, string(id))
	}
	return dirs
}

func (c *cgroupV1) create(id sandbox.ID, l sandbox.Limits) error {
	for _, dir := range c.dirs(id) {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return fmt.Errorf("make cgroup %q: %w", dir, err)
		}
	}
	if err := setV1(c.memory, id, "memory.limit_in_bytes", l.Memory); err != nil {
		return err
	}
	return setV1(c.pids, id, "pids.max", l.PIDs)
}

func (c *cgroupV1) limitCPU(id sandbox.ID, cores float64) error {
	if err := setV1(c.cpu, id, "cpu.cfs_period_us", cpuPeriod); err != nil {
		return err
	}
	return setV1(c.cpu, id, "cpu.cfs_quota_us", cpuQuota(cores))
}

func setV1(parent string, id sandbox.ID, file string, value int64) error {
	path := filepath.Join(parent, string(id), file)
	if err := setFile(path, strconv.FormatInt(value, 10)); err != nil {
		return fmt.Errorf("set %q to %d: %w", path, value, err)
	}
	return nil
}

// start forks from a thread that has joined the group. Only that thread
// joins, never the server, and it ends afterwards instead of going back.
// Writing "0" to tasks moves the calling thread and is the one form of the
// write that does not wait for a grace period of the whole machine.
func (c *cgroupV1) start(id sandbox.ID, cmd *exec.Cmd) error {
	return onOwnThread(func() error {
		for _, dir := range c.dirs(id) {
			if err := setFile(filepath.Join(dir, "tasks"), "0"); err != nil {
				return fmt.Errorf("join cgroup %q: %w", dir, err)
			}
		}
		return cmd.Start()
	})
}

// onOwnThread runs f on a thread that is used for nothing else and ends with
// f. The main thread cannot end, so if the runtime offers that one, it is held
// while another is asked for.
func onOwnThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			defer runtime.UnlockOSThread()
			done <- onOwnThread(f)
			return
		}
		done <- f() // a goroutine that ends locked takes its thread with it
	}()
	return <-done
}

func (c *cgroupV1) oomKills(id sandbox.ID) (int64, error) {
	return readField(filepath.Join(c.memory, string(id), "memory.oom_control"), "oom_kill")
}

// oomEvents registers an eventfd with the group (the kernel's
// Documentation/admin-guide/cgroup-v1/memory.rst, section 10).
func (c *cgroupV1) oomEvents(id sandbox.ID) (*os.File, error) {
	dir := filepath.Join(c.memory, string(id))
	control, err := os.Open(filepath.Join(dir, "memory.oom_control"))
	if err != nil {
		return nil, err
	}
	defer control.Close() // the kernel needs it for the registration alone
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("make an eventfd: %w", err)
	}
	events := os.NewFile(uintptr(fd), "oom events")
	if err := setFile(filepath.Join(dir, "cgroup.event_control"), fmt.Sprintf("%d %d", fd, control.Fd())); err != nil {
		return nil, errors.Join(fmt.Errorf("watch the memory of cgroup %q: %w", dir, err), events.Close())
	}
	return events, nil
}

func (c *cgroupV1) usage(id sandbox.ID) (sandbox.Stats, error) {
	memory, err := readInt(filepath.Join(c.memory, string(id), "memory.usage_in_bytes"))
	cpu, err2 := readInt(filepath.Join(c.cpuacct, string(id), "cpuacct.usage"))
	return sandbox.Stats{Memory: memory, CPUTime: time.Duration(cpu)}, errors.Join(err, err2)
}

func (c *cgroupV1) close() error { return removeEmpty(c.parents) }

// removeEmpty removes directories that nothing is in, and leaves the others.
func removeEmpty(dirs []string) error {
	var errs []error
	for _, dir := range dirs {
		err := unix.Rmdir(dir)
		if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENOTEMPTY) {
			errs = append(errs, fmt.Errorf("remove cgroup %q: %w", dir, err))
		}
	}
	return errors.Join(errs...)
}
