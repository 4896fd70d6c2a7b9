package gvisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/sandbox"
)

func TestCheckHost(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	for _, r := range CheckHost(filepath.Join(t.TempDir(), "not", "yet")) {
		if !r.OK || r.Fix != "" || r.Name == "" || r.Detail == "" {
			t.Errorf("on a host that runs these tests: %+v", r)
		}
	}
	for _, r := range CheckHost("/proc/nowhere") {
		if r.Name == "state directory" && (r.OK || r.Fix == "") {
			t.Errorf("a state directory in /proc: %+v", r)
		}
	}
}

func TestMissing(t *testing.T) {
	full := sandbox.Requirement{Name: spaceName, Fix: "delete"}
	if err := missing([]sandbox.Requirement{{Name: "kernel", OK: true}, full}); err != nil {
		t.Errorf("a full disk: %v", err)
	}
	err := missing([]sandbox.Requirement{full, {Name: "seccomp", Detail: "none", Fix: "Use another kernel."}})
	if err == nil || !strings.Contains(err.Error(), "seccomp") || !strings.Contains(err.Error(), "Use another kernel.") {
		t.Errorf("without seccomp: %v", err)
	}
	// A state directory that cannot hold nameless files is refused by New itself.
	if e, err := New(nil, Config{Root: "/proc/nowhere"}); err == nil || !strings.Contains(err.Error(), "state directory") {
		t.Errorf("New in /proc: %v, %v", e, err)
	}
}

func TestKernelAtLeast(t *testing.T) {
	for release, want := range map[string]bool{
		"5.10.0-28-amd64": true, "5.9.16": false, "6.1": true, "4.19.300": false, "10.0-rc1": true, "": false, "x.y": false,
	} {
		if got := kernelAtLeast(release, 5, 10); got != want {
			t.Errorf("kernelAtLeast(%q) = %v", release, got)
		}
	}
}

func TestFindCgroups(t *testing.T) {
	const v1 = `30 24 0:27 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
31 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
32 30 0:29 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
33 30 0:30 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
`
	m, err := findCgroups(strings.NewReader(v1))
	if err != nil {
		t.Fatal(err)
	}
	if m.v2 != "/sys/fs/cgroup/unified" || m.v1["cpuacct"] != "/sys/fs/cgroup/cpu,cpuacct" {
		t.Errorf("found %+v", m)
	}
	if got, want := missingV1(m), []string{"pids"}; !reflect.DeepEqual(got, want) {
		t.Errorf("missing %v, want %v", got, want)
	}
}

// TestCgroupFiles runs the code of cgroup v2 on a directory that has the files of one.
func TestCgroupFiles(t *testing.T) {
	mount := t.TempDir()
	for _, dir := range []string{"", "sandpool", "sandpool/x"} {
		write(t, filepath.Join(mount, dir, "cgroup.subtree_control"), "")
	}
	c, err := newCgroupV2(mount, "sandpool/x")
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := readString(filepath.Join(mount, "sandpool/x/cgroup.subtree_control")); got != "+cpu +memory +pids" {
		t.Errorf("enabled %q", got)
	}
	limits := sandbox.Limits{CPU: 1.5, Memory: 1 << 30, PIDs: 200, Disk: 1 << 20}
	if err := c.create("a", limits); err == nil {
		t.Error("create succeeds although the limits' files are missing")
	}
	dir := c.dirs("a")[0]
	write(t, filepath.Join(dir, "memory.current"), "4096\n")
	write(t, filepath.Join(dir, "cpu.stat"), "usage_usec 1500\nuser_usec 1000\n")
	write(t, filepath.Join(dir, "memory.events"), "low 0\noom 1\noom_kill 2\n")
	if s, err := c.usage("a"); err != nil || s.Memory != 4096 || s.CPUTime.Microseconds() != 1500 {
		t.Errorf("usage = %+v, %v", s, err)
	}
	if n, err := c.oomKills("a"); err != nil || n != 2 {
		t.Errorf("oomKills = %d, %v", n, err)
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

func TestTuneHost(t *testing.T) {
	e, path := open(t), filepath.Join(t.TempDir(), "shmem_enabled")
	for before, want := range map[string]string{
		"always inherit advise [never]\n": "always", "always [inherit] advise never\n": "always [inherit] advise never",
	} {
		write(t, path, before)
		e.tuneHost(path)
		if got, err := readString(path); err != nil || !strings.HasPrefix(got, want) {
			t.Errorf("of %q it makes %q, %v; want %q", before, got, err, want)
		}
	}
}

func TestOneOwner(t *testing.T) {
	e := open(t)
	if second, err := New(nil, Config{Root: e.cfg.Root}); err == nil {
		t.Errorf("a second engine on one directory: %v", second.Close())
	}
}

func TestTemplateErrors(t *testing.T) {
	e, good := open(t), template(t, sandbox.Restore)
	for target, spoil := range map[string]func(*sandbox.Template){
		"limits.cpu":    func(t *sandbox.Template) { t.Limits.CPU = 0 },
		"limits.memory": func(t *sandbox.Template) { t.Limits.Memory = 1 << 20 },
		"limits.pids":   func(t *sandbox.Template) { t.Limits.PIDs = 3 },
		"limits.disk":   func(t *sandbox.Template) { t.Limits.Disk = -1 },
		"args":          func(t *sandbox.Template) { t.Args = []string{"guest"} },
		"env":           func(t *sandbox.Template) { t.Env = []string{"=x"} },
		"dir":           func(t *sandbox.Template) { t.Dir = "tmp" },
		"ready.port":    func(t *sandbox.Template) { t.Ready.Port = 70000 },
		"ready.path":    func(t *sandbox.Template) { t.Ready.Path = "ready" },
		"start":         func(t *sandbox.Template) { t.Start = "" },
		"root.path":     func(t *sandbox.Template) { t.Root.Path = "/etc/passwd" },
		"root.digest":   func(t *sandbox.Template) { t.Root.Digest = "" },
		"layers[0].target": func(t *sandbox.Template) {
			t.Layers = []sandbox.Layer{{Digest: "x", Path: t.Root.Path, Target: "/a/../b"}}
		},
		"network": func(t *sandbox.Template) { t.Network = "Open" },
	} {
		bad := good
		spoil(&bad)
		_, err := e.Prepare(t.Context(), bad, nil)
		var se *sandpool.Error
		if !errors.As(err, &se) || se.Class != sandpool.Invalid || se.Target != target {
			t.Errorf("%s: error is %v", target, err)
		}
	}
	bad := good
	bad.Network = sandpool.EgressEnabled
	if _, err := e.Prepare(t.Context(), bad, nil); sandpool.ClassOf(err) != sandpool.Unsupported {
		t.Errorf("egress enabled: %v, want class unsupported", err)
	}
}

// TestCgroupV2Start starts a process inside a real group of cgroup v2, of
// which a machine with cgroup v1 has one without controllers.
func TestCgroupV2Start(t *testing.T) {
	mounts, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	defer mounts.Close()
	m, err := findCgroups(mounts)
	if err != nil || m.v2 == "" || os.Geteuid() != 0 {
		t.Skip("needs root and a mounted cgroup v2", err)
	}
	c := &cgroupV2{parent: filepath.Join(m.v2, fmt.Sprintf("sandpool-test-%d", os.Getpid()))}
	dir := c.dirs("a")[0]
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Skip("cgroup v2 is not writable", err)
	}
	cmd := exec.Command("sleep", "60")
	if err := c.start("a", cmd); err != nil {
		t.Fatal(err)
	}
	if pids, err := cgroupPIDs(dir); err != nil || len(pids) != 1 || pids[0] != cmd.Process.Pid {
		t.Errorf("the group has %v, %v; want %d", pids, err, cmd.Process.Pid)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	go func() { _ = cmd.Wait() }()
	if err := killCgroup(ctx, dir); err != nil {
		t.Error(err)
	}
	if err := removeDirs(ctx, []string{dir, c.parent}); err != nil {
		t.Error(err)
	}
}
