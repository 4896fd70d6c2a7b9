package gvisor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/sandpool/sandpool/internal/sandbox"
)

// cgroupV2 has one directory for everything.
type cgroupV2 struct{ parent string }

func newCgroupV2(mount, name string) (*cgroupV2, error) {
	enable := "+" + strings.Join(controllers(), " +")
	dir := mount
	for part := range strings.SplitSeq(name, "/") {
		if err := setFile(filepath.Join(dir, "cgroup.subtree_control"), enable); err != nil {
			return nil, fmt.Errorf("enable the controllers %s beneath cgroup %q: %w", enable, dir, err)
		}
		dir = filepath.Join(dir, part)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("make cgroup %q: %w", dir, err)
		}
	}
	if err := setFile(filepath.Join(dir, "cgroup.subtree_control"), enable); err != nil {
		return nil, fmt.Errorf("enable the controllers %s beneath cgroup %q: %w", enable, dir, err)
	}
	return &cgroupV2{parent: dir}, nil
}

func (c *cgroupV2) dirs(id sandbox.ID) []string {
	return []string{filepath.Join(c.parent, string(id))}
}

func (c *cgroupV2) create(id sandbox.ID, l sandbox.Limits) error {
	dir := c.dirs(id)[0]
	if err := os.Mkdir(dir, 0o755); err != nil {
		return fmt.Errorf("make cgroup %q: %w", dir, err)
	}
	for _, set := range []struct{ file, value string }{
		{"memory.max", fmt.Sprint(l.Memory)},
		{"memory.oom.group", "1"},
		{"pids.max", fmt.Sprint(l.PIDs)},
	} {
		if err := setFile(filepath.Join(dir, set.file), set.value); err != nil {
			return fmt.Errorf("set %q in cgroup %q to %s: %w", set.file, dir, set.value, err)
		}
	}
	// Without swap accounting the file is missing, and then there is no swap to bound.
	err := setFile(filepath.Join(dir, "memory.swap.max"), "0")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("turn off swap in cgroup %q: %w", dir, err)
	}
	return nil
}

func (c *cgroupV2) limitCPU(id sandbox.ID, cores float64) error {
	path := filepath.Join(c.dirs(id)[0], "cpu.max")
	if err := setFile(path, fmt.Sprintf("%d %d", cpuQuota(cores), cpuPeriod)); err != nil {
		return fmt.Errorf("set %q to %g cores: %w", path, cores, err)
	}
	return nil
}

// start lets the kernel make the process inside the group (CLONE_INTO_CGROUP).
func (c *cgroupV2) start(id sandbox.ID, cmd *exec.Cmd) error {
	dir, err := os.Open(c.dirs(id)[0])
	if err != nil {
		return fmt.Errorf("open cgroup: %w", err)
	}
	defer dir.Close()
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(dir.Fd())
	return cmd.Start()
}

func (c *cgroupV2) oomKills(id sandbox.ID) (int64, error) {
	return readField(filepath.Join(c.dirs(id)[0], "memory.events"), "oom_kill")
}

// oomEvents returns nil: memory.oom.group makes the kernel kill the group whole.
func (c *cgroupV2) oomEvents(sandbox.ID) (*os.File, error) { return nil, nil }

func (c *cgroupV2) usage(id sandbox.ID) (sandbox.Stats, error) {
	dir := c.dirs(id)[0]
	memory, err := readInt(filepath.Join(dir, "memory.current"))
	cpu, err2 := readField(filepath.Join(dir, "cpu.stat"), "usage_usec")
	return sandbox.Stats{Memory: memory, CPUTime: time.Duration(cpu) * time.Microsecond}, errors.Join(err, err2)
}

func (c *cgroupV2) close() error { return removeEmpty([]string{c.parent}) }
