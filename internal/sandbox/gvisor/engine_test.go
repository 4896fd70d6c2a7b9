package gvisor

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/sentry/state/checkpointfiles"

	"github.com/sandpool/sandpool/internal/need"
	"github.com/sandpool/sandpool/internal/sandbox"
)

func TestRestore(t *testing.T) {
	for _, mode := range []sandbox.StartMode{sandbox.Boot, sandbox.Restore} {
		t.Run(string(mode), func(t *testing.T) {
			e := open(t)
			p := prepare(t, e, template(t, mode))
			begin := time.Now()
			h := start(t, e, p, "one")
			t.Logf("%s took %v", mode, time.Since(begin))
			if got := ask(t, e, h, "/state", nil); got != "1" {
				t.Errorf("first count is %s, want 1", got)
			}
			if err := e.Stop(t.Context(), h); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestLayers mounts a second image, and restores it.
func TestLayers(t *testing.T) {
	e := open(t)
	tmpl := template(t, sandbox.Restore)
	layer, err := pack(t.TempDir(), map[string]string{"/hello": "from the layer"})
	if err != nil {
		t.Fatal(err)
	}
	layer.Target = "/layer"
	tmpl.Layers = []sandbox.Layer{layer}
	h := start(t, e, prepare(t, e, tmpl), "layers")
	for path, want := range map[string]string{"/layer/hello": "from the layer",
		"/etc/image": "root\n"} {
		if got := ask(t, e, h, "/read", url.Values{"path": {path}}); got != want {
			t.Errorf("%s holds %q, want %q", path, got, want)
		}
	}
	if got := ask(t, e, h, "/disk", url.Values{"path": {"/layer/new"}, "mb": {"1"}}); got ==
		"written" {
		t.Error("a layer is writable")
	}
}

// TestForgottenNames: a snapshot does not hold the name of every file that the warm-up looked at.
func TestForgottenNames(t *testing.T) {
	e := open(t)
	tmpl := template(t, sandbox.Restore)
	layer, err := pack(t.TempDir(), map[string]string{"/looked-at-once": "text"})
	if err != nil {
		t.Fatal(err)
	}
	layer.Target = "/layer"
	tmpl.Layers = []sandbox.Layer{layer}
	p := prepare(t, e, tmpl)
	state, err := os.ReadFile(filepath.Join(e.snapshotDir(p.Key), checkpointfiles.StateFileName))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(state, []byte("erofs.filesystem")) {
		t.Error("the snapshot's state is not what this test takes it for")
	}
	if bytes.Contains(state, []byte("looked-at-once")) {
		t.Error("the snapshot holds the name of a file that nothing refers to")
	}
	if got := ask(t, e, start(t, e, p, "names"), "/read",
		url.Values{"path": {"/layer/looked-at-once"}}); got != "text" {
		t.Errorf("the file holds %q", got)
	}
}

// TestClones checks that sandboxes of one snapshot share its past and not each other's present.
func TestClones(t *testing.T) {
	e := open(t)
	p := prepare(t, e, template(t, sandbox.Restore))
	a, b := start(t, e, p, "a"), start(t, e, p, "b")
	for range 3 {
		ask(t, e, a, "/state", nil)
	}
	for _, h := range []sandbox.Handle{a, b} {
		if got := strings.TrimSpace(ask(t, e, h, "/read",
			url.Values{"path": {"/proc/sys/kernel/hostname"}})); got != string(h.ID) {
			t.Errorf("the host name of %s is %q", h.ID, got)
		}
	}
	ask(t, e, a, "/disk", url.Values{"path": {"/root/mine"}, "mb": {"1"}})
	if got := ask(t, e, b, "/state", nil); got != "1" {
		t.Errorf("the second clone counts %s, want 1", got)
	}
	if got := ask(t, e, b, "/read", url.Values{"path": {"/root/mine"}}); len(got) > 1<<10 {
		t.Error("the second clone sees a file of the first")
	}
}

// TestMonitorSleepsLonger: of the threads that a started sandbox process has, its Go
// runtime's monitor, which is the second, has the longer timers, and the first has not.
func TestMonitorSleepsLonger(t *testing.T) {
	e := open(t)
	start(t, e, prepare(t, e, template(t, sandbox.Restore)), "calm")
	pid := e.process("calm").pid
	threads, err := os.Open(procPath(pid, "task"))
	if err != nil {
		t.Fatal(err)
	}
	defer threads.Close()
	ids, err := threads.Readdirnames(2)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"50000", strconv.Itoa(int(monitorSlack))} {
		slack, err := os.ReadFile("/proc/" + ids[i] + "/timerslack_ns")
		if err != nil || strings.TrimSpace(string(slack)) != want {
			t.Errorf("thread %d: timer slack %q ns (%v), want %s", i+1, slack, err, want)
		}
	}
}

// TestCores: a sandbox that waits is on one core, and stays there for short calls. One that is
// wanted at once, computes, or whose calls are seen no more may use all.
func TestCores(t *testing.T) {
	need.TwoCores(t)
	root := t.TempDir()
	e := openAt(t, root)
	tmpl := template(t, sandbox.Restore)
	tmpl.Channel = true
	tmpl.Limits.CPU = 1
	p := prepare(t, e, tmpl)
	wanted := start(t, e, p, "wanted")
	echo(t, dialChannel(t, e, wanted)) // before another start takes time
	unseen := start(t, e, p, "unseen")
	if err := dialChannel(t, e, unseen).Close(); err != nil {
		t.Fatal(err)
	}
	calm, busy, shut, kept := start(t, e, p, "still"), start(t, e, p, "busy"), start(t, e, p,
		"shut"), start(t, e, p, "kept")
	conns := map[sandbox.ID]net.Conn{}
	for _, h := range []sandbox.Handle{calm, busy, shut, kept} {
		conns[h.ID] = dialChannel(t, e, h) // taken, and not used yet
	}
	for _, h := range []sandbox.Handle{calm, busy, shut, kept} {
		awaitCores(t, e, h, 1)
	}
	all := runtime.NumCPU()
	awaitCores(t, e, wanted, all) // these two started first
	awaitCores(t, e, unseen, all)

	for range 50 {
		echo(t, conns[calm.ID])
	}
	if _, err := conns[busy.ID].Write([]byte("asks and does not wait for the answer")); err != nil {
		t.Fatal(err)
	}
	// Of so long a time it gets what is noticed, however busy the machine is.
	ask(t, e, busy, "/compute", url.Values{"ms": {"2000"}})
	awaitCores(t, e, busy, all)
	if err := conns[shut.ID].Close(); err != nil {
		t.Fatal(err)
	}
	awaitCores(t, e, shut, all)
	awaitCores(t, e, calm, 1)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = openAt(t, root) // another adopts them, and sees no calls
	awaitCores(t, e, kept, all)
}

func dialChannel(t *testing.T, e *Engine, h sandbox.Handle) net.Conn {
	t.Helper()
	conn, err := e.Dial(t.Context(), h, sandbox.Channel)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func echo(t *testing.T, conn net.Conn) {
	t.Helper()
	if _, err := conn.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
}

// awaitCores waits until every thread of a sandbox may use so many cores.
func awaitCores(t *testing.T, e *Engine, h sandbox.Handle, want int) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; <-time.After(5 * time.Millisecond) {
		counts := map[int]int{}
		ids, err := threads{e, h.ID}.Threads()
		if err != nil || len(ids) == 0 {
			t.Fatalf("threads of %s: %v, %v", h.ID, ids, err)
		}
		for _, id := range ids {
			var set unix.CPUSet
			if unix.SchedGetaffinity(id, &set) == nil { // else it has ended
				counts[set.Count()]++
			}
		}
		if len(counts) == 1 && counts[want] > 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("threads of %s by the number of cores that they may use: %v; want %d for all",
				h.ID, counts, want)
		}
	}
}

// TestCollectLess: nothing is collected in a small heap, and after the first collection as usual.
func TestCollectLess(t *testing.T) {
	percent := func() uint64 {
		s := []metrics.Sample{{Name: "/gc/gogc:percent"}}
		metrics.Read(s)
		return s[0].Value.Uint64()
	}
	before := int(percent())
	t.Cleanup(func() { debug.SetGCPercent(before) })
	collectLess()
	if got := percent(); got <= usualGCPercent {
		t.Errorf("at first collections begin at %d %%", got)
	}
	for deadline := time.Now().Add(time.Minute); percent() != usualGCPercent; {
		if time.Now().After(deadline) {
			t.Fatalf("after a collection the setting is %d %%", percent())
		}
		runtime.GC()
	}
}

func TestPrune(t *testing.T) {
	e := open(t)
	tmpl := template(t, sandbox.Restore)
	keep := prepare(t, e, tmpl)
	tmpl.Env = append(tmpl.Env, "OTHER=1")
	gone := prepare(t, e, tmpl)
	if err := e.Prune(t.Context(), []string{keep.Key}); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Start(t.Context(), "x", gone); err == nil {
		t.Error("a pruned snapshot starts")
	}
	start(t, e, keep, "y")
	start(t, e, prepare(t, e, tmpl), "z")
}

func TestOutlivesEngine(t *testing.T) {
	root := t.TempDir()
	e := openAt(t, root)
	h := start(t, e, prepare(t, e, template(t, sandbox.Restore)), "adopted")
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	next := openAt(t, root)
	// it ends before it answers
	_, _ = tryAsk(t.Context(), next, h, "/exit", url.Values{"code": {"9"}})
	exit, err := next.Wait(t.Context(), h)
	if want := (sandbox.Exit{Reason: sandbox.Exited, Code: 9}); err != nil || exit != want {
		t.Errorf("Wait of an adopted sandbox = %+v, %v; want %+v", exit, err, want)
	}
}

// TestChannelEndsWithEngine: a channel that nobody took is closed with the engine, and the
// guest learns of it.
// TestMovedParent: a server that is told to have its cgroups elsewhere adopts the sandboxes that it
// has, starts new ones in the new place, and leaves nothing in either.
func TestMovedParent(t *testing.T) {
	need.Root(t)
	root := t.TempDir()
	parents := []string{fmt.Sprintf("sandpool-test-%d/a", os.Getpid()),
		fmt.Sprintf("sandpool-test-%d/b/c", os.Getpid()), "sandpool"}
	made := map[string]bool{}
	for i, parent := range parents {
		e, err := New(slog.New(slog.NewTextHandler(t.Output(), nil)),
			Config{Root: root, CgroupParent: parent})
		if err != nil {
			t.Fatal(err)
		}
		started := start(t, e, prepare(t, e, template(t, sandbox.Boot)),
			sandbox.ID(fmt.Sprintf("of-%d", i)))
		for j := range i + 1 {
			h := sandbox.Handle{ID: sandbox.ID(fmt.Sprintf("of-%d", j))}
			ask(t, e, h, "/ready", nil)
			for _, dir := range e.cgroups.Dirs(h.ID) {
				if !strings.Contains(dir, "/"+parents[j]+"/") {
					t.Errorf("sandbox %s of parent %q is in %q", h.ID, parents[j], dir)
				}
				made[filepath.Dir(dir)] = true
			}
		}
		if i == len(parents)-1 {
			for j := range parents {
				if err := e.Stop(t.Context(),
					sandbox.Handle{ID: sandbox.ID(fmt.Sprintf("of-%d", j))}); err != nil {
					t.Error(err)
				}
			}
		} else if _, err := e.Stats(t.Context(), started); err != nil {
			t.Error(err)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
	for dir := range made {
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%q is left", dir)
		}
		for up := filepath.Dir(dir); strings.Contains(up, "/sandpool-test-"); up = filepath.Dir(
			up) {
			_ = os.Remove(up)
		}
	}
}

func TestChannelEndsWithEngine(t *testing.T) {
	root := t.TempDir()
	e := openAt(t, root)
	tmpl := template(t, sandbox.Restore)
	tmpl.Channel = true
	h := start(t, e, prepare(t, e, tmpl), "channel")
	kept := e.process(h.ID).channel.Load()
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if got, err := inputOf(ctx, openAt(t, root), h.ID); err != nil || got != 0 {
		t.Errorf("the guest has read %d bytes, %v; want 0 and the end", got, err)
	}
	runtime.KeepAlive(kept) // which else closes when it is collected
}
