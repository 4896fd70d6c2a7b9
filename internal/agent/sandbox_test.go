package agent_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/erofs"
	"github.com/sandpool/sandpool/internal/image"
	"github.com/sandpool/sandpool/internal/need"
	"github.com/sandpool/sandpool/internal/sandbox"
	"github.com/sandpool/sandpool/internal/sandbox/gvisor"
)

func TestMain(m *testing.M) {
	gvisor.HandOver()
	os.Exit(m.Run())
}

// machine restores sandboxes of one image.
type machine struct {
	engine   *gvisor.Engine
	prepared sandbox.Prepared
	boxes    int
}

// newMachine takes a snapshot of the warm agent. It needs root and the image,
// which make test builds before.
func newMachine(t testing.TB) *machine {
	t.Helper()
	return newMachineOf(t, "python")
}

// newMachineOf is newMachine for the kernel and the image of a language.
func newMachineOf(t testing.TB, language string) *machine {
	t.Helper()
	store, err := image.Open(filepath.Join(need.Data(t), "images"))
	if err != nil {
		t.Fatal(err)
	}
	img, err := store.Resolve(language)
	if err != nil {
		need.Lack(t, "no image %q in SANDPOOL_TEST_DATA: %v", language, err)
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	root := t.TempDir()
	e, err := gvisor.New(log, gvisor.Config{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	start := time.Now()
	p, err := e.Prepare(t.Context(), sandbox.Template{
		Root:   img.Root(),
		Layers: []sandbox.Layer{agentLayer(t)},
		Args:   agent.Args(language),
		Env:    []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		Dir:    "/",

		Capabilities: agent.Capabilities(),

		Channel: true,
		Ready:   agent.Ready(),
		Start:   sandbox.Restore,
		Limits:  sandpool.Resources{CPU: 2, Memory: 1 << 30, PIDs: 1024, Disk: 1 << 30},
		Network: sandpool.Network{Status: sandpool.EgressDisabled},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("snapshot of %d MB after %v", sizeOf(t, filepath.Join(root, "snapshots"))>>20,
		time.Since(start))
	return &machine{engine: e, prepared: p}
}

// sizeOf returns the bytes of all files beneath dir.
func sizeOf(t testing.TB, dir string) (bytes int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			bytes += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return bytes
}

func agentLayer(t testing.TB) sandbox.Layer {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, path.Base(agent.Path))
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", program,
		"github.com/sandpool/sandpool/cmd/sandpool-agent")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the agent: %v: %s", err, out)
	}
	store, err := image.Open(filepath.Join(dir, "layers"))
	if err != nil {
		t.Fatal(err)
	}
	entry, err := erofs.HostFile(path.Base(agent.Path), 0o755, program)
	if err != nil {
		t.Fatal(err)
	}
	img, err := store.Put(t.Context(), "agent", []erofs.Entry{entry})
	if err != nil {
		t.Fatal(err)
	}
	return img.Layer(path.Dir(agent.Path))
}

// restore starts a sandbox and gives it its secret.
func (m *machine) restore(t testing.TB) *agent.Client {
	t.Helper()
	m.boxes++
	id := sandbox.ID(fmt.Sprintf("agent%d", m.boxes))
	start := time.Now()
	h, err := m.engine.Start(t.Context(), id, m.prepared)
	if err != nil {
		t.Fatal(err)
	}
	restored := time.Since(start)
	t.Cleanup(func() {
		if t.Failed() {
			short, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Second)
			defer cancel()
			exit, err := m.engine.Wait(short, h)
			t.Logf("sandbox %s: %+v, %v", id, exit, err)
		}
		if err := m.engine.Stop(context.WithoutCancel(t.Context()), h); err != nil {
			t.Error(err)
		}
	})
	secret := rand.Text()
	c := agent.NewClient(func(ctx context.Context, port int) (net.Conn, error) {
		return m.engine.Dial(ctx, h, port)
	}, secret)
	t.Cleanup(c.Close)
	res, err := c.Init(t.Context(), agent.InitRequest{Secret: secret, Seed: []byte(rand.Text()),
		Time: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	channel, err := m.engine.Dial(t.Context(), h, sandbox.Channel)
	if err != nil {
		t.Fatal(err)
	}
	c.Attach(channel)
	if _, err := m.engine.Dial(t.Context(), h, sandbox.Channel); sandpool.ClassOf(
		err) != sandpool.Conflict {
		t.Errorf("the channel is given twice: %v", err)
	}
	t.Logf("restored in %v, init in %v: %+v", restored, time.Since(start)-restored, res)
	return c
}

func run(t testing.TB, c *agent.Client, timeout time.Duration, code string) agent.ExecuteResult {
	t.Helper()
	start := time.Now()
	res, err := c.Execute(t.Context(), agent.ExecuteRequest{Code: code, Timeout: timeout})
	if err != nil {
		t.Fatalf("execute %q: %v", code, err)
	}
	t.Logf("%-40.40q %-20s %v", code, res.Outcome, time.Since(start))
	return res
}

// TestSandbox: in a real sandbox cells run, clones differ, and a broken kernel is replaced.
func TestSandbox(t *testing.T) {
	m := newMachine(t)
	a, b := m.restore(t), m.restore(t)
	likeFresh(t, m.restore(t))
	for _, code := range []string{
		"import random; random.random()", "import numpy as np; np.random.rand()",
		"import os; os.urandom(8)",
		"import uuid; uuid.uuid4()", "import tempfile; tempfile.mktemp()",
		"import ssl; ssl.RAND_bytes(8)",
	} {
		if x, y := run(t, a, time.Minute, code), run(t, b, time.Minute, code); x.Text == y.Text ||
			x.Text == "" {
			t.Errorf("%s: clones have %q and %q: %+v", code, x.Text, y.Text, x.Error)
		}
	}
	// Each thread is in the snapshot, and Python warns of a fork where there is more than one.
	const few = "[len(__import__('os').listdir(f'/proc/{p}/task')) <= n for p, n in (('1', 5), " +
		"('self', 1))]"
	if res := run(t, a, time.Minute, few); res.Text != "[True, True]" {
		t.Errorf("agent and kernel have few threads: %s, should be [True, True]: %+v", res.Text,
			res.Error)
	}
	for _, c := range []struct {
		code    string
		timeout time.Duration
		outcome agent.Outcome
		stdout  string
	}{
		{"1 + 1", time.Minute, agent.OK, ""},
		{"1 / 0", time.Minute, agent.Failed, ""},
		{"!echo hi; id -un", time.Minute, agent.OK, "hi\nsandbox\n"},
		{"import matplotlib.pyplot as plt; plt.plot([1, 2])", time.Minute, agent.OK, ""},
		{"plt.plot([2, 1])", time.Minute, agent.OK, ""},
		{"await __import__('asyncio').sleep(0.01)", time.Minute, agent.OK, ""},
		{"print(open('/dev/stdout', 'w') is None)", time.Minute, agent.OK, "False\n"},
		{"import time; time.sleep(60)", 300 * time.Millisecond, agent.TimeoutInterrupted, ""},
		{"import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [2])\nwhile True: pass",
			300 * time.Millisecond, agent.TimeoutRestarted, ""},
		{"import os; os._exit(3)", time.Minute, agent.KernelDied, ""},
		{"import os; os.kill(os.getpid(), 9)", time.Minute, agent.KernelDied, ""},
		{"import os; os.kill(os.getpid(), 19)", 300 * time.Millisecond, agent.TimeoutInterrupted,
			""},
		{"import subprocess\np = []\ntry:\n  while len(p) < 1000: " +
			"p.append(subprocess.Popen(['sleep', '1000']))\nexcept BlockingIOError: print('no more')", time.Minute, agent.OK, "no more\n"},
		{"import os; os._exit(4)", time.Minute, agent.KernelDied, ""},
		{"print('x' * 300_000_000)", time.Minute, agent.OK, "?"},
		{"import threading, os; len(os.listdir('/proc')) < 20", time.Minute, agent.OK, ""},
	} {
		res := run(t, a, c.timeout, c.code)
		if res.Outcome != c.outcome || c.stdout != "?" && res.Stdout != c.stdout {
			t.Errorf("%s: %s %q %+v", c.code, res.Outcome, res.Stdout[:min(200, len(res.Stdout))],
				res.Error)
		}
	}
	separated(t, a)
	backPressure(t, a)
	largeUpload(t, a)
	inTerminal(t, a)
	hangUp(t, b)
	info, err := a.Upload(t.Context(), "/mnt/data/sub/ä b#%.txt", strings.NewReader("content"), 100)
	if err != nil {
		t.Fatal(err)
	}
	if res := run(t, a, time.Minute, "open('/mnt/data/"+info.Path+
		"').read() + str(os.stat('/mnt/data/"+info.Path+"').st_uid)"); res.Text != "'content1000'" {
		t.Errorf("uploaded file holds %s: %+v", res.Text, res.Error)
	}
	limitsOfCode(t, a)
}

// inTerminal checks that a real sandbox has terminals and tells of its processes.
func inTerminal(t *testing.T, c *agent.Client) {
	t.Helper()
	term, err := c.Terminal(t.Context(), agent.TerminalSize{Columns: 300, Rows: 50})
	if err != nil {
		t.Fatal(err)
	}
	defer term.Close()
	defer time.AfterFunc(time.Minute, func() { _ = term.Close() }).Stop()
	say := func(text string) {
		if _, err := io.WriteString(term, text); err != nil {
			t.Fatal(err)
		}
	}
	var seen strings.Builder
	await := func(want string) {
		buf := make([]byte, 4096)
		for !strings.Contains(seen.String(), want) {
			n, err := term.Read(buf)
			seen.Write(buf[:n])
			if err != nil {
				t.Fatalf("%q instead of %q: %v", seen.String(), want, err)
			}
		}
		seen.Reset()
	}
	say("echo $(id -u) $(stty size) $(tty); pwd > $(tty); ulimit -p\n")
	await("1000 50 300 /dev/pts/0\r\n/mnt/data\r\n244\r\n")
	say(`sh -c 'trap "echo re\"\"sized \$(stty size)" WINCH; sleep 1000 & wait; echo wai""ted; wait'` + "\n")
	for end := time.Now().Add(time.Minute); ; {
		all, err := c.Processes(t.Context())
		if err != nil || len(all) < 3 || all[0].PID != 1 ||
			all[0].Command != strings.Join(agent.Args("python"), " ") || all[0].UserID != 0 {
			t.Fatalf("processes: %+v, %v", all, err)
		}
		if i := slices.IndexFunc(all, func(p agent.Process) bool {
			return p.Command == "sleep 1000" && p.State == agent.ProcessSleeping
		}); i > 0 {
			if p := all[i]; p.UserID != agent.UserID || p.ResidentBytes == 0 ||
				time.Since(p.Started).Abs() > time.Minute {
				t.Errorf("%+v", p)
			}
			break
		}
		if time.Now().After(end) {
			t.Fatalf("sleep does not run: %+v", all)
		}
	}
	if err := term.Resize(agent.TerminalSize{Columns: 301, Rows: 51}); err != nil {
		t.Fatal(err)
	}
	await("resized 51 301\r\nwaited\r\n")
	say("\x03")
	say("(trap '' HUP; sleep 1001) & for i in 1 2 3; do head -c 100000 /dev/zero | tr '\\0' x; " +
		"done; exit 5\n")
	out, err := io.ReadAll(term)
	exit, _ := term.Exit()
	if n := strings.Count(string(out), "x"); err != nil || exit.Code != 5 || n < 300000 ||
		n > 300010 {
		t.Errorf("exit %+v after %d bytes, %v", exit, n, err)
	}
	all, err := c.Processes(t.Context())
	if i := slices.IndexFunc(all, func(p agent.Process) bool {
		return strings.HasPrefix(p.Command, "sleep")
	}); i >= 0 || err != nil {
		t.Errorf("left by the terminal: %+v, %v", all, err)
	}
}

// hangUp checks that a sandbox notices when the host closes a terminal, whichever way it is stuck.
func hangUp(t *testing.T, c *agent.Client) {
	t.Helper()
	marks := []string{"sleep 2001", "yes 2002", "sleep 2003"}
	running := func() (n int) {
		all, err := c.Processes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range all {
			if slices.Contains(marks, p.Command) {
				n++
			}
		}
		return n
	}
	await := func(n int) {
		t.Helper()
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for end := time.Now().Add(time.Minute); running() != n; <-tick.C {
			if time.Now().After(end) {
				t.Fatalf("%d of the processes %q run, want %d", running(), marks, n)
			}
		}
	}
	var open []*agent.Terminal
	for _, mark := range marks {
		term, err := c.Terminal(t.Context(), agent.TerminalSize{Columns: 80, Rows: 24})
		if err != nil {
			t.Fatal(err)
		}
		defer term.Close()
		open = append(open, term)
		if _, err := io.WriteString(term, "stty raw -echo; "+mark+"\n"); err != nil {
			t.Fatal(err)
		}
	}
	await(len(marks))
	if _, err := open[2].Write(make([]byte, 4<<20)); err != nil { // which nobody reads
		t.Fatal(err)
	}
	for _, term := range open {
		if err := term.Close(); err != nil {
			t.Fatal(err)
		}
	}
	await(0)
}

// separated checks that code can neither signal, trace nor read the processes
// that watch it.
func separated(t *testing.T, c *agent.Client) {
	t.Helper()
	res := run(t, c, time.Minute, `
import os, ctypes
libc = ctypes.CDLL(None, use_errno=True)
others = [int(p) for p in os.listdir('/proc') if p.isdigit() and 'Uid:\t1000' not in open('/proc/%s/status' % p).read()]
assert others == [1], others
for pid in others:
    try:
        os.kill(pid, 0); print('signal', pid)
    except PermissionError: pass
    if libc.ptrace(16, pid, 0, 0) == 0: print('trace', pid)
    for name in ('mem', 'environ', 'maps', 'fd/0', 'root', 'cwd'):
        try:
            (os.readlink if name in ('fd/0', 'root', 'cwd') else open)('/proc/%d/%s' % (pid, name)); print('open', pid, name)
        except OSError: pass
for path in ('/opt/sandpool/x', '/etc/x', '/x', '/usr/x'):
    try:
        open(path, 'w'); print('write', path)
    except OSError: pass
`)
	if res.Outcome != agent.OK || res.Stdout != "" {
		t.Errorf("separation: %q %+v", res.Stdout, res.Error)
	}
}

// BenchmarkRoundTrip is the time of 1+1 in a live session, from the host to
// the kernel and back.
func BenchmarkRoundTrip(b *testing.B) {
	c := newMachine(b).restore(b)
	for b.Loop() {
		res, err := c.Execute(b.Context(), agent.ExecuteRequest{Code: "1+1"})
		if err != nil || res.Text != "2" {
			b.Fatalf("%+v, %v", res, err)
		}
	}
}

// BenchmarkCall is a call that does nothing in the sandbox: what of a round
// trip is not the kernel's.
func BenchmarkCall(b *testing.B) {
	c := newMachine(b).restore(b)
	for b.Loop() {
		if err := c.Interrupt(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFirstCell is what a session waits for in its sandbox: the first cell
// after a restore.
func BenchmarkFirstCell(b *testing.B) {
	m := newMachine(b)
	for b.Loop() {
		b.StopTimer()
		c := m.restore(b)
		b.StartTimer()
		if res := run(b, c, time.Minute, "print('hello')\n6 * 7"); res.Text != "42" {
			b.Fatalf("%+v", res)
		}
	}
}
