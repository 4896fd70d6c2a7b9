package cgroup

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/gvisor/kernfile"
)

// v1 says which of a group's directories belongs to a controller: those that are mounted
// together have one. Memory comes first; it is the hierarchy whose members count.
type v1 map[string]int

func openV1(mounts map[string]string, name string) (*Tree, error) {
	version := v1{}
	t := &Tree{version: version}
	for _, controller := range []string{"memory", "cpu", "pids", "cpuacct"} {
		dir := filepath.Join(mounts[controller], name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, errors.Join(lacking(fmt.Errorf("make a cgroup: %w", err)), t.Close())
		}
		i := slices.Index(t.parents, dir)
		if i < 0 {
			i = len(t.parents)
			t.parents = append(t.parents, dir)
		}
		version[controller] = i
	}
	return t, nil
}

func (v v1) limit(dirs []string, l sandpool.Resources) error {
	if err := setV1(dirs[v["memory"]], "memory.limit_in_bytes", l.Memory); err != nil {
		return err
	}
	return setV1(dirs[v["pids"]], "pids.max", l.PIDs)
}

func (v v1) limitCPU(dirs []string, cores float64) error {
	if err := setV1(dirs[v["cpu"]], "cpu.cfs_period_us", CPUPeriod); err != nil {
		return err
	}
	return setV1(dirs[v["cpu"]], "cpu.cfs_quota_us", CPUQuota(cores))
}

// setWeight writes a weight in shares, of which a new group has 1024 and the least is 2.
func (v v1) setWeight(dirs []string, weight int) error {
	return setV1(dirs[v["cpu"]], "cpu.shares", max(2, int64(weight)*1024/100))
}

func (v v1) cpuTime(dirs []string) (time.Duration, error) {
	cpu, err := kernfile.Int(filepath.Join(dirs[v["cpuacct"]], "cpuacct.usage"))
	return time.Duration(cpu), err
}

func setV1(dir, file string, value int64) error {
	path := filepath.Join(dir, file)
	if err := kernfile.Set(path, strconv.FormatInt(value, 10)); err != nil {
		return fmt.Errorf("set %q to %d: %w", path, value, err)
	}
	return nil
}

// start forks from a thread that has joined the group. Only that thread
// joins, never the server, and it ends afterwards instead of going back.
// Writing "0" to tasks moves the calling thread and is the one form of the
// write that does not wait for a grace period of the whole machine.
func (v v1) start(dirs []string, cmd *exec.Cmd) error {
	return onOwnThread(func() error {
		for _, dir := range dirs {
			if err := kernfile.Set(v.threads(dir), "0"); err != nil {
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

func (v1) threads(dir string) string { return filepath.Join(dir, "tasks") }

// want tells the group's own limit from others by the count of attempts to go over it. These
// may have been long ago, and been met by dropping pages of files.
func (v v1) want(dirs []string) (Want, error) {
	dir := dirs[v["memory"]]
	kills, err := kernfile.Field(filepath.Join(dir, "memory.oom_control"), "oom_kill")
	hits, err2 := kernfile.Int(filepath.Join(dir, "memory.failcnt"))
	return Want{Kills: kills, Own: hits > 0}, errors.Join(err, err2)
}

// oomEvents registers an eventfd with the group (the kernel's
// Documentation/admin-guide/cgroup-v1/memory.rst, section 10).
func (v v1) oomEvents(dirs []string) (*os.File, error) {
	dir := dirs[v["memory"]]
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
	if err := kernfile.Set(filepath.Join(dir, "cgroup.event_control"),
		fmt.Sprintf("%d %d", fd, control.Fd())); err != nil {
		return nil, errors.Join(fmt.Errorf("watch the memory of cgroup %q: %w", dir, err),
			events.Close())
	}
	return events, nil
}

func (v v1) usage(dirs []string) (sandbox.Stats, error) {
	memory, err := kernfile.Int(filepath.Join(dirs[v["memory"]], "memory.usage_in_bytes"))
	cpu, err2 := v.cpuTime(dirs)
	threads, err3 := kernfile.Int(filepath.Join(dirs[v["pids"]], "pids.current"))
	cache, err4 := kernfile.Fields(filepath.Join(dirs[v["memory"]], "memory.stat"), "active_file",
		"inactive_file")
	return sandbox.Stats{Memory: memory, Cache: cache, Threads: threads, CPUTime: cpu},
		errors.Join(err, err2, err3, err4)
}

func (v v1) bounds(dirs []string) (memory, threads bound) {
	return bound{dirs[v["memory"]], "memory.limit_in_bytes", "memory.usage_in_bytes",
			[]string{"total_active_file", "total_inactive_file"}},
		bound{dir: dirs[v["pids"]], max: "pids.max", current: "pids.current"}
}
