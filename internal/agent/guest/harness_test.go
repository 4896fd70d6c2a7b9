package guest_test

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/agent/guest"
	"github.com/sandpool/sandpool/internal/agent/kernels"
	"github.com/sandpool/sandpool/internal/need"
	"golang.org/x/sys/unix"
)

// The test binary is the agent when this variable holds where it is to listen.
const agentAddr = "GUEST_TEST_LISTEN"

// agentWarm has agents warm up as they do in a sandbox.
const agentWarm = "GUEST_TEST_WARM"

// agentUser has agents be the user that code runs as.
const agentUser = "GUEST_TEST_USER"

// venvMount is where the agent under test finds its interpreter.
const venvMount = "/mnt"

func TestMain(m *testing.M) {
	if addr := os.Getenv(agentAddr); addr != "" {
		os.Exit(runAgent(addr))
	}
	flag.Parse()
	if err := flag.Set("test.parallel", "4"); err != nil {
		panic(err) // cannot happen: package testing has it
	}
	os.Exit(m.Run())
}

// runAgent is the agent as the first process of a process namespace, which is
// what it is in a sandbox.
func runAgent(addr string) int {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	// As the engine bounds the processes of a sandbox; it does not hold for root.
	if err := unix.Setrlimit(unix.RLIMIT_NPROC, &unix.Rlimit{Cur: 128, Max: 128}); err != nil {
		log.Error("limit processes", "error", err)
		return 1
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		log.Error("mount", "error", err)
		return 1
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		log.Error("mount", "error", err)
		return 1
	}
	// The kernel's user need not be able to reach the checkout, where the interpreter is.
	if err := unix.Mount(os.Getenv("GUEST_TEST_VENV"), venvMount, "", unix.MS_BIND,
		""); err != nil {
		log.Error("mount", "error", err)
		return 1
	}
	// What this process has inherited is nothing for kernels: bash keeps descriptors of its own
	// from 10 up.
	if err := unix.CloseRange(3, 1<<20, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		log.Error("close descriptors", "error", err)
		return 1
	}
	python, err := kernels.Find("python")
	if err == nil && os.Getenv(agentWarm) == "" {
		err = lighten(&python)
	}
	if err != nil {
		log.Error("agent", "error", err)
		return 1
	}
	cfg := guest.Config{Addr: addr, Kernel: python, Interpreter: filepath.Join(venvMount, "bin",
		"python"), User: guest.User{UID: agent.UserID, GID: agent.GroupID},
		Home: os.Getenv("GUEST_TEST_HOME"), DataDir: os.Getenv("GUEST_TEST_DATA"),
		Secret: os.Getenv(agent.SecretVar)}
	if os.Getenv(agentUser) != "" { // as in a pod that has no root
		err = errors.Join(unix.Setgroups(nil), unix.Setgid(agent.GroupID),
			unix.Setuid(agent.UserID))
		if err != nil {
			log.Error("become the user", "error", err)
			return 1
		}
	}
	if err := guest.Run(context.Background(), log, cfg); err != nil {
		log.Error("agent", "error", err)
		return 1
	}
	return 0
}

// lighten has the kernel warm up without the large libraries, which makes most of a start's time
// and is what TestSandbox is about: cells import what they need.
func lighten(spec *kernels.Spec) error {
	text, err := spec.Program()
	if err != nil {
		return err
	}
	for _, heavy := range []string{`\"numpy\", \"pandas\", \"matplotlib.pyplot\", ` +
		`\"matplotlib_inline.backend_inline\", `, `\"import numpy; numpy.arange(3)\", `,
		`\"import pandas; pandas.DataFrame({'a': [1, 2]})\",`,
		`\"import matplotlib.pyplot as plt; plt.plot([1, 2])\"`} {
		if !strings.Contains(text, heavy) {
			return fmt.Errorf("the Python kernel does not warm up %s", heavy)
		}
		text = strings.Replace(text, heavy, "", 1)
	}
	// Nor does a test wait as long for the text of a value.
	const patience = "PATIENCE = 10.0"
	if !strings.Contains(text, patience) {
		return fmt.Errorf("the Python kernel has no %s", patience)
	}
	text = strings.Replace(text, patience, "PATIENCE = 1.0", 1)
	spec.Program = func() (string, error) { return text, nil }
	return nil
}

// sandbox is a running agent and a client of it.
type sandbox struct {
	*agent.Client
	dial func(context.Context, int) (net.Conn, error)
	addr string
	data string
	pid  int

	secret string
}

// boot starts an agent that has had no init call yet.
func boot(t testing.TB) *sandbox {
	t.Helper()
	return bootOn(t, nil)
}

// bootOn is boot with a standard input; nil stands for /dev/null.
func bootOn(t testing.TB, input *os.File) *sandbox {
	t.Helper()
	need.Root(t)
	aside(t)
	python := interpreter(t)
	s := &sandbox{addr: freeAddr(t), data: userDir(t)}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), agentAddr + "=" + s.addr, "GUEST_TEST_VENV=" +
		filepath.Dir(filepath.Dir(python)),
		"GUEST_TEST_HOME=" + userDir(t), "GUEST_TEST_DATA=" + s.data,
		agentWarm + "=" + os.Getenv(agentWarm), agentUser + "=" + os.Getenv(agentUser),
		agent.SecretVar + "=" + os.Getenv(agent.SecretVar)}
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if input != nil {
		cmd.Stdin = input
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL,
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWUTS}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.pid = cmd.Process.Pid
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // and with the first process the whole namespace
		for range ended {
		}
	})
	s.dial = func(ctx context.Context, _ int) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", s.addr)
	}
	s.awaitReady(t, ended)
	return s
}

// besides holds the names of the tests that run beside others.
var besides sync.Map

// alone keeps a test from running beside others: the kernel counts the processes of a user over all
// sandboxes of these tests, and one that takes what there is takes it from them.
func alone(t *testing.T) { besides.Store(t.Name(), true) }

// aside has a test run beside others: what takes its time is the start of an interpreter, and each
// has an agent of its own.
func aside(t testing.TB) {
	one, ok := t.(*testing.T)
	if ok && !strings.Contains(t.Name(), "/") && os.Getenv(agentWarm) == "" {
		if _, before := besides.LoadOrStore(t.Name(), true); !before {
			one.Parallel()
		}
	}
}

// start boots an agent and gives it its secret.
func start(t testing.TB) *sandbox {
	t.Helper()
	s := boot(t)
	secret := rand.Text()
	s.secret = secret
	s.Client = agent.NewClient(s.dial, secret)
	t.Cleanup(s.Close)
	if _, err := s.Init(t.Context(), agent.InitRequest{Secret: secret,
		Seed: []byte(rand.Text())}); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *sandbox) awaitReady(t testing.TB, ended <-chan error) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for time.Now().Before(deadline) {
		if status, _ := s.raw(t, "GET", "/ready", "", ""); status == 200 {
			return
		}
		select {
		case <-tick.C:
		case err := <-ended:
			t.Fatalf("the agent ended: %v", err)
		}
	}
	t.Fatal("the agent was not ready in time")
}

// run executes code with a minute's time and fails the test if there is no result.
func (s *sandbox) run(t testing.TB, code string) agent.ExecuteResult {
	t.Helper()
	return s.runFor(t, time.Minute, code)
}

func (s *sandbox) runFor(t testing.TB, timeout time.Duration, code string) agent.ExecuteResult {
	t.Helper()
	res, err := s.Execute(t.Context(), agent.ExecuteRequest{Code: code, Timeout: timeout})
	if err != nil {
		t.Fatalf("execute %q: %v", code, err)
	}
	return res
}

// socketPair returns two ends of a stream, of which one is to be handed to a process.
func socketPair(t testing.TB) (*net.UnixConn, *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	near, far := os.NewFile(uintptr(fds[0]), "near"), os.NewFile(uintptr(fds[1]), "far")
	defer near.Close() // net.FileConn duplicates it
	t.Cleanup(func() { _ = far.Close() })
	conn, err := net.FileConn(near)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn.(*net.UnixConn), far
}

func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// userDir makes a directory that belongs to the user.
func userDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, agent.UserID, agent.GroupID); err != nil {
		t.Fatal(err)
	}
	return dir
}

// installed is the outcome of install, once a process.
var installed = sync.OnceValues(func() (string, error) {
	if p := os.Getenv("SANDPOOL_TEST_PYTHON"); p != "" {
		return p, nil
	}
	root, err := checkout()
	if err != nil {
		return "", err
	}
	return install(filepath.Join(root, ".sandpool", "agent-venv"))
})

// interpreter returns a Python with what the image has, which it installs
// inside the checkout the first time.
func interpreter(t testing.TB) string {
	t.Helper()
	python, err := installed()
	if err != nil {
		need.Lack(t, "no interpreter for a kernel on this host; TestSandbox runs the same in the "+
			"image: %v", err)
	}
	return python
}

func install(venv string) (string, error) {
	python := filepath.Join(venv, "bin", "python")
	unlock, err := lockFile(venv + ".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if exec.Command(python, "-c", "import IPython, matplotlib_inline, numpy, pandas").Run() == nil {
		return python, nil
	}
	for _, args := range [][]string{
		{"/usr/bin/python3", "-m", "venv", "--clear", venv},
		{python, "-m", "pip", "install", "-q", "ipython", "matplotlib-inline", "matplotlib",
			"numpy", "pandas"},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			return "", fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
		}
	}
	return python, nil
}

func lockFile(path string) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return nil, err
	}
	return func() { _ = f.Close() }, nil
}

// checkout is the folder of go.mod.
func checkout() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
	}
	return "", errors.New("no go.mod above the test")
}

// raw sends a request without the client and returns status and body; status 0
// stands for no answer.
func (s *sandbox) raw(t testing.TB, method, path, token, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.addr+path,
		strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func contextFor(t testing.TB, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), d)
}

// until calls f until it succeeds, for a minute at most.
func (s *sandbox) until(t testing.TB, f func() error) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var err error
	for end := time.Now().Add(time.Minute); time.Now().Before(end); <-tick.C {
		if err = f(); err == nil {
			return
		}
	}
	t.Fatal(err)
}
