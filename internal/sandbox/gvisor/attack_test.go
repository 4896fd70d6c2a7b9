package gvisor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/need"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/gvisor/kernfile"
)

// attack starts one sandbox for a test of what hostile code gets to do.
func attack(t *testing.T, change func(*sandbox.Template)) (*Engine, sandbox.Handle) {
	t.Helper()
	e := open(t)
	tmpl := template(t, sandbox.Restore)
	if change != nil {
		change(&tmpl)
	}
	return e, start(t, e, prepare(t, e, tmpl), "victim")
}

func TestNoWayOut(t *testing.T) {
	e, h := attack(t, nil)
	for _, to := range []struct{ network, addr string }{
		{"tcp", "169.254.169.254:80"}, {"tcp", "1.1.1.1:443"}, {"udp", "8.8.8.8:53"},
		{"tcp", "[2606:4700::1111]:443"}, {"tcp", "10.0.0.1:22"},
	} {
		got := ask(t, e, h, "/connect", url.Values{"net": {to.network}, "addr": {to.addr}})
		if !strings.Contains(got, "unreachable") {
			t.Errorf("connect to %s %s: %s; want unreachable", to.network, to.addr, got)
		}
	}
	sockets := map[string]url.Values{
		"raw":    {"family": {"2"}, "type": {"3"}, "proto": {"1"}},
		"packet": {"family": {"17"}, "type": {"3"}, "proto": {"768"}},
	}
	for name, values := range sockets {
		if got := ask(t, e, h, "/socket", values); !strings.Contains(got, "not permitted") {
			t.Errorf("%s socket: %s; want not permitted", name, got)
		}
	}
}

func TestFewRights(t *testing.T) {
	e, h := attack(t, nil)
	if got := ask(t, e, h, "/mount", nil); !strings.Contains(got, "not permitted") {
		t.Errorf("mount: %s; want not permitted", got)
	}
	if got := ask(t, e, h, "/user", nil); got != "1000" {
		t.Errorf("a process of user 1000 belongs to %s", got)
	}
	for _, path := range []string{"/proc/1/root/etc/shadow", "/etc/shadow", "/proc/kcore",
		"/dev/mem", "/dev/kvm"} {
		if body, err := tryAsk(t.Context(), e, h, "/read",
			url.Values{"path": {path}}); err == nil && !strings.Contains(body, "no such") &&
			!strings.Contains(body, "denied") && body != "" {
			t.Errorf("read %s: %.60q", path, body)
		}
	}
}

// TestHostSide looks at the sandbox's processes as the host sees them.
func TestHostSide(t *testing.T) {
	inGroups(t, 0, 4242)
	e, h := attack(t, nil)
	pid, err := e.mainPID(h.ID)
	if err != nil {
		t.Fatal(err)
	}
	status := procStatus(t, pid)
	for field, want := range map[string]string{
		"Uid:": "65534 65534 65534 65534", "Gid:": "65534 65534 65534 65534", "Groups:": "",
		"CapEff:": strings.Repeat("0", 16), "CapPrm:": strings.Repeat("0", 16),
		"CapBnd:": strings.Repeat("0", 16),
		"CapAmb:": strings.Repeat("0", 16), "Seccomp:": "2", "NoNewPrivs:": "1",
	} {
		if got := status[field]; got != want {
			t.Errorf("%s is %q, want %q", field, got, want)
		}
	}
	pids, err := e.cgroups.PIDs(h.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pids {
		score, err := kernfile.Int(procPath(p, "oom_score_adj"))
		if err == nil && (score == maxOOMScore) != (p == pid) {
			t.Errorf("process %d has the OOM score %d; the sentry alone, %d, should have %d", p,
				score, pid, maxOOMScore)
		}
	}
	for _, ns := range []string{"net", "mnt", "pid", "ipc", "uts", "user"} {
		ours, err1 := os.Readlink("/proc/self/ns/" + ns)
		theirs, err2 := os.Readlink(procPath(pid, "ns/"+ns))
		if err1 != nil || err2 != nil || ours == theirs {
			t.Errorf("namespace %s: ours %q %v, the sandbox's %q %v", ns, ours, err1, theirs, err2)
		}
	}
	for _, fd := range fds(t, pid) {
		for _, bad := range []string{"/" + lockName, "/" + boxesName, "cgroup"} {
			// its own crash log and writable layer
			if strings.Contains(fd, bad) && !strings.HasSuffix(fd, "/"+panicName) &&
				!strings.HasSuffix(fd, "(deleted)") {
				t.Errorf("the sandbox holds %q", fd)
			}
		}
	}
}

// inGroups gives this process supplementary groups, as a login does, until the test ends.
func inGroups(t *testing.T, groups ...int) {
	t.Helper()
	need.Root(t)
	before, err := syscall.Getgroups()
	if err == nil {
		err = syscall.Setgroups(groups)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Setgroups(before); err != nil {
			t.Error(err)
		}
	})
}

// TestNothingInherited: a sandbox process holds nothing that the engine did not give it,
// even if the server has it open without close-on-exec and under a number that gVisor uses.
func TestNothingInherited(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	// Numbers up to just below the ones, so that a new process gets those for what it opens first.
	const wanted = 253
	for fd := 0; fd < wanted-1; {
		fd, err = unix.Dup(int(r.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
	}
	secret, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", r.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	e, h := attack(t, nil)
	pid, err := e.mainPID(h.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds(t, pid) {
		if strings.Contains(fd, secret) {
			t.Errorf("the sandbox holds %q, which is the server's", fd)
		}
	}
}

// TestUmounter: the helper that unmounts a sentry's /proc says that it failed if it was not told
// to.
func TestUmounter(t *testing.T) {
	if !tinyPrograms {
		need.Except(t, need.Processor, "its code is for x86-64")
	}
	program, err := program(umountCode)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "umount")
	if err := os.WriteFile(path, program, 0o700); err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	w.Close() // no byte will come
	cmd := exec.Command(path)
	cmd.ExtraFiles = []*os.File{r}
	var exit *exec.ExitError
	if err := cmd.Run(); !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("without a byte: %v, want exit status 1", err)
	}
}

func TestMemoryBomb(t *testing.T) {
	e, h := attack(t, nil)
	if _, err := tryAsk(t.Context(), e, h, "/memory", url.Values{"mb": {"400"}}); err == nil {
		t.Error("400 MB fit into 256 MB")
	}
	exit, err := e.Wait(t.Context(), h)
	if err != nil || exit.Reason != sandbox.OutOfMemory {
		t.Errorf("Wait = %+v, %v; want out of memory", exit, err)
	}
	if _, err := e.Dial(t.Context(), h, 8080); sandpool.ClassOf(err) != sandpool.Ended {
		t.Errorf("Dial after the end: %v; want class ended", err)
	}
}

// TestOvercommit: a mapping that no memory could hold is refused, as Linux refuses it, and one that
// is only room is not. What is refused is an error of the program; what is not, and is then used,
// would be the end of its sandbox.
func TestOvercommit(t *testing.T) {
	e, h := attack(t, nil)
	const room, granted = "cannot allocate memory", "granted"
	for mb, want := range map[string]map[string]string{
		"100": {"private": granted, "shared": granted, "grown": granted, "heap": granted,
			"no access": granted},
		"300": {"private": room, "shared": room, "grown": room, "heap": room,
			"read only": granted, "no access": granted, "private, noreserve": granted,
			"shared, noreserve": granted},
		"1000000": {"private": room, "shared": room, "grown": room, "heap": room,
			"no access": granted, "private, noreserve": granted},
	} {
		got := ask(t, e, h, "/reserve", url.Values{"mb": {mb}})
		for way, outcome := range want {
			if !strings.Contains("\n"+got, "\n"+way+": "+outcome+"\n") {
				t.Errorf("%s MB of 256, %s: want %s in\n%s", mb, way, outcome, got)
			}
		}
	}
}

// TestMemoryBombOfChildren: the kernel would end one of the host's processes
// that the guest's processes run in, which leaves the sandbox without a limb.
func TestMemoryBombOfChildren(t *testing.T) {
	e, h := attack(t, func(tmpl *sandbox.Template) { tmpl.Limits.Memory = 512 << 20 })
	bombByChildren(t, e, h)
}

func TestMemoryBombOfAdopted(t *testing.T) {
	e, h := attack(t, func(tmpl *sandbox.Template) { tmpl.Limits.Memory = 512 << 20 })
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	bombByChildren(t, openAt(t, e.cfg.Root), h)
}

func bombByChildren(t *testing.T, e *Engine, h sandbox.Handle) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if body, err := tryAsk(ctx, e, h, "/children", url.Values{"n": {"1"}}); err == nil {
		t.Errorf("the guest outlives its children: %s", body)
	}
	exit, err := e.Wait(ctx, h)
	if err != nil || exit.Reason != sandbox.OutOfMemory {
		t.Errorf("Wait = %+v, %v; want out of memory", exit, err)
	}
}

func TestTooLittleMemory(t *testing.T) {
	e, tmpl := open(t), template(t, sandbox.Restore)
	tmpl.Limits.Memory = 64 << 20
	tmpl.Env = append(tmpl.Env, "GUEST_MEGABYTES=100")
	_, err := e.Prepare(t.Context(), tmpl, nil)
	if err == nil || !strings.Contains(err.Error(), "memory limit") {
		t.Errorf("100 MB in 64 MB: %v", err)
	}
}

func TestNoSuchProgram(t *testing.T) {
	e, tmpl := open(t), template(t, sandbox.Boot)
	tmpl.Args = []string{"/missing"}
	_, err := e.Start(t.Context(), "x", prepare(t, e, tmpl))
	if err == nil || !strings.Contains(err.Error(), "/missing") {
		t.Errorf("start of a missing program: %v", err)
	}
}

// TestLastWords: an agent that gives up says why, and Prepare passes it on.
func TestLastWords(t *testing.T) {
	e, tmpl := open(t), template(t, sandbox.Restore)
	tmpl.Args = append(tmpl.Args, "fail")
	if _, err := e.Prepare(t.Context(), tmpl, nil); err == nil ||
		!strings.Contains(err.Error(), "ate my interpreter") {
		t.Errorf("a first process that fails: %v", err)
	}
}

func TestDiskBomb(t *testing.T) {
	e, h := attack(t, nil)
	for _, path := range []string{"/root/big", "/tmp/big", "/dev/shm/big"} {
		got := ask(t, e, h, "/disk", url.Values{"path": {path}, "mb": {"200"}})
		if !strings.Contains(got, "no space left") {
			t.Errorf("200 MB to %s: %s; want no space left", path, got)
		}
	}
	if got := ask(t, e, h, "/state", nil); got != "1" {
		t.Errorf("the sandbox answers %q after it", got)
	}
}

// TestDiskIsNotMemory fills a writable layer that is larger than the memory.
func TestDiskIsNotMemory(t *testing.T) {
	e, h := attack(t, func(tmpl *sandbox.Template) {
		tmpl.Limits.Memory, tmpl.Limits.Disk = 128<<20, 300<<20
	})
	if got := ask(t, e, h, "/disk", url.Values{"path": {"/root/big"}, "mb": {"280"}}); got !=
		"written" {
		t.Errorf("280 MB of 300 MB: %s", got)
	}
	if got := ask(t, e, h, "/disk", url.Values{"path": {"/root/more"},
		"mb": {"280"}}); !strings.Contains(got, "no space left") {
		t.Errorf("280 MB more: %s; want no space left", got)
	}
}

// TestLimits reads the limits of a started sandbox back from the kernel, under the names that
// either version of cgroups has for them.
func TestLimits(t *testing.T) {
	e, h := attack(t, nil)
	dirs := e.cgroups.Dirs(h.ID)
	for _, limit := range []struct {
		files map[string]string
		must  bool
	}{
		{map[string]string{"memory.limit_in_bytes": "268435456", "memory.max": "268435456"}, true},
		{map[string]string{"pids.max": "256"}, true},
		{map[string]string{"cpu.cfs_quota_us": "100000", "cpu.max": "100000 100000"}, true},
		{map[string]string{"cpu.cfs_period_us": "100000"}, false},
		{map[string]string{"memory.oom.group": "1"}, false},
		{map[string]string{"memory.swap.max": "0"}, false},
	} {
		found := 0
		for file, want := range limit.files {
			for _, dir := range dirs {
				got, err := kernfile.Text(filepath.Join(dir, file))
				if errors.Is(err, fs.ErrNotExist) {
					continue
				}
				if found++; err != nil || got != want {
					t.Errorf("%s of %s is %q, %v; want %q", file, dir, got, err, want)
				}
			}
		}
		if limit.must && found != 1 {
			t.Errorf("%d of %q are set in %q, want 1", found,
				slices.Collect(maps.Keys(limit.files)), dirs)
		}
	}
	pid, err := e.mainPID(h.ID)
	if err != nil {
		t.Fatal(err)
	}
	groups, err := os.ReadFile(procPath(pid, "cgroup"))
	if got := strings.Count(string(groups), "/victim\n"); err != nil || got != len(dirs) {
		t.Errorf("the sandbox is in %d groups of its own, want %d:\n%s", got, len(dirs), groups)
	}
}

func TestForkBomb(t *testing.T) {
	e, h := attack(t, func(tmpl *sandbox.Template) { tmpl.Limits.PIDs = 128 })
	body, err := tryAsk(t.Context(), e, h, "/forks", url.Values{"n": {"400"}})
	t.Logf("400 processes: %q, %v", body, err)
	for _, dir := range e.cgroups.Dirs(h.ID) {
		if pids, err := kernfile.Int(dir + "/pids.current"); err == nil {
			t.Logf("%d threads on the host", pids)
			if pids > 128 {
				t.Errorf("the host has %d threads of the sandbox, want at most 128", pids)
			}
		}
	}
	if err != nil || !strings.Contains(body, "resource temporarily unavailable") {
		t.Errorf("400 processes: %q, %v; want an error of the one that is too many", body, err)
	}
	if got := ask(t, e, h, "/state", nil); got != "1" {
		t.Errorf("the sandbox answers %q after it", got)
	}
	begin := time.Now()
	if err := e.Stop(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	t.Logf("stopped after %v", time.Since(begin))
}

func TestExitCode(t *testing.T) {
	e, h := attack(t, nil)
	// it ends before it answers
	_, _ = tryAsk(t.Context(), e, h, "/exit", url.Values{"code": {"7"}})
	exit, err := e.Wait(t.Context(), h)
	if want := (sandbox.Exit{Reason: sandbox.Exited, Code: 7}); err != nil || exit != want {
		t.Errorf("Wait = %+v, %v; want %+v", exit, err, want)
	}
}
