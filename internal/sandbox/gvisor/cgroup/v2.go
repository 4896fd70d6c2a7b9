package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/gvisor/kernfile"
)

// v2 has one directory for everything.
type v2 struct{}

// openV2 makes the group and those above it that are missing, and has all of them hand the
// controllers down.
func openV2(mount, name string) (_ *Tree, err error) {
	t := &Tree{version: v2{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.goBack())
		}
	}()
	dir := mount
	for part := range strings.SplitSeq(name, "/") {
		if err := t.enable(dir); err != nil {
			return nil, err
		}
		dir = filepath.Join(dir, part)
		err := os.Mkdir(dir, 0o755)
		if err == nil {
			t.made = append(t.made, dir)
		} else if !errors.Is(err, fs.ErrExist) {
			return nil, lacking(fmt.Errorf("make a cgroup: %w", err))
		}
	}
	if err := t.enable(dir); err != nil {
		return nil, err
	}
	t.parents = []string{dir}
	return t, nil
}

// enable has a group hand the controllers down to those beneath it.
func (t *Tree) enable(dir string) error {
	file := filepath.Join(dir, subtreeControl)
	have, err := kernfile.Text(file)
	if err != nil {
		return lacking(fmt.Errorf("look at the controllers of cgroup %q: %w", dir, err))
	}
	var more []string
	for _, c := range controllers() {
		if !slices.Contains(strings.Fields(have), c) {
			more = append(more, "+"+c)
		}
	}
	if len(more) == 0 {
		return nil
	}
	enable := strings.Join(more, " ")
	err = kernfile.Set(file, enable)
	if errors.Is(err, unix.EBUSY) {
		if err := t.leave(dir); err != nil {
			return err
		}
		err = kernfile.Set(file, enable)
	}
	if err != nil {
		return lacking(fmt.Errorf("enable the controllers %s beneath cgroup %q: %w", enable, dir,
			err))
	}
	return nil
}

const subtreeControl = "cgroup.subtree_control"

// leafName is the group that the server makes for itself.
const leafName = "sandpool-server"

// leave moves this process into a group beneath dir. A group, but for that of the whole machine,
// hands no controllers down while processes are in it ("no internal processes", cgroups(7)). In a
// container with cgroups of its own, and in a systemd unit that delegates its group, that
// process is often the server alone.
func (t *Tree) leave(dir string) error {
	members, err := kernfile.Ints(filepath.Join(dir, membersName))
	if err != nil {
		return err
	}
	var others []string
	for _, pid := range members {
		if pid != os.Getpid() {
			// it may be over, or of another namespace
			name, _ := kernfile.Text(fmt.Sprintf("/proc/%d/comm", pid))
			others = append(others, strings.TrimSpace(fmt.Sprintf("%d %s", pid, name)))
		}
	}
	if len(others) > 0 {
		return &Lack{
			Err: fmt.Errorf("cgroup %q has processes in it (%s), so it cannot have groups for "+
				"sandboxes beneath it", dir, strings.Join(others, ", ")),
			Fix: "Start the server as the first process of its container or service, or move " +
				"these processes into a group of their own: " +
				"mkdir " + dir + "/init, and write their numbers to " + dir + "/init/" +
				membersName + ".",
		}
	}
	leaf := filepath.Join(dir, leafName)
	if err := os.Mkdir(leaf, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return lacking(fmt.Errorf("make a cgroup: %w", err))
	}
	if err := kernfile.Set(filepath.Join(leaf, membersName),
		strconv.Itoa(os.Getpid())); err != nil {
		return lacking(fmt.Errorf("move the server into cgroup %q: %w", leaf, err))
	}
	t.left = dir
	return nil
}

// goBack undoes leave, for a Tree that has been closed.
func (t *Tree) goBack() error {
	if t.left == "" {
		return nil
	}
	for _, dir := range slices.Backward(t.made) {
		_ = unix.Rmdir(dir) // what others use stays
	}
	off := "-" + strings.Join(controllers(), " -")
	return errors.Join(
		kernfile.Set(filepath.Join(t.left, subtreeControl), off),
		kernfile.Set(filepath.Join(t.left, membersName), strconv.Itoa(os.Getpid())),
		unix.Rmdir(filepath.Join(t.left, leafName)))
}

func (v2) limit(dirs []string, l sandpool.Resources) error {
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

func (v2) setWeight(dirs []string, weight int) error {
	path := filepath.Join(dirs[0], "cpu.weight")
	if err := kernfile.Set(path, strconv.Itoa(weight)); err != nil {
		return fmt.Errorf("set %q to %d: %w", path, weight, err)
	}
	return nil
}

func (v2) cpuTime(dirs []string) (time.Duration, error) {
	micros, err := kernfile.Field(filepath.Join(dirs[0], "cpu.stat"), "usage_usec")
	return time.Duration(micros) * time.Microsecond, err
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

// want: the kernel counts "oom" in the group whose limit it was, and "oom_kill" in those of its
// victims.
func (v2) want(dirs []string) (Want, error) {
	file := filepath.Join(dirs[0], "memory.events")
	kills, err := kernfile.Field(file, "oom_kill")
	own, err2 := kernfile.Field(file, "oom")
	return Want{Kills: kills, Own: own > 0}, errors.Join(err, err2)
}

// oomEvents returns nil: memory.oom.group makes the kernel kill the group whole.
func (v2) oomEvents([]string) (*os.File, error) { return nil, nil }

func (v v2) usage(dirs []string) (sandbox.Stats, error) {
	memory, err := kernfile.Int(filepath.Join(dirs[0], "memory.current"))
	cpu, err2 := v.cpuTime(dirs)
	threads, err3 := kernfile.Int(filepath.Join(dirs[0], "pids.current"))
	cache, err4 := kernfile.Fields(filepath.Join(dirs[0], "memory.stat"), "active_file",
		"inactive_file")
	return sandbox.Stats{Memory: memory, Cache: cache, Threads: threads, CPUTime: cpu},
		errors.Join(err, err2, err3, err4)
}

func (v2) bounds(dirs []string) (memory, threads bound) {
	return bound{dirs[0], "memory.max", "memory.current", []string{"active_file", "inactive_file"}},
		bound{dir: dirs[0], max: "pids.max", current: "pids.current"}
}
