package gvisor

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool/internal/sandbox"
)

// cgroups is the part of the cgroup filesystem that belongs to one engine:
// a parent directory, and one group for each sandbox. It has two versions
// of each operation because the two cgroup versions share almost nothing.
type cgroups interface {
	// create makes the group and sets its limits but that of the processor. A
	// limit that cannot be set is an error.
	create(id sandbox.ID, l sandbox.Limits) error
	// limitCPU sets the limit of the processor.
	limitCPU(id sandbox.ID, cores float64) error
	// start starts cmd inside the group: it is never outside, not even for a moment.
	start(id sandbox.ID, cmd *exec.Cmd) error
	// dirs returns every directory that makes up the group.
	dirs(id sandbox.ID) []string
	// oomKills counts processes of the group killed for want of memory.
	oomKills(id sandbox.ID) (int64, error)
	// oomEvents returns what becomes readable when the group has no memory
	// left, or nil if the kernel then ends the whole group by itself.
	oomEvents(id sandbox.ID) (*os.File, error)
	// usage returns what the group uses.
	usage(id sandbox.ID) (sandbox.Stats, error)
	// close removes the parent directory if it is empty.
	close() error
}

// controllers are what a sandbox needs; cgroup v1 accounts CPU time in a fourth.
func controllers() []string { return []string{"cpu", "memory", "pids"} }

// cgroupMounts is where the kernel's cgroup hierarchies are.
type cgroupMounts struct {
	v1 map[string]string // by controller
	v2 string
}

// findCgroups reads a mountinfo file (proc_pid_mountinfo(5)).
func findCgroups(mountinfo io.Reader) (cgroupMounts, error) {
	m := cgroupMounts{v1: map[string]string{}}
	scan := bufio.NewScanner(mountinfo)
	for scan.Scan() {
		before, after, ok := strings.Cut(scan.Text(), " - ")
		head, tail := strings.Fields(before), strings.Fields(after)
		if !ok || len(head) < 5 || len(tail) < 3 {
			continue
		}
		switch tail[0] {
		case "cgroup2":
			if m.v2 == "" {
				m.v2 = head[4]
			}
		case "cgroup":
			for opt := range strings.SplitSeq(tail[2], ",") {
				m.v1[opt] = head[4]
			}
		}
	}
	return m, scan.Err()
}

// newCgroups picks the version that has the controllers and prepares name
// beneath its root.
func newCgroups(name string) (cgroups, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("find cgroups: %w", err)
	}
	defer f.Close()
	m, err := findCgroups(f)
	if err != nil {
		return nil, fmt.Errorf("find cgroups: %w", err)
	}
	if len(missingV2(m)) == 0 {
		return newCgroupV2(m.v2, name)
	}
	if missing := missingV1(m); len(missing) > 0 {
		return nil, fmt.Errorf("cgroup controllers %s are missing; mount them, or boot with cgroup v2", strings.Join(missing, ", "))
	}
	return newCgroupV1(m.v1, name)
}

func missingV1(m cgroupMounts) (missing []string) {
	for _, c := range append(controllers(), "cpuacct") {
		if m.v1[c] == "" {
			missing = append(missing, c)
		}
	}
	return missing
}

func missingV2(m cgroupMounts) []string {
	if m.v2 == "" {
		return controllers()
	}
	have, err := readString(filepath.Join(m.v2, "cgroup.controllers"))
	if err != nil {
		return controllers()
	}
	var missing []string
	for _, c := range controllers() {
		if !hasWord(have, c) {
			missing = append(missing, c)
		}
	}
	return missing
}

func hasWord(list, word string) bool {
	for w := range strings.FieldsSeq(list) {
		if w == word {
			return true
		}
	}
	return false
}

// cgroupPIDs returns the processes of a group, but never this one, of which a
// thread may be inside for a moment (see cgroupV1.start). A group that does
// not exist has none.
func cgroupPIDs(dir string) ([]int, error) {
	data, err := readString(filepath.Join(dir, "cgroup.procs"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	pids, err := numbers(dir, data)
	return slices.DeleteFunc(pids, func(pid int) bool { return pid == os.Getpid() }), err
}

// cgroupThreads returns the threads of a group.
func cgroupThreads(dir string) ([]int, error) {
	data, err := readString(filepath.Join(dir, "cgroup.threads"))
	if errors.Is(err, fs.ErrNotExist) {
		data, err = readString(filepath.Join(dir, "tasks")) // the name in cgroup v1
	}
	if err != nil {
		return nil, err
	}
	return numbers(dir, data)
}

func numbers(dir, data string) (ids []int, err error) {
	for line := range strings.FieldsSeq(data) {
		id, err := strconv.Atoi(line)
		if err != nil {
			return nil, fmt.Errorf("id %q in %q: %w", line, dir, err)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// killCgroup sends SIGKILL to everything in the group and waits until it is
// empty. New processes may appear between two looks, so it looks again.
func killCgroup(ctx context.Context, dir string) error {
	for wait := time.Millisecond; ; wait = min(2*wait, 20*time.Millisecond) {
		pids, err := cgroupPIDs(dir)
		if err != nil || len(pids) == 0 {
			return err
		}
		for _, pid := range pids {
			if err := killMember(dir, pid); err != nil {
				return err
			}
		}
		if err := pause(ctx, wait); err != nil {
			return fmt.Errorf("%d processes in %q do not end: %w", len(pids), dir, err)
		}
	}
}

// killMember kills pid if it is (still) in the group. A pidfd pins the
// process first, so that a process id used again is never hit.
func killMember(dir string, pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return ignoreGone(err)
	}
	defer unix.Close(fd)
	pids, err := cgroupPIDs(dir)
	if err != nil {
		return err
	}
	for _, p := range pids {
		if p == pid {
			return ignoreGone(unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0))
		}
	}
	return nil
}

func ignoreGone(err error) error {
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// removeDirs removes empty groups. The kernel answers EBUSY until the last
// thread has left, which can be a little after its process was seen to end.
func removeDirs(ctx context.Context, dirs []string) error {
	for _, dir := range dirs {
		for wait := time.Millisecond; ; wait = min(2*wait, 20*time.Millisecond) {
			err := unix.Rmdir(dir)
			if err == nil || errors.Is(err, unix.ENOENT) {
				break
			}
			if !errors.Is(err, unix.EBUSY) {
				return fmt.Errorf("remove cgroup %q: %w", dir, err)
			}
			if err := pause(ctx, wait); err != nil {
				return fmt.Errorf("cgroup %q stays busy: %w", dir, err)
			}
		}
	}
	return nil
}

// pause waits for d or for the end of ctx.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

func readString(path string) (string, error) {
	data, err := os.ReadFile(path)
	return strings.TrimSpace(string(data)), err
}

func readInt(path string) (int64, error) {
	s, err := readString(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(s, 10, 64)
}

// readField returns the number after name in a file of "name number" lines.
func readField(path, name string) (int64, error) {
	s, err := readString(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(s) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == name {
			return strconv.ParseInt(f[1], 10, 64)
		}
	}
	return 0, fmt.Errorf("no field %q in %q", name, path)
}

// setFile writes a control file, which must exist.
func setFile(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// cpuPeriod is the time over which a CPU limit is kept, in microseconds; the
// kernel's own default.
const cpuPeriod = 100_000

// cpuQuota returns the CPU time of cores in one period, at least the kernel's minimum of 1 ms.
func cpuQuota(cores float64) int64 { return max(int64(cores*cpuPeriod), 1000) }
