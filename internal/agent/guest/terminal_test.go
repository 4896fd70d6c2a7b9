package guest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/agent"
)

// shell is a terminal whose output is read by tests.
type shell struct {
	*agent.Terminal
	seen strings.Builder
}

func (s *sandbox) shell(t testing.TB) *shell {
	t.Helper()
	term, err := s.Terminal(t.Context(), agent.TerminalSize{Columns: 300, Rows: 40})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = term.Close() })
	return &shell{Terminal: term}
}

func (s *shell) write(t testing.TB, text string) {
	t.Helper()
	if _, err := io.WriteString(s, text); err != nil {
		t.Fatal(err)
	}
}

// await reads until want is seen and forgets what it has read. Commands of tests spell what
// they print in two parts, so that their echo is not taken for it.
func (s *shell) await(t testing.TB, want string) string {
	t.Helper()
	timer := time.AfterFunc(time.Minute, func() { _ = s.Close() })
	defer timer.Stop()
	buf := make([]byte, 4096)
	for !strings.Contains(s.seen.String(), want) {
		n, err := s.Read(buf)
		s.seen.Write(buf[:n])
		if err != nil {
			t.Fatalf("%q instead of %q: %v", tail(s.seen.String()), want, err)
		}
	}
	defer s.seen.Reset()
	return s.seen.String()
}

// end reads to the end and returns what was read and how the shell ended.
func (s *shell) end(t testing.TB) (string, agent.TerminalExit) {
	t.Helper()
	timer := time.AfterFunc(time.Minute, func() { _ = s.Close() })
	defer timer.Stop()
	out, err := io.ReadAll(s)
	exit, ok := s.Exit()
	if err != nil || !ok {
		t.Fatalf("the end after %q: %+v %v, %v", tail(string(out)), exit, ok, err)
	}
	return string(out), exit
}

func tail(s string) string { return s[max(0, len(s)-500):] }

// gone waits until no process has mark in its command line.
func (s *sandbox) gone(t testing.TB, mark string) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var left []agent.Process
	for end := time.Now().Add(time.Minute); time.Now().Before(end); <-tick.C {
		if left = s.find(t, mark); len(left) == 0 {
			return
		}
	}
	t.Errorf("left: %+v", left)
}

func (s *sandbox) find(t testing.TB, mark string) (found []agent.Process) {
	t.Helper()
	all, err := s.Processes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		if strings.Contains(p.Command, mark) {
			found = append(found, p)
		}
	}
	return found
}

// TestProcesses: the list shows what runs, whatever it calls itself.
func TestProcesses(t *testing.T) {
	s := start(t)
	all, err := s.Processes(t.Context())
	if err != nil || len(all) != 2 || all[0].PID != 1 || all[0].UserID != 0 || all[1].Parent != 1 ||
		all[1].UserID != agent.UserID || !strings.Contains(all[1].Command, "python") {
		t.Fatalf("%+v, %v; want agent and kernel", all, err)
	}
	if p := all[1]; p.ResidentBytes < 10<<20 || p.CPUTime <= 0 ||
		time.Since(p.Started) > 10*time.Minute || p.Started.After(time.Now().Add(time.Second)) {
		t.Errorf("the kernel is %+v", p)
	}
	s.run(t, `
import subprocess, ctypes, os, signal
def call(*name): ctypes.CDLL(None).prctl(15, *name, 0, 0, 0)
keep = [
    subprocess.Popen(['sleep', '1000'], preexec_fn=lambda: call(b'x\nUid:\t0\t0\t0')),
    subprocess.Popen([b'mark-\xff\n\x1b', '1000'], executable='/bin/sleep'),
    subprocess.Popen(['mark-long', '-c', 'import time; time.sleep(1000)'] + ['é' * 60_000] * 9, executable='`+venvMount+`/bin/python'),
    subprocess.Popen(['mark-stopped', '1000'], executable='/bin/sleep'),
    subprocess.Popen(['true']),
]
os.kill(keep[3].pid, signal.SIGSTOP)
os.waitid(os.P_PID, keep[4].pid, os.WEXITED | os.WNOWAIT)`)
	for mark, fits := range map[string]func(agent.Process) bool{
		"sleep 1000": func(p agent.Process) bool {
			return p.State == agent.ProcessSleeping
		},
		"mark-\uFFFD\n\x1b 1": func(p agent.Process) bool { return !p.CommandTruncated },
		"mark-long -c ": func(p agent.Process) bool {
			return p.CommandTruncated && len(p.Command) > agent.MaxCommand-4
		},
		"mark-stopped": func(p agent.Process) bool {
			return p.State == agent.ProcessStopped
		},
		"[true]": func(p agent.Process) bool { return p.State == agent.ProcessEnded },
	} {
		found := s.find(t, mark)
		for deadline := time.Now().Add(time.Minute); len(found) == 1 && !fits(found[0]) &&
			time.Now().Before(deadline); {
			<-time.After(20 * time.Millisecond) // a signal takes its time
			found = s.find(t, mark)
		}
		if len(found) != 1 || !fits(found[0]) || found[0].UserID != agent.UserID ||
			found[0].Parent != all[1].PID || len(found[0].Command) > agent.MaxCommand {
			t.Errorf("%q: %.1500q", mark, fmt.Sprint(found))
		}
	}
	// Processes that come and go are no errors.
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.run(t, "for i in range(300): subprocess.run(['true'])")
	}()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		if len(s.find(t, "mark-stopped")) != 1 {
			t.Error("a process that lives is not listed")
		}
	}
}

// TestTerminal: a person finds in a terminal what a cell finds, and a terminal.
func TestTerminal(t *testing.T) {
	s := start(t)
	sh := s.shell(t)
	sh.write(t, "echo me=$(id -u):$(id -g):$(id -G):$PWD:$HOME:$SHELL:$TERM; tty; stty size; "+
		"echo do''ne\n")
	out := sh.await(t, "done\r\n")
	home := s.run(t, "import os; print(os.getcwd(), os.environ['HOME'], sep=':', end='')").Stdout
	for _, want := range []string{"me=1000:1000:1000:" + home + ":/bin/sh:xterm-256color\r\n",
		"/dev/pts/", "40 300\r\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q lacks %q", out, want)
		}
	}
	limits := "import os, resource as r; print('limits', [r.getrlimit(x) for x in " +
		"(r.RLIMIT_NPROC, r.RLIMIT_CORE, r.RLIMIT_NOFILE)], oct(os.umask(0o22)))"
	sh.write(t, venvMount+`/bin/python -c "`+limits+"\"; echo do''ne\n")
	if want, got := strings.TrimSpace(s.run(t, limits).Stdout), sh.await(t,
		"done\r\n"); !strings.Contains(got, want) {
		t.Errorf("a terminal's processes have other limits than cells: %q lacks %q", got, want)
	}
	sh.write(t, "ls -l /proc/self/fd; echo do''ne\n")
	if out := sh.await(t, "done\r\n"); !strings.Contains(out, "0 -> /dev/pts/") ||
		strings.Contains(out, "socket:") || strings.Contains(out, "anon_inode") ||
		strings.Contains(out, "ptmx") {
		t.Errorf("a terminal's processes inherit of the agent: %s", out)
	}
	// It is the controlling terminal, of the size that it was given last, and jobs are controlled.
	if err := sh.Resize(agent.TerminalSize{Columns: 123, Rows: 45}); err != nil {
		t.Fatal(err)
	}
	sh.write(t, "stty size < /dev/tty > $(tty); echo do''ne\n")
	if out := sh.await(t, "done\r\n"); !strings.Contains(out, "45 123\r\n") {
		t.Errorf("after the resize: %q", out)
	}
	sh.write(t, "sleep 1000\n")
	for len(s.find(t, "sleep 1000")) == 0 {
	}
	sh.write(t, "\x03")
	sh.write(t, "echo int''errupted\n")
	sh.await(t, "interrupted\r\n")
	sh.write(t, "head -c 3000000 /dev/zero | tr '\\0' x; echo; exit 7\n")
	out, exit := sh.end(t)
	if n := strings.Count(out, "x"); exit != (agent.TerminalExit{Code: 7}) || n < 3000000 ||
		n > 3000010 {
		t.Errorf("%+v after %d bytes", exit, n)
	}
	sh = s.shell(t)
	sh.write(t, "kill -9 $$\n")
	if _, exit := sh.end(t); exit != (agent.TerminalExit{Signal: 9}) {
		t.Errorf("a killed shell: %+v", exit)
	}
	sh = s.shell(t)
	sh.write(t, "echo run''ning\n")
	sh.await(t, "running\r\n")
	s.run(t, "import os; os._exit(1)") // with a kernel all processes of the user end
	if _, exit := sh.end(t); exit != (agent.TerminalExit{Signal: 9}) {
		t.Errorf("a shell after the end of the kernel: %+v", exit)
	}
	s.gone(t, "/bin/sh")
}

// TestTerminalHangUp: nothing of a session outlives its terminal, however it resists.
func TestTerminalHangUp(t *testing.T) {
	s := start(t)
	resist := "set -m; (trap '' HUP TERM; exec sleep 7001) & (sleep 7002; sleep 7002) & nohup " +
		"sleep 7003 > /dev/null 2>&1 & sh -c 'kill -STOP $$; sleep 7004' & sleep 7005 & echo " +
		"up''once\n"
	for name, end := range map[string]func(sh *shell){
		"the host hangs up": func(sh *shell) { _ = sh.Close() },
		"the shell exits": func(sh *shell) {
			sh.write(t, "exit 3\nexit 3\n")
			if _, exit := sh.end(t); exit.Code != 3 {
				t.Errorf("exit %+v", exit)
			}
		},
		"the host hangs up on a flood": func(sh *shell) {
			sh.write(t, "yes 7006\n")
			sh.await(t, "7006\r\n7006")
			_ = sh.Close()
		},
		"the host hangs up before its input is read": func(sh *shell) {
			sh.write(t, "stty raw -echo; echo r''aw; sleep 7007\n")
			sh.await(t, "raw")
			stuck := make(chan struct{})
			go func() { // as much as is taken
				defer close(stuck)
				_, _ = sh.Write(make([]byte, 64<<20))
			}()
			<-time.After(300 * time.Millisecond)
			_ = sh.Close()
			<-stuck
		},
	} {
		began := time.Now()
		sh := s.shell(t)
		sh.write(t, resist)
		sh.await(t, "uponce\r\n")
		for len(s.find(t, "sleep 700")) < 4 || len(s.find(t, "kill -STOP")) < 1 {
			if time.Since(began) > time.Minute {
				t.Fatalf("%s: the processes do not run", name)
			}
		}
		end(sh)
		for _, mark := range []string{"sleep 700", "yes", "/bin/sh", "[sleep]", "[sh]"} {
			s.gone(t, mark)
		}
		if t.Failed() {
			t.Fatal(name)
		}
	}
	if res := s.run(t, "1"); res.Text != "1" || res.KernelRestarted {
		t.Errorf("the kernel: %+v", res)
	}
}

// TestTerminalFlood: a host that does not read holds up its terminal and nothing else.
func TestTerminalFlood(t *testing.T) {
	s := start(t)
	before := s.find(t, "")[0].ResidentBytes
	flood := s.shell(t)
	flood.write(t, "yes xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n")
	flood.await(t, "xxxxxx\r\nxxxx")
	var last, now time.Duration
	tick := time.NewTicker(300 * time.Millisecond)
	defer tick.Stop()
	for now = -1; now != last; <-tick.C { // until it writes no more
		last, now = now, s.find(t, "yes xxx")[0].CPUTime
	}
	if res := s.run(t, "1 + 1"); res.Text != "2" {
		t.Errorf("a cell beside: %+v", res)
	}
	other := s.shell(t)
	other.write(t, "echo oth''er\n")
	other.await(t, "other\r\n")
	// Nor does one whose input nobody reads: it is dropped, and what comes later arrives.
	other.write(t, "stty raw -echo; echo r''aw; sleep 7; stty sane; echo sa''ne\n")
	other.await(t, "raw")
	other.write(t, strings.Repeat("\x00", 8<<20))
	if grown := s.find(t, "")[0].ResidentBytes - before; grown > 16<<20 {
		t.Errorf("the agent has grown by %d bytes", grown)
	}
	other.await(t, "sane\r\n")
	other.write(t, "\necho al''ive\n")
	other.await(t, "alive\r\n")
	flood.write(t, "\x03")
	flood.write(t, "echo ag''ain\n")
	flood.await(t, "again\r\n")
}

// TestTerminalBounds: sizes and numbers have bounds, and a frame that is none hangs up.
func TestTerminalBounds(t *testing.T) {
	s := start(t)
	for _, size := range []agent.TerminalSize{{}, {Columns: 80}, {Columns: 80, Rows: -1},
		{Columns: 1001, Rows: 24}} {
		if _, err := s.Terminal(t.Context(), size); sandpool.ClassOf(err) != sandpool.Invalid {
			t.Errorf("%+v: %v", size, err)
		}
	}
	var open []*shell
	for range agent.MaxTerminals {
		open = append(open, s.shell(t))
	}
	size := agent.TerminalSize{Columns: 80, Rows: 24}
	if _, err := s.Terminal(t.Context(), size); sandpool.ClassOf(err) != sandpool.Unavailable {
		t.Errorf("one terminal more: %v", err)
	}
	var known *sandpool.Error
	if _, err := s.Terminal(t.Context(), size); !errors.As(err, &known) ||
		known.Code != "TooManyTerminals" {
		t.Errorf("one terminal more: %v", err)
	}
	for _, sh := range open {
		if err := sh.Close(); err != nil {
			t.Error(err)
		}
	}
	s.gone(t, "/bin/sh")
	var conn net.Conn
	c := agent.NewClient(func(ctx context.Context, port int) (_ net.Conn, err error) {
		conn, err = s.dial(ctx, port)
		return conn, err
	}, s.secret)
	defer c.Close()
	for _, frame := range []string{"\x07\x00\x00\x00\x00", "\x00\xff\xff\xff\xff",
		"\x01\x00\x00\x00\x02ab", "\x01\x00\x00\x00\x04\xff\xff\xff\xff",
		"\x02\x00\x00\x00\x02ab"} {
		term, err := c.Terminal(t.Context(), size)
		for deadline := time.Now().Add(time.Minute); sandpool.ClassOf(
			err) == sandpool.Unavailable && time.Now().Before(deadline); {
			<-time.After(20 * time.Millisecond) // the last shell is gone before its place is free
			term, err = c.Terminal(t.Context(), size)
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, frame); err != nil {
			t.Fatal(err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%q is not hung up on", frame)
		}
		_ = term.Close()
	}
	s.gone(t, "/bin/sh")
}
