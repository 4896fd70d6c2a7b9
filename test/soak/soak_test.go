// Package soak_test is a day of use in small: many sessions in a row, while
// kernels, sandboxes and the server itself are killed at random. Every answer
// must be right or a clear error, and at the end nothing may be left.
package soak_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/internal/need"
	"github.com/sandpool/sandpool/internal/postgres/pgtest"
	"github.com/sandpool/sandpool/test/leaks"
)

const (
	shortSessions = 1000 // SANDPOOL_TEST_SOAK sets another number
	// What is kept in a PostgreSQL is tried in short only: the store's own tests are long.
	sharedSessions = 100
	poolSize       = 20
	workers        = 4
)

// serverDown is the outcome of a session whose caller got no answer at all.
const serverDown = "error: server down"

// tally counts what became of the sessions.
type tally struct {
	mu     sync.Mutex
	counts map[string]int
}

func (c *tally) add(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts[what]++
}

func TestSoak(t *testing.T) {
	need.Data(t)
	n := shortSessions
	if long := longSessions(t); long > 0 {
		n = long
	}
	soak(t, newProgram(t), n)
}

// TestSoakSharedStore is the same with a PostgreSQL as the store, which is killed as well.
func TestSoakSharedStore(t *testing.T) {
	need.Data(t)
	soak(t, newShared(t), sharedSessions)
}

// soak has n sessions while kills go on, and counts what is left.
func soak(t *testing.T, srv *program, n int) {
	before, err := leaks.Count(srv.data)
	if err != nil {
		t.Fatal(err)
	}
	srv.start(t)
	c := srv.client(t)
	put(t, c)

	got := tally{counts: map[string]int{}}
	ctx, stop := context.WithCancel(t.Context())
	var killer, users sync.WaitGroup
	killer.Go(func() { killAtRandom(ctx, t, srv, &got) })
	next := make(chan int)
	for range workers {
		users.Go(func() {
			for i := range next {
				oneSession(t, c, i, &got)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	users.Wait()
	stop()
	killer.Wait()

	srv.stop(t)
	t.Logf("%d sessions: %v", n, got.counts)
	if reached := n - got.counts[serverDown]; got.counts["right"] < reached*8/10 {
		t.Errorf("only %d of the %d sessions that met a server were served; kills alone do not "+
			"explain that", got.counts["right"], reached)
	}
	after, err := leaks.Count(srv.data)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range after.Diff(before) {
		t.Errorf("left behind: %s", line)
	}
}

// longSessions is how many sessions the long form has; 0 means that this is the short form.
func longSessions(t *testing.T) int {
	t.Helper()
	s := os.Getenv("SANDPOOL_TEST_SOAK")
	if s == "" {
		return 0
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("SANDPOOL_TEST_SOAK=%q is not a number", s)
	}
	return n
}

// put makes the pools and waits until they can be used.
func put(t *testing.T, c *client.Client) {
	t.Helper()
	for _, p := range []struct {
		name  string
		kind  sandpool.ContainerType
		ready int
	}{
		{"soak", sandpool.PythonLTS, poolSize}, {"soak-node", sandpool.NodeLTS, poolSize / 4},
		{"soak-shell", sandpool.Shell, poolSize / 4},
	} {
		body := api.SessionPool{Location: "local", Properties: &api.SessionPoolProperties{
			ContainerType: string(p.kind),
			ScaleConfiguration: &api.ScaleConfiguration{
				MaxConcurrentSessions: new(4 * poolSize), ReadySessionInstances: new(p.ready)},
		}}
		if _, err := c.PutPool(t.Context(), p.name, body); err != nil {
			t.Fatalf("put pool %s: %v", p.name, err)
		}
	}
}

// A way is how a user works: in a pool, and perhaps in a context of its sessions.
type way struct {
	pool, kernel string
	// set keeps a number, which it takes by %d, and prints its square; next prints the number after
	// it, or fails; end has the kernel kill itself, and fresh prints 42.
	set, next, end, fresh string
}

// ways are those that sessions take in turn.
func ways() []way {
	python := way{"soak", "", "x = %d\nprint(x * x)", "print(x + 1)",
		"import os; os.kill(os.getpid(), 9)", "print(6 * 7)"}
	node := way{"soak-node", "", "const x = %d; console.log(x * x)", "console.log(x + 1)",
		"process.kill(process.pid, 'SIGKILL'); for (;;);", "console.log(6 * 7)"}
	shell := way{"soak-shell", "", "x=%d; echo $((x * x))", "echo $((${x:?is not set} + 1))",
		"kill -9 $$", "echo 42"}
	within := shell
	within.pool, within.kernel = "soak", "shell"
	return []way{python, node, python, shell, python, within}
}

// run executes a part of the way in a session, and returns what it printed, or else what came of
// it.
func (w way) run(ctx context.Context, t *testing.T, c *client.Client, ident, code string) (out,
	outcome string) {
	e, err := c.Execute(ctx, w.pool, ident, client.Run{Code: code, Kernel: w.kernel})
	if err != nil {
		return "", clearError(t, err)
	}
	if e.Failed() {
		return "", clearFailure(t, e)
	}
	return e.Result.Stdout, ""
}

// oneSession is one user: two cells that depend on each other, sometimes a
// kernel killed between them, and the session deleted at the end.
func oneSession(t *testing.T, c *client.Client, i int, got *tally) {
	ident := fmt.Sprintf("soak-%d", i)
	w := ways()[i%len(ways())]
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	outcome := w.session(ctx, t, c, ident, i)
	got.add(outcome)
	if strings.HasPrefix(outcome, "error") {
		// As a caller does that was told to try again.
		if err := c.WaitHealthy(ctx); err != nil {
			t.Errorf("session %d: the server does not come back: %v", i, err)
		}
		wait(ctx, time.Second)
	}
	for {
		err := c.DeleteSession(ctx, w.pool, ident)
		if err == nil || sandpool.ClassOf(err) == sandpool.NotFound {
			return
		}
		// The server may be down just now; a session left would hold its
		// sandbox for the whole cooldown.
		if !wait(ctx, 200*time.Millisecond) {
			t.Errorf("session %d cannot be deleted: %v", i, err)
			return
		}
	}
}

// session runs the parts of the way, and returns what came of the session.
func (w way) session(ctx context.Context, t *testing.T, c *client.Client, ident string,
	i int) string {
	if rand.IntN(20) == 0 {
		return w.killedKernel(ctx, t, c, ident)
	}
	for _, part := range []struct{ code, want string }{
		{fmt.Sprintf(w.set, i), fmt.Sprintln(i * i)}, {w.next, fmt.Sprintln(i + 1)},
	} {
		out, outcome := w.run(ctx, t, c, ident, part.code)
		if outcome != "" {
			return outcome
		}
		if out != part.want {
			t.Errorf("%s: %q prints %q, want %q", ident, part.code, out, part.want)
			return "wrong"
		}
	}
	return "right"
}

// killedKernel has the kernel kill itself: the answer must say so, and the session must go on.
func (w way) killedKernel(ctx context.Context, t *testing.T, c *client.Client,
	ident string) string {
	a, err := c.Execute(ctx, w.pool, ident, client.Run{Code: w.end, Kernel: w.kernel})
	if err != nil {
		return clearError(t, err)
	}
	if !a.Failed() {
		t.Errorf("%s: a killed kernel was reported as success", ident)
		return "wrong"
	}
	out, outcome := w.run(ctx, t, c, ident, w.fresh)
	if outcome == "" && out != "42\n" {
		t.Errorf("%s: after a killed kernel: %s", ident, out)
		return "wrong"
	}
	return cmp.Or(outcome, "right")
}

// clearFailure accepts a failed execution whose text tells the user why, and that a name is not
// known, which is what a user meets whose session was replaced between two cells.
func clearFailure(t *testing.T, e client.Execution) string {
	for _, reason := range []string{"Execution aborted", "kernel", "session",
		"NameError: name 'x'", "ReferenceError: x", "x: is not set"} {
		if strings.Contains(e.Result.Stderr+e.Result.ErrorMessage, reason) {
			return "failed with a reason"
		}
	}
	t.Errorf("a failed execution does not say why: %+v", e.Execution)
	return "wrong"
}

// clearError accepts an error with a class other than Internal and a message.
func clearError(t *testing.T, err error) string {
	var e *sandpool.Error
	if errors.As(err, &e) && e.Code == client.CodeUnreachable {
		return serverDown
	}
	if errors.As(err, &e) && e.Class != sandpool.Internal && e.Message != "" {
		return "error: " + e.Class.String()
	}
	t.Errorf("an unclear error: %v", err)
	return "wrong"
}

// killAtRandom kills a process of a sandbox every other second and the server
// every fifteen, on average.
func killAtRandom(ctx context.Context, t *testing.T, srv *program, got *tally) {
	for wait(ctx, time.Second) {
		switch r := rand.IntN(30); {
		case r < 2:
			got.add("server kills")
			srv.kill(t)
			srv.start(t)
		case r < 5 && srv.database != nil:
			got.add("store kills")
			if err := errors.Join(srv.database.Kill(), srv.database.Restart(ctx)); err != nil &&
				ctx.Err() == nil {
				t.Error(err)
			}
		case r < 17:
			found, err := leaks.Count(srv.data)
			if err != nil {
				t.Error(err)
				return
			}
			if pids := found.Sandboxes; len(pids) > 0 {
				got.add("sandbox kills")
				// It may have ended by itself meanwhile; that is as good.
				_ = syscall.Kill(pids[rand.IntN(len(pids))], syscall.SIGKILL)
			}
		}
	}
}

// wait pauses for d and reports whether ctx still goes on.
func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// program is the real server as a process of its own, so that it can be killed.
type program struct {
	dir, data, bin, addr string
	images               string // empty means below data
	cmd                  *exec.Cmd
	log                  *os.File
	env                  []string       // besides what every server here gets
	database             *pgtest.Server // its store, if that is not a file
}

// newShared is a program with a PostgreSQL as its store.
func newShared(t *testing.T) *program {
	t.Helper()
	db, err := pgtest.Start(t.Context())
	if err != nil {
		need.Lack(t, "%v", err)
	}
	t.Cleanup(func() {
		if err := db.Stop(); err != nil {
			t.Error(err)
		}
	})
	p := newProgram(t)
	p.database = db
	address, err := db.Database(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p.env = []string{"SANDPOOL_STORE=" + address, "SANDPOOL_NAME=one"}
	return p
}

func newProgram(t *testing.T) *program {
	t.Helper()
	p := &program{dir: t.TempDir(), images: filepath.Join(os.Getenv("SANDPOOL_TEST_DATA"),
		"images")}
	p.data = filepath.Join(p.dir, "data")
	p.bin = filepath.Join(p.dir, "bin")
	for _, name := range []string{"sandpool", "sandpool-agent"} {
		compile(t, filepath.Join(p.bin, name), "../../cmd/"+name)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.addr = l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if p.log, err = os.Create(filepath.Join(p.dir, "server.log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p.cmd != nil {
			p.stop(t)
		}
		if t.Failed() {
			if b, err := os.ReadFile(p.log.Name()); err == nil {
				t.Logf("server log, end:\n%s", b[max(0, len(b)-8<<10):])
			}
		}
	})
	return p
}

func compile(t *testing.T, out, pkg string) {
	t.Helper()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", out, pkg)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, text)
	}
}

func (p *program) start(t *testing.T) {
	t.Helper()
	// Not bound to the test's context: it is stopped in order, and the test
	// framework's kill would look like one of ours.
	p.cmd = exec.Command(filepath.Join(p.bin, "sandpool"), "serve", "--data-dir", p.data,
		"--listen", p.addr)
	p.cmd.Env = append(os.Environ(), "SANDPOOL_IMAGE_DIR="+p.images, "SANDPOOL_ON_EXIT=stop",
		"HOME="+p.dir)
	p.cmd.Env = append(p.cmd.Env, p.env...)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c, err := client.New(client.Config{Endpoint: "http://" + p.addr, Token: "none"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseIdle()
	if err := c.WaitHealthy(t.Context()); err != nil {
		t.Fatalf("the server does not answer: %v", err)
	}
}

func (p *program) client(t *testing.T) *client.Client {
	t.Helper()
	token, err := os.ReadFile(filepath.Join(p.data, "admin-token"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New(client.Config{Endpoint: "http://" + p.addr,
		Token: strings.TrimSpace(string(token))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdle)
	return c
}

// kill ends the server as a crash does.
func (p *program) kill(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = p.cmd.Wait() // reports the kill
	p.cmd = nil
}

// stop ends the server in order; it stops all sandboxes before it exits.
func (p *program) stop(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("server: %v", err)
	}
	p.cmd = nil
}
