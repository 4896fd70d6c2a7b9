package background

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
	"github.com/sandpool/sandpool/internal/need"
	"golang.org/x/sys/unix"
)

// config starts processes as the user of sandboxes, on this machine.
func config(t *testing.T) Config {
	t.Helper()
	need.Root(t)
	return Config{Env: []string{"PATH=/usr/bin:/bin", "A=old"}, Dir: "/", UID: agent.UserID,
		GID: agent.GroupID,
		Start: func(args []string, attr *syscall.ProcAttr) (int, <-chan syscall.WaitStatus, error) {
			pid, err := syscall.ForkExec(args[0], args, attr)
			if err != nil {
				return 0, nil, err
			}
			exit := make(chan syscall.WaitStatus, 1)
			go func() {
				var status unix.WaitStatus
				for {
					if _, err := unix.Wait4(pid, &status, 0, nil); err != unix.EINTR {
						break
					}
				}
				exit <- syscall.WaitStatus(status)
			}()
			return pid, exit, nil
		},
		End: func(session int) error { return unix.Kill(-session, unix.SIGKILL) }}
}

// follow reads a log to its end.
func follow(t *testing.T, g *Registry, id string, after int64) (out, errs string, lost int64,
	p agent.BackgroundProcess) {
	t.Helper()
	err := g.Read(id, after, true, t.Context().Done(), func(r agent.ProcessRecord) error {
		out, errs, lost = out+r.Stdout, errs+r.Stderr, lost+r.Lost
		if r.Process != nil {
			p = *r.Process
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out, errs, lost, p
}

// A process runs as it was asked for, and its log and its end are there for whoever comes later.
func TestProcess(t *testing.T) {
	cfg, g := config(t), &Registry{}
	dir := t.TempDir()
	for _, d := range []string{dir, dir[:strings.LastIndex(dir, "/")]} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	_, err := g.Start(cfg, agent.ProcessRequest{ID: "one", Dir: dir, Stdin: "typed",
		Env: map[string]string{"A": "new"},
		Shell: "cat; echo; pwd; echo $A; id -u; ulimit -c; echo bad >&2; " +
			"printf 'h\\303'; sleep 0.1; " +
			"printf '\\251\\377'; exit 3"})
	if err != nil {
		t.Fatal(err)
	}
	out, errs, _, p := follow(t, g, "one", 0)
	if want := "typed\n" + dir + "\nnew\n1000\n0\nhé\uFFFD"; out != want || errs != "bad\n" ||
		p.ExitCode == nil || *p.ExitCode != 3 || p.Ended.IsZero() {
		t.Errorf("%q, %q, %+v; want %q", out, errs, p, want)
	}
	if got, _, _, _ := follow(t, g, "one", 1); len(got) >= len(out) {
		t.Errorf("after the first record: %q", got)
	}
	for _, bad := range []agent.ProcessRequest{{ID: "one", Args: []string{"true"}},
		{ID: "a/b", Shell: "true"},
		{ID: "x"}, {ID: "x", Shell: "true", Args: []string{"true"}}, {ID: "x", Args: []string{"none-such"}},
		{ID: "x", Args: []string{"echo", "\x00"}}, {ID: "x", Shell: "true", Env: map[string]string{"a b": ""}}} {
		if _, err := g.Start(cfg, bad); err == nil {
			t.Errorf("%+v is started", bad)
		}
	}
}

// Signals reach the process and what it has started, and a process that is removed is gone with it.
func TestSignal(t *testing.T) {
	cfg, g := config(t), &Registry{}
	start := func(id, text string) int {
		t.Helper()
		p, err := g.Start(cfg, agent.ProcessRequest{ID: id, Args: []string{"bash", "-c", text}})
		if err != nil {
			t.Fatal(err)
		}
		ready := errors.New("ready")
		err = g.Read(id, 0, true, nil, func(agent.ProcessRecord) error { return ready })
		if err != ready {
			t.Fatal(err)
		}
		return p.PID
	}
	start("caught", "trap 'echo caught; exit 4' INT; echo ready; sleep 1000 & wait")
	start("ended", "sleep 1000 & echo ready; wait")
	if !g.Running() {
		t.Error("nothing runs")
	}
	for id, signal := range map[string]syscall.Signal{"caught": unix.SIGINT, "ended": unix.SIGTERM} {
		if err := g.Signal(id, signal); err != nil {
			t.Error(err)
		}
	}
	if out, _, _, p := follow(t, g, "caught", 0); out != "ready\ncaught\n" || p.ExitCode == nil || *p.ExitCode != 4 {
		t.Errorf("%q, %+v", out, p)
	}
	if _, _, _, p := follow(t, g, "ended", 0); p.Signal != int(unix.SIGTERM) || p.ExitCode != nil {
		t.Errorf("%+v", p)
	}
	if err := g.Signal("ended", unix.SIGTERM); sandpool.ClassOf(err) != sandpool.Conflict {
		t.Errorf("a signal for one that has ended: %v", err)
	}
	pid := start("removed", "echo ready; sleep 1000")
	if err := g.Remove(cfg, "removed"); err != nil {
		t.Error(err)
	}
	if _, err := g.Get("removed", nil); sandpool.ClassOf(err) != sandpool.NotFound {
		t.Errorf("one that was removed: %v", err)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range 3000 { // its end is noticed by another goroutine
		if unix.Kill(pid, 0) == unix.ESRCH {
			return
		}
		<-tick.C
	}
	t.Errorf("process %d is there after its removal", pid)
}

// Of much output the end is kept, and who comes too late is told; of many processes the ones that
// run and the latest of the others.
func TestBounds(t *testing.T) {
	cfg, g := config(t), &Registry{}
	if _, err := g.Start(cfg, agent.ProcessRequest{ID: "much",
		Shell: "seq 1 300000; echo end"}); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Get("much", t.Context().Done()); err != nil {
		t.Fatal(err)
	}
	out, _, lost, _ := follow(t, g, "much", 0)
	if lost == 0 || !strings.HasSuffix(out, "300000\nend\n") || len(out) > agent.MaxBackgroundLog {
		t.Errorf("%d bytes that end with %q, %d lost", len(out), out[max(0, len(out)-20):], lost)
	}
	for i := range agent.MaxBackground + 3 {
		id := fmt.Sprint(i)
		if _, err := g.Start(cfg, agent.ProcessRequest{ID: id, Args: []string{"true"}}); err != nil {
			t.Fatal(err)
		}
		if _, err := g.Get(id, t.Context().Done()); err != nil {
			t.Fatal(err)
		}
	}
	all := g.List()
	if len(all) != agent.MaxBackground || all[0].ID == "much" {
		t.Errorf("%d processes are known", len(all))
	}
}

// What a process leaves behind outside of its session holds its streams, and costs the registry
// nothing once the process is forgotten.
func TestLeftBehind(t *testing.T) {
	cfg, g := config(t), &Registry{}
	if _, err := g.Start(cfg, agent.ProcessRequest{ID: "a",
		Shell: "setsid sleep 1000 & echo $!"}); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Get("a", t.Context().Done()); err != nil {
		t.Fatal(err)
	}
	out, _, _, _ := follow(t, g, "a", 0)
	pid, err := strconv.Atoi(strings.TrimSpace(out))
	if err != nil || pid < 2 {
		t.Fatalf("%q: %v", out, err)
	}
	t.Cleanup(func() { _ = unix.Kill(pid, unix.SIGKILL) })
	p := g.find("a")
	cfg.End = func(int) error { return nil }
	if err := g.Remove(cfg, "a"); err != nil {
		t.Fatal(err)
	}
	for _, r := range p.ends {
		if _, err := r.Read(make([]byte, 1)); !errors.Is(err, os.ErrClosed) {
			t.Errorf("a stream of a process that is forgotten: %v", err)
		}
	}
}

// Neither a signal nor a removal reaches the process that has got the id of one that has ended.
func TestIDTaken(t *testing.T) {
	cfg, g := config(t), &Registry{}
	if _, err := g.Start(cfg, agent.ProcessRequest{ID: "a", Shell: "true"}); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Get("a", t.Context().Done()); err != nil {
		t.Fatal(err)
	}
	g.find("a").view.PID = os.Getpid()
	cfg.End = func(session int) error { return fmt.Errorf("session %d is ended", session) }
	if err := g.Remove(cfg, "a"); err != nil {
		t.Error(err)
	}
}

// A command line of words that are empty is bounded where it is shown, too.
func TestEmptyWords(t *testing.T) {
	if n := len(shown(agent.ProcessRequest{Args: make([]string, 80000)})); n > agent.MaxArguments {
		t.Errorf("%d words are shown", n)
	}
}

// A reader of a process that is removed does not go on with the next of its name.
func TestReaderOfRemoved(t *testing.T) {
	cfg, g := config(t), &Registry{}
	cfg.End = func(session int) error {
		_ = unix.Kill(-session, unix.SIGKILL) // it may have ended
		return nil
	}
	for range 2 {
		if _, err := g.Start(cfg, agent.ProcessRequest{ID: "a",
			Shell: "echo ready; sleep 1000"}); err != nil {
			t.Fatal(err)
		}
		err := g.Read("a", 0, true, t.Context().Done(), func(r agent.ProcessRecord) error {
			if r.Number > 1 || r.Process != nil {
				t.Errorf("%+v", r)
			}
			if err := g.Remove(cfg, "a"); err != nil {
				return err
			}
			_, err := g.Start(cfg, agent.ProcessRequest{ID: "a", Shell: "seq 9; sleep 0.1; seq 9"})
			return err
		})
		if sandpool.ClassOf(err) != sandpool.NotFound {
			t.Errorf("a reader of one that is removed: %v", err)
		}
		if err := g.Remove(cfg, "a"); err != nil {
			t.Error(err)
		}
	}
}

// A signal is known by its names and its number.
func TestParseSignal(t *testing.T) {
	for text, want := range map[string]int{"TERM": 15, "sigint": 2, "9": 9, "0": 0, "65": 0, "NONE": 0, "": 0} {
		if got, err := agent.ParseSignal(text); got != want || (err == nil) != (want > 0) {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
}
