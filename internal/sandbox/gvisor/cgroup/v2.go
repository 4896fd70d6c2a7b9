package cgroup

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
	"github.com/sandpool/sandpool/internal/sandbox/gvisor/kernfile"
)

// v2 has one directory for everything.
type v2 struct{}

func openV2(mount, name string) (*Tree, error) {
	enable := "+" + strings.Join(controllers(), " +")
	dir := mount
	for part := range strings.SplitSeq(name, "/") {
		if err := kernfile.Set(filepath.Join(dir, "cgroup.subtree_control"), enable); err != nil {
			return nil, fmt.Errorf("enable the controllers %s beneath cgroup %q: %w", enable, dir, err)
		}
		dir = filepath.Join(dir, part)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("make cgroup %q: %w", dir, err)
		}
	}
	if err := kernfile.Set(filepath.Join(dir, "cgroup.subtree_control"), enable); err != nil {
		return nil, fmt.Errorf("enable the controllers %s beneath cgroup %q: %w", enable, dir, err)
	}
	return &Tree{version: v2{}, parents: []string{dir}}, nil
}

func (v2) limit(dirs []string, l sandbox.Limits) error {
	dir := dirs[0]
	for _, set := range []struct{ file, value string }{
		{"memory.max", fmt.Sprint(l.Memory)},
		{"memory.oom.group", "1"},
		{"pids.max", fmt.Sprint(l.PIDs)},
	} {
		if err := kernfile.Set(filepath.Join(dir, set.file), set.value); err != nil {
			return fmt.Errorf("set %q in cgroup %q to %s: %w", set.file, dir, set.value, err)
		}
	}
	// Without swap accounting the file is missing, and then there is no swap to bound.
	err := kernfile.Set(filepath.Join(dir, "memory.swap.max"), "0")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("turn off swap in cgroup %q: %w", dir, err)
	}
	return nil
}

func (v2) limitCPU(dirs []string, cores float64) error {
	path := filepath.Join(dirs[0], "cpu.max")
	if err := kernfile.Set(path, fmt.Sprintf("%d %d", CPUQuota(cores), CPUPeriod)); err != nil {
		return fmt.Errorf("set %q to %g cores: %w", path, cores, err)
	}
	return nil
}

// start lets the kernel make the process inside the group (CLONE_INTO_CGROUP).
func (v2) start(dirs []string, cmd *exec.Cmd) error {
	dir, err := os.Open(dirs[0])
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

func (v2) threads(dir string) string { return filepath.Join(dir, "cgroup.threads") }

func (v2) oomKills(dirs []string) (int64, error) {
	return kernfile.Field(filepath.Join(dirs[0], "memory.events"), "oom_kill")
}

// oomEvents returns nil: memory.oom.group makes the kernel kill the group whole.
func (v2) oomEvents([]string) (*os.File, error) { return nil, nil }

func (v2) usage(dirs []string) (sandbox.Stats, error) {
	memory, err := kernfile.Int(filepath.Join(dirs[0], "memory.current"))
	cpu, err2 := kernfile.Field(filepath.Join(dirs[0], "cpu.stat"), "usage_usec")
	return sandbox.Stats{Memory: memory, CPUTime: time.Duration(cpu) * time.Microsecond}, errors.Join(err, err2)
}
