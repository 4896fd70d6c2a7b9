package cgroup

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/need"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/gvisor/kernfile"
)

func TestFind(t *testing.T) {
	const v1 = `30 24 0:27 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
31 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
32 30 0:29 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
33 30 0:30 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
`
	m, err := parse(strings.NewReader(v1))
	if err != nil {
		t.Fatal(err)
	}
	if m.v2 != "/sys/fs/cgroup/unified" || m.v1["cpuacct"] != "/sys/fs/cgroup/cpu,cpuacct" {
		t.Errorf("found %+v", m)
	}
	if got, want := m.missingV1(), []string{"pids"}; !reflect.DeepEqual(got, want) {
		t.Errorf("missing %v, want %v", got, want)
	}
}

// TestFilesOfV2 runs the code of cgroup v2 on a directory that has the files of one.
func TestFilesOfV2(t *testing.T) {
	mount := t.TempDir()
	for _, dir := range []string{"", "sandpool", "sandpool/x"} {
		write(t, filepath.Join(mount, dir, "cgroup.subtree_control"), "")
	}
	c, err := openV2(mount, "sandpool/x")
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := kernfile.Text(filepath.Join(mount, "sandpool/x/cgroup.subtree_control")); got !=
		"+cpu +memory +pids" {
		t.Errorf("enabled %q", got)
	}
	limits := sandpool.Resources{CPU: 1.5, Memory: 1 << 30, PIDs: 200, Disk: 1 << 20}
	if err := c.Create("a", limits); err == nil {
		t.Error("create succeeds although the limits' files are missing")
	}
	dir := c.Dirs("a")[0]
	write(t, filepath.Join(dir, "cpu.weight"), "100\n")
	if err := c.SetWeight("a", 10000); err != nil {
		t.Error(err)
	}
	if got, _ := kernfile.Text(filepath.Join(dir, "cpu.weight")); got != "10000" {
		t.Errorf("the weight is %q", got)
	}
	write(t, filepath.Join(dir, "memory.current"), "4096\n")
	write(t, filepath.Join(dir, "cpu.stat"), "usage_usec 1500\nuser_usec 1000\n")
	write(t, filepath.Join(dir, "pids.current"), "7\n")
	write(t, filepath.Join(dir, "memory.stat"),
		"anon 9\nfile 8\ninactive_anon 1\ninactive_file 10\nactive_file 20\n")
	write(t, filepath.Join(dir, "memory.events"), "low 0\noom 1\noom_kill 2\n")
	if s, err := c.Usage("a"); err != nil || s.Memory != 4096 || s.Cache != 30 || s.Threads != 7 ||
		s.CPUTime.Microseconds() != 1500 {
		t.Errorf("usage = %+v, %v", s, err)
	}
	for events, want := range map[string]Want{
		"low 0\noom 1\noom_kill 2\n": {Kills: 2, Own: true}, "low 0\noom 0\noom_kill 1\n": {
			Kills: 1}, "low 3\noom 0\noom_kill 0\n": {},
	} {
		write(t, filepath.Join(dir, "memory.events"), events)
		if got, err := c.Want("a"); err != nil || got != want {
			t.Errorf("of %q: %+v, %v; want %+v", events, got, err, want)
		}
	}
}

// What all sandboxes together may take is bounded by every group above them.
func TestLeft(t *testing.T) {
	mount := t.TempDir()
	for _, dir := range []string{"", "slice", "slice/x"} {
		write(t, filepath.Join(mount, dir, "cgroup.subtree_control"), "")
	}
	c, err := openV2(mount, "slice/x")
	if err != nil {
		t.Fatal(err)
	}
	endless := sandbox.Bound{Limit: math.MaxInt64, Left: math.MaxInt64}
	if left, err := c.Left(); err != nil || left != (sandbox.Room{Memory: endless,
		Threads: endless}) {
		t.Errorf("without limits %+v is left, %v", left, err)
	}
	for dir, limit := range map[string]string{"slice/x": "max", "slice": "1000"} {
		for name, text := range map[string]string{"memory.max": limit, "memory.current": "700",
			"pids.max": limit, "pids.current": "600",
			"memory.stat": "anon 500\ninactive_file 150\nactive_file 50\n"} {
			write(t, filepath.Join(mount, dir, name), text+"\n")
		}
	}
	if left, err := c.Left(); err != nil || left != (sandbox.Room{
		Memory:  sandbox.Bound{Limit: 1000, Left: 500},
		Threads: sandbox.Bound{Limit: 1000, Left: 400}}) {
		t.Errorf("within the slice %+v is left, %v", left, err)
	}
	write(t, filepath.Join(mount, "slice/x/memory.max"), "800\n")
	if left, err := c.Left(); err != nil || left.Memory != (sandbox.Bound{Limit: 800,
		Left: 300}) {
		t.Errorf("within the group %+v is left, %v", left, err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestCheck: what is tried works where these tests run sandboxes, is taken back, and says what
// keeps it from working in a mount namespace in which one hierarchy is read-only.
func TestCheck(t *testing.T) {
	need.Root(t)
	m, err := find()
	if err != nil {
		t.Fatal(err)
	}
	dir := m.v1["pids"]
	if len(m.missingV2()) == 0 {
		dir = m.v2
	}
	name := fmt.Sprintf("sandpool-test-%d", os.Getpid())
	if detail, err := Check(name); err != nil || !strings.HasPrefix(detail, "cgroup v") {
		t.Errorf("Check = %q, %v", detail, err)
	}
	err = onOwnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return err
		}
		if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY,
			""); err != nil {
			return err
		}
		_, err := Check(name)
		return err
	})
	var lack *Lack
	if !errors.As(err, &lack) || !errors.Is(err, unix.EROFS) ||
		!strings.Contains(lack.Fix, "remount,rw") {
		t.Errorf("with %s read-only: %v", dir, err)
	}
	for _, root := range append(slices.Collect(maps.Values(m.v1)), m.v2) {
		if root == "" {
			continue
		}
		parent := filepath.Join(root, name)
		if left, err := filepath.Glob(filepath.Join(parent, "check-*")); err != nil ||
			len(left) > 0 {
			t.Errorf("left behind: %q, %v", left, err)
		}
		if err := unix.Rmdir(parent); err != nil && !errors.Is(err, unix.ENOENT) {
			t.Error(err)
		}
	}
}

// TestWeights: of two processes that want the same core the one with the greater weight gets it,
// and the other one gets some of it.
func TestWeights(t *testing.T) {
	need.Root(t)
	c, err := Open(fmt.Sprintf("sandpool-weights-%d", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	t.Cleanup(func() {
		defer cancel()
		if err := errors.Join(c.Remove(ctx, "heavy"), c.Remove(ctx, "light"),
			c.Close()); err != nil {
			t.Error(err)
		}
	})
	var all, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		t.Fatal(err)
	}
	for core := 0; one.Count() == 0; core++ {
		if all.IsSet(core) {
			one.Set(core)
		}
	}
	for _, id := range []sandbox.ID{"heavy", "light"} {
		cmd := exec.Command("sh", "-c", "while :; do :; done")
		err := c.Create(id, sandpool.Resources{Memory: 64 << 20, PIDs: 64})
		if err == nil {
			err = c.Start(id, cmd)
		}
		if err == nil {
			go func() { _ = cmd.Wait() }() // until it is killed
			err = unix.SchedSetaffinity(cmd.Process.Pid, &one)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(c.SetWeight("heavy", 1), c.SetWeight("light", 10000)); err != nil {
		t.Fatal(err)
	}
	used := func(id sandbox.ID) time.Duration {
		d, err := c.CPUTime(id)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	heavy, light := used("heavy"), used("light")
	for used("light")-light < 300*time.Millisecond {
		if err := pause(ctx, lastDelay); err != nil {
			t.Fatal("they do not run")
		}
	}
	if heavy = used("heavy") - heavy; heavy > 100*time.Millisecond {
		t.Errorf("the heavy one got %v while the other got 300 ms", heavy)
	}
	if err := c.SetWeight("heavy", 100); err != nil {
		t.Fatal(err)
	}
	for at := used("heavy"); used("heavy") == at; {
		if err := pause(ctx, lastDelay); err != nil {
			t.Fatal("with the usual weight it gets nothing")
		}
	}
}

// TestLack: errors of the kernel that somebody can do something about carry advice.
func TestLack(t *testing.T) {
	for _, known := range []error{unix.EROFS, unix.EACCES, unix.EPERM, unix.EBUSY, unix.ENOENT,
		unix.ENOSPC} {
		err := lacking(fmt.Errorf("try: %w", known))
		var lack *Lack
		if !errors.As(err, &lack) || lack.Fix == "" || !errors.Is(err, known) ||
			!strings.HasPrefix(err.Error(), "try: ") {
			t.Errorf("%v becomes %v", known, err)
		}
	}
	if err := lacking(unix.EIO); err != unix.EIO || lacking(nil) != nil {
		t.Errorf("EIO becomes %v", err)
	}
}

// TestCloseNothing: a Tree that was never opened is closed like any other.
func TestCloseNothing(t *testing.T) {
	var none *Tree
	if err := none.Close(); err != nil {
		t.Error(err)
	}
}

// TestStartInV2 starts a process inside a real group of cgroup v2, of
// which a machine with cgroup v1 has one without controllers.
func TestStartInV2(t *testing.T) {
	need.Root(t)
	m, err := find()
	if err != nil {
		t.Fatal(err)
	}
	if m.v2 == "" {
		need.Except(t, need.Cgroups, "version 2 is not mounted")
	}
	c := &Tree{version: v2{}, parents: []string{
		filepath.Join(m.v2, fmt.Sprintf("sandpool-test-%d", os.Getpid()))}}
	dir := c.Dirs("a")[0]
	if err := os.MkdirAll(dir, 0o755); err != nil {
		need.Lack(t, "cgroup v2 is not writable: %v", err)
	}
	cmd := exec.Command("sleep", "60")
	if err := c.Start("a", cmd); err != nil {
		t.Fatal(err)
	}
	if pids, err := c.PIDs("a"); err != nil || len(pids) != 1 || pids[0] != cmd.Process.Pid {
		t.Errorf("the group has %v, %v; want %d", pids, err, cmd.Process.Pid)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	go func() { _ = cmd.Wait() }()
	if err := c.Remove(ctx, "a"); err != nil {
		t.Error(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}
