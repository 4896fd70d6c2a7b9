// Package crowd_test fills a machine: several tenants ask for twice what it can bear. Those who
// are there before must not notice.
//
// The machine is a cgroup with a limit of memory, in which the server has its sandboxes, so that
// the test fills no real one, and nothing else on it matters.
package crowd_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/api"
	"github.com/sandpool/sandpool/client"
	"github.com/sandpool/sandpool/internal/need"
	"github.com/sandpool/sandpool/internal/server"
	"github.com/sandpool/sandpool/test/leaks"
)

func TestMain(m *testing.M) {
	server.HandOver()
	os.Exit(m.Run())
}

const (
	memory  = 2 << 30 // of the machine
	reserve = 512     // MiB
	pools   = 3
	asked   = 36 // sessions, some 150 MB each with what they may grow to
)

// machine makes a cgroup with a limit of memory or pids, and returns its name.
func machine(t *testing.T, controller string, most int) string {
	t.Helper()
	name := "sandpool-crowd-" + strconv.Itoa(os.Getpid())
	dir, limit := filepath.Join("/sys/fs/cgroup", controller, name), controller+".max"
	if _, err := os.Stat(filepath.Dir(dir)); err != nil {
		dir = filepath.Join("/sys/fs/cgroup", name)
		// The engine hands the other controllers down as well.
		err := os.WriteFile("/sys/fs/cgroup/cgroup.subtree_control", []byte("+"+controller), 0)
		if err != nil {
			t.Fatal(err)
		}
	} else if controller == "memory" {
		limit = "memory.limit_in_bytes"
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		all, err := filepath.Glob("/sys/fs/cgroup/*/" + name)
		if err != nil {
			t.Error(err)
		}
		for _, dir := range append(all, filepath.Join("/sys/fs/cgroup", name)) {
			for _, dir := range []string{filepath.Join(dir, "sandboxes"), dir} {
				if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
					t.Error(err)
				}
			}
		}
	})
	if err := os.WriteFile(filepath.Join(dir, limit), []byte(strconv.Itoa(most)), 0); err != nil {
		t.Fatal(err)
	}
	return name
}

// serve starts a server and returns a client of it.
func serve(t *testing.T, configure func(*server.Config)) *client.Client {
	t.Helper()
	images := filepath.Join(need.Data(t), "images")
	dir := t.TempDir()
	agent := filepath.Join(dir, "sandpool-agent")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", agent,
		"../../cmd/sandpool-agent")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the agent: %v\n%s", err, out)
	}
	cfg := server.DefaultConfig()
	cfg.DataDir, cfg.Listen, cfg.Agent, cfg.ImageDir = filepath.Join(dir, "data"), "127.0.0.1:0",
		agent, images
	cfg.OnExit = server.StopSandboxes
	configure(&cfg)
	var log bytes.Buffer
	srv, err := server.New(t.Context(), slog.New(slog.NewTextHandler(&log, nil)), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ran := make(chan error, 1)
	go func() { ran <- srv.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := errors.Join(<-ran, srv.Close()); err != nil {
			t.Errorf("end of the server: %v", err)
		}
		left, err := leaks.Count(cfg.DataDir)
		if err != nil || len(left.Sandboxes)+len(left.Cgroups) > 0 {
			t.Errorf("left on the host: %+v, %v", left, err)
		}
		if t.Failed() {
			t.Logf("the server's log:\n%s", log.String())
		}
	})
	c, err := client.New(client.Config{Endpoint: srv.URL(), Token: srv.AdminToken()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdle)
	return c
}

func poolName(n int) string { return fmt.Sprintf("tenant-%d", n) }

// crowd is the test's server with what its callers met.
type crowd struct {
	*testing.T
	*client.Client

	mu      sync.Mutex // guards what follows
	served  []int
	refused int // answers
}

// run executes code in session n of the crowd, in the pool of its tenant.
func (c *crowd) run(n int, code string) (string, error) {
	e, err := c.Execute(c.Context(), poolName(n%pools), fmt.Sprintf("user-%d", n),
		client.Run{Code: code, Timeout: 3 * time.Minute})
	if err == nil && e.Status != api.StatusSucceeded {
		err = fmt.Errorf("status %s: %s", e.Status, e.Result.Stderr)
	}
	return string(e.Result.ExecutionResult), err
}

// TestTwiceWhatFits: sessions of several tenants, twice as many as fit, import pandas. Those
// beyond what fits are told at once that the machine is full; whoever is served keeps what it has,
// and the session that was there before answers all the time.
func TestTwiceWhatFits(t *testing.T) {
	c := &crowd{T: t, Client: serve(t, func(cfg *server.Config) {
		cfg.CgroupParent = machine(t, "memory", memory) + "/sandboxes"
		cfg.Reserve.MemoryMB = reserve
	})}
	for n := range pools {
		most, ready := asked, 2
		if _, err := c.PutPool(t.Context(), poolName(n), api.SessionPool{Location: "local",
			Properties: &api.SessionPoolProperties{
				ContainerType: string(sandpool.PythonLTS),
				ScaleConfiguration: &api.ScaleConfiguration{MaxConcurrentSessions: &most,
					ReadySessionInstances: &ready},
			}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.run(0, "x = 0"); err != nil {
		t.Fatal(err)
	}
	calm := c.watch(func() { <-time.After(insist) })
	busy := c.watch(c.fill)
	t.Logf("%d sessions were served, %d times one was refused; 1+1 in the session that was there "+
		"before took %v at the median and %v at p99 "+
		"(%d calls), without the others %v and %v (%d)", len(c.served), c.refused,
		at(busy, 50), at(busy, 99), len(busy), at(calm, 50), at(calm, 99), len(calm))
	if len(c.served) < 3 || c.refused < 3 {
		t.Errorf("%d sessions were served and %d refused", len(c.served), c.refused)
	}
	for _, n := range append(c.served, 0) {
		if got, err := c.run(n, "x"); err != nil || got != strconv.Itoa(n) {
			t.Errorf("session %d has x = %s, %v", n, got, err)
		}
	}
	s, err := c.PoolStatus(t.Context(), poolName(0))
	if err != nil || s.Notice == "" && s.Ready+s.Starting < 2 {
		t.Errorf("the status of a pool without room for its ready sandboxes is %+v, %v", s, err)
	}
	for _, n := range c.served {
		if err := c.DeleteSession(t.Context(), poolName(n%pools),
			fmt.Sprintf("user-%d", n)); err != nil {
			t.Error(err)
		}
	}
	for deadline := time.Now().Add(time.Minute); ; {
		if _, err := c.run(asked+1, "1"); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("when the others have ended: %v", err)
		}
	}
}

// insist is how long callers who are refused go on asking, sooner than they are told to.
const insist = 5 * time.Second

// fill asks for all sessions at once.
func (c *crowd) fill() {
	var all sync.WaitGroup
	end := time.After(insist)
	over := make(chan struct{})
	go func() { <-end; close(over) }()
	for n := 1; n <= asked; n++ {
		all.Go(func() {
			for !c.ask(n) {
				select {
				case <-over:
					return
				case <-time.After(200 * time.Millisecond):
				}
			}
		})
	}
	all.Wait()
}

// ask asks for a session once, and reports whether there is no more to ask.
func (c *crowd) ask(n int) (over bool) {
	_, err := c.run(n, fmt.Sprintf("import pandas\nx = %d", n))
	c.mu.Lock()
	defer c.mu.Unlock()
	var e *sandpool.Error
	switch {
	case err == nil:
		c.served = append(c.served, n)
		return true
	case errors.As(err, &e) && e.Code == "MachineFull" && e.RetryAfter > 0:
		c.refused++
		return false
	}
	c.Errorf("session %d: %v", n, err)
	return true
}

// watch runs 1+1 in the session that was there before while do runs, and returns what the calls
// took.
func (c *crowd) watch(do func()) (took []time.Duration) {
	done := make(chan struct{})
	go func() { do(); close(done) }()
	for {
		began := time.Now()
		if got, err := c.run(0, "1+1"); err != nil || got != "2" {
			c.Errorf("the session that was there before: %s, %v", got, err)
		}
		took = append(took, time.Since(began))
		select {
		case <-done:
			return took
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// at returns a percentile.
func at(took []time.Duration, percent int) time.Duration {
	slices.Sort(took)
	return took[len(took)*percent/100].Round(100 * time.Microsecond)
}
