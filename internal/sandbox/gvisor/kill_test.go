package gvisor

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool/internal/need"
	"github.com/sandpool/sandpool/internal/sandbox"
)

// What a process that plays the server finds in its environment: the state
// directory, and the image to run.
const (
	serverRoot  = "GVISOR_TEST_ROOT"
	serverImage = "GVISOR_TEST_IMAGE"
)

// TestServer is not a test of its own: TestKill runs it in another process,
// which prepares and then starts sandboxes until it is killed.
func TestServer(t *testing.T) {
	root := os.Getenv(serverRoot)
	if root == "" {
		need.Except(t, need.Child, "TestKill")
	}
	e, err := New(nil, Config{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("preparing")
	p, err := e.Prepare(t.Context(), template(t, sandbox.Restore), nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; ; i++ {
		id := sandbox.ID(fmt.Sprintf("k%d-%d", os.Getpid(), i))
		if _, err := e.Start(t.Context(), id, p); err != nil {
			t.Fatal(err)
		}
		fmt.Println("started", id)
	}
}

// TestKill kills the server at many moments. Each time the next one adopts
// what had been started, finds the rest, and gives everything back.
func TestKill(t *testing.T) {
	image := template(t, sandbox.Boot).Root.Reference
	root := t.TempDir()
	before := hostState(t, root)
	adopted := 0
	for _, moment := range []struct {
		event string
		after time.Duration
	}{
		{"preparing", 0}, {"preparing", 50 * time.Millisecond}, {"preparing",
			150 * time.Millisecond},
		{"preparing", 400 * time.Millisecond}, {"started", 0}, {"started", 20 * time.Millisecond},
		{"started", 60 * time.Millisecond}, {"started", 200 * time.Millisecond},
	} {
		started := killServer(t, root, image, moment.event, moment.after)
		e := openAt(t, root)
		running := map[sandbox.ID]bool{}
		found, err := e.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			running[f.ID] = f.Running
		}
		for _, id := range started {
			if !running[id] {
				t.Errorf("killed %v: sandbox %s is lost", moment, id)
				continue
			}
			adopted++
			if got := ask(t, e, sandbox.Handle{ID: id}, "/ready", nil); got != "ok" {
				t.Errorf("adopted sandbox %s answers %q", id, got)
			}
		}
		for _, f := range found {
			if err := e.Stop(t.Context(), sandbox.Handle{ID: f.ID}); err != nil {
				t.Error(err)
			}
		}
		if left, err := e.List(t.Context()); err != nil || len(left) > 0 {
			t.Errorf("killed %v: left %v, %v", moment, left, err)
		}
		if halves, _ := filepath.Glob(e.snapshotDir(halfPrefix + "*")); len(halves) > 0 {
			t.Errorf("killed %v: half snapshots %v", moment, halves)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		if now := hostState(t, root); now != before {
			t.Errorf("killed %v: the host had %s, has %s", moment, before, now)
		}
	}
	if adopted == 0 {
		t.Error("no sandbox was ever adopted")
	}
}

// killServer runs a server and kills it some time after it first said event.
// It returns the sandboxes whose Start had returned.
func killServer(t *testing.T, root, image, event string,
	after time.Duration) (started []sandbox.ID) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestServer$")
	cmd.Env = append(os.Environ(), serverRoot+"="+root, serverImage+"="+image)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) == 2 && words[0] == "started" {
			started = append(started, sandbox.ID(words[1]))
		}
		if len(words) > 0 && words[0] == event {
			time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
		}
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("the server ended by itself")
	}
	return started
}

// hostState counts what the engine on root could leave on the host: processes,
// zombies of ours, mounts, and cgroups.
func hostState(t *testing.T, root string) string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	group := filepath.Base(Config{Root: root}.cgroupName())
	sentries, zombies := 0, 0
	procs, _ := filepath.Glob("/proc/[0-9]*")
	for _, proc := range procs {
		cgroup, _ := os.ReadFile(proc + "/cgroup")
		if strings.Contains(string(cgroup), group) {
			sentries++
		}
		stat, _ := os.ReadFile(proc + "/stat")
		if strings.Contains(string(stat), fmt.Sprintf(") Z %d ", os.Getpid())) {
			zombies++
		}
	}
	groups := 0
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.Contains(path, group) {
			groups++
		}
		return nil
	})
	return fmt.Sprintf("%d mounts, %d processes, %d zombies, %d cgroups",
		strings.Count(string(mounts), "\n"), sentries, zombies, groups)
}
