package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/gvisor/kernfile"
)

// Tree is the groups of one engine. Its methods may be called at the same time.
type Tree struct {
	version version
	parents []string   // a directory in each hierarchy; the first is that whose members count
	former  [][]string // as parents: where groups of an earlier parent still are
	// the group that this process has left for a leaf of it, if it has; see v2.go
	left string
	made []string // groups above the parent that were missing; of version 2
}

// version is what the two versions of cgroups do differently. dirs are those of one group, in
// the order of Tree.parents.
type version interface {
	// limit sets the limits of a new group but that of the processor. A limit that cannot be
	// set is an error.
	limit(dirs []string, l sandpool.Resources) error
	processor
	// start starts cmd inside the group.
	start(dirs []string, cmd *exec.Cmd) error
	// threads returns the file with the threads of a group in the hierarchy of dir.
	threads(dir string) string
	// want returns what became of the group for want of memory.
	want(dirs []string) (Want, error)
	// oomEvents returns what becomes readable when the group has no memory left, or nil if
	// the kernel then ends the whole group by itself.
	oomEvents(dirs []string) (*os.File, error)
	// usage returns what the group uses.
	usage(dirs []string) (sandbox.Stats, error)
	// bounds says what limits the group's memory and its threads.
	bounds(dirs []string) (memory, threads bound)
}

// processor is what the two versions do differently with the processor.
type processor interface {
	// limitCPU sets the limit of the processor.
	limitCPU(dirs []string, cores float64) error
	// setWeight sets the group's part of it, in the numbers of version 2.
	setWeight(dirs []string, weight int) error
	// cpuTime returns the processor time that the group has used.
	cpuTime(dirs []string) (time.Duration, error)
}

// Open makes the parent group called name, a relative path, if it is missing. An error that
// somebody can do something about is, or wraps, a Lack. Groups beneath a former parent stay what
// they are until they are removed; new ones are made beneath name.
func Open(name string, former ...string) (*Tree, error) {
	m, err := find()
	if err != nil {
		return nil, err
	}
	t, err := m.open(name)
	if err != nil {
		return nil, err
	}
	for _, other := range former {
		dirs := make([]string, len(t.parents))
		for i, parent := range t.parents {
			dirs[i] = filepath.Join(strings.TrimSuffix(parent, name), other)
		}
		t.former = append(t.former, dirs)
	}
	return t, nil
}

// Close removes the parent groups that are empty. That of a nil Tree does nothing.
func (t *Tree) Close() error {
	if t == nil {
		return nil
	}
	var errs []error
	for _, dir := range t.everywhere() {
		err := unix.Rmdir(dir)
		if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EBUSY) &&
			!errors.Is(err, unix.ENOTEMPTY) {
			errs = append(errs, fmt.Errorf("remove cgroup %q: %w", dir, err))
		}
	}
	return errors.Join(errs...)
}

// everywhere returns the directories of all parents, the former ones as well.
func (t *Tree) everywhere() []string {
	return append(slices.Concat(t.former...), t.parents...)
}

// Dirs returns every directory that makes up a group.
func (t *Tree) Dirs(id sandbox.ID) []string {
	for _, parents := range t.former {
		dirs := beneath(parents, id)
		if slices.ContainsFunc(dirs, func(dir string) bool {
			_, err := os.Lstat(dir)
			return err == nil
		}) {
			return dirs
		}
	}
	return beneath(t.parents, id)
}

func beneath(parents []string, id sandbox.ID) []string {
	dirs := make([]string, len(parents))
	for i, parent := range parents {
		dirs[i] = filepath.Join(parent, string(id))
	}
	return dirs
}

// Create makes the group of id and sets its limits but that of the processor. A limit that
// cannot be set is an error. What it had made by then is Remove's.
func (t *Tree) Create(id sandbox.ID, l sandpool.Resources) error {
	dirs := t.Dirs(id)
	for _, dir := range dirs {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return fmt.Errorf("make a cgroup: %w", err)
		}
	}
	return t.version.limit(dirs, l)
}

// LimitCPU sets the limit of the processor.
func (t *Tree) LimitCPU(id sandbox.ID, cores float64) error {
	return t.version.limitCPU(t.Dirs(id), cores)
}

// SetWeight sets the group's part of the processor, as version 2 counts it: from 1 to 10000. A new
// group has 100.
func (t *Tree) SetWeight(id sandbox.ID, weight int) error {
	return t.version.setWeight(t.Dirs(id), weight)
}

// CPUTime returns the processor time that the group has used.
func (t *Tree) CPUTime(id sandbox.ID) (time.Duration, error) {
	return t.version.cpuTime(t.Dirs(id))
}

// Start starts cmd inside the group of id: it is never outside, not even for a moment.
func (t *Tree) Start(id sandbox.ID, cmd *exec.Cmd) error { return t.version.start(t.Dirs(id), cmd) }

// Exists reports whether anything of the group is there.
func (t *Tree) Exists(id sandbox.ID) (bool, error) {
	for _, dir := range t.Dirs(id) {
		if _, err := os.Lstat(dir); err == nil {
			return true, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	return false, nil
}

// List returns the names of all groups of which anything is there.
func (t *Tree) List() (names []string, err error) {
	for _, dir := range t.everywhere() {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("list cgroups: %w", err)
		}
		for _, entry := range entries {
			if entry.IsDir() && !slices.Contains(names, entry.Name()) {
				names = append(names, entry.Name())
			}
		}
	}
	return names, nil
}

// PIDs returns the processes of the group. One that does not exist has none.
func (t *Tree) PIDs(id sandbox.ID) ([]int, error) { return pids(t.Dirs(id)[0]) }

// pids returns the processes of a group, but never this one, of which a thread may be inside
// for a moment (see v1.start).
func pids(dir string) ([]int, error) {
	found, err := kernfile.Ints(filepath.Join(dir, membersName))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil, nil
	}
	return slices.DeleteFunc(found, func(pid int) bool { return pid == os.Getpid() }), err
}

// membersName is the file with the processes of a group, in both versions.
const membersName = "cgroup.procs"

// Threads returns the threads of the group, which must exist.
func (t *Tree) Threads(id sandbox.ID) ([]int, error) {
	return kernfile.Ints(t.version.threads(t.Dirs(id)[0]))
}

// Want is what became of a group for want of memory.
type Want struct {
	// Kills counts processes of the group that were killed for it, whoever's it was.
	Kills int64
	// Own says that the group has reached its own limit, and could not make room. It may have
	// been a group above it that did, or the machine.
	Own bool
}

// Want returns what became of the group for want of memory.
func (t *Tree) Want(id sandbox.ID) (Want, error) { return t.version.want(t.Dirs(id)) }

// OOMEvents returns what becomes readable when the group, or one above it, has no memory left,
// or nil if the kernel then ends the whole group by itself.
func (t *Tree) OOMEvents(id sandbox.ID) (*os.File, error) { return t.version.oomEvents(t.Dirs(id)) }

// Usage returns what the group uses.
func (t *Tree) Usage(id sandbox.ID) (sandbox.Stats, error) { return t.version.usage(t.Dirs(id)) }

// Remove kills what is in the group, waits until it is gone, and removes the group. One that
// does not exist is no error.
func (t *Tree) Remove(ctx context.Context, id sandbox.ID) error {
	wait := func(d time.Duration) error { return pause(ctx, d) }
	dirs := t.Dirs(id)
	for _, dir := range dirs {
		if err := kill(dir, wait); err != nil {
			return err
		}
	}
	return removeAll(dirs, wait)
}

// kill sends SIGKILL to everything in the group and waits until it is empty. New processes
// may appear between two looks, so it looks again.
func kill(dir string, wait func(time.Duration) error) error {
	for delay := firstDelay; ; delay = min(2*delay, lastDelay) {
		found, err := pids(dir)
		if err != nil || len(found) == 0 {
			return err
		}
		for _, pid := range found {
			if err := killMember(dir, pid); err != nil {
				return err
			}
		}
		if err := wait(delay); err != nil {
			return fmt.Errorf("%d processes in %q do not end: %w", len(found), dir, err)
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
	found, err := pids(dir)
	if err != nil || !slices.Contains(found, pid) {
		return err
	}
	return ignoreGone(unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0))
}

func ignoreGone(err error) error {
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// removeAll removes empty groups. The kernel answers EBUSY until the last
// thread has left, which can be a little after its process was seen to end.
func removeAll(dirs []string, wait func(time.Duration) error) error {
	for _, dir := range dirs {
		for delay := firstDelay; ; delay = min(2*delay, lastDelay) {
			err := unix.Rmdir(dir)
			if err == nil || errors.Is(err, unix.ENOENT) {
				break
			}
			if !errors.Is(err, unix.EBUSY) {
				return fmt.Errorf("remove cgroup %q: %w", dir, err)
			}
			if err := wait(delay); err != nil {
				return fmt.Errorf("cgroup %q stays busy: %w", dir, err)
			}
		}
	}
	return nil
}

// Times between two looks at a group that is to be empty.
const (
	firstDelay = time.Millisecond
	lastDelay  = 20 * time.Millisecond
)

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

// CPUPeriod is the time over which a CPU limit is kept, in microseconds; the
// kernel's own default.
const CPUPeriod = 100_000

// CPUQuota returns the CPU time of cores in one period, at least the kernel's minimum of 1 ms.
func CPUQuota(cores float64) int64 { return max(int64(cores*CPUPeriod), 1000) }
