package guest_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool/internal/agent"
)

// TestTimeout: a cell past its time is interrupted; only if it does not yield is its
// kernel replaced, and the answer says which.
func TestTimeout(t *testing.T) {
	s := start(t)
	s.run(t, "import time, os, signal, threading, subprocess\nkept = 1")
	for _, c := range []struct {
		code string
		want agent.Outcome
	}{
		{"time.sleep(600)", agent.TimeoutInterrupted},
		{"while True: pass", agent.TimeoutInterrupted},
		{"!sleep 600", agent.TimeoutInterrupted},
		{"await __import__('asyncio').sleep(600)", agent.TimeoutInterrupted},
		{"subprocess.run(['sleep', '600'])", agent.TimeoutInterrupted},
		{"try:\n  time.sleep(600)\nexcept KeyboardInterrupt: print('caught')",
			agent.TimeoutInterrupted},
		{"print('x' * 10, flush=True); os.kill(os.getpid(), signal.SIGSTOP)\ntime.sleep(600)",
			agent.TimeoutInterrupted},
		// At the limit of the recursion an interrupt is often lost.
		{"def f():\n  try: f()\n  except RecursionError: f()\nf()", agent.TimeoutInterrupted},
		{"while True:\n  try: time.sleep(1)\n  except BaseException: pass", agent.TimeoutRestarted},
		{"signal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass", agent.TimeoutRestarted},
		{"import signal; signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\nwhile True: pass",
			agent.TimeoutRestarted},
		{"import itertools; any(itertools.repeat(0))", agent.TimeoutRestarted},
	} {
		res := s.runFor(t, 300*time.Millisecond, c.code)
		for again := 3; again > 0 && res.Outcome == agent.TimeoutRestarted &&
			c.want == agent.TimeoutInterrupted; again-- {
			// A machine that does nothing for a second looks as code that takes no interrupt.
			s.run(t, "import time, os, signal, threading, subprocess\nkept = 1")
			res = s.runFor(t, 300*time.Millisecond, c.code)
		}
		if res.Error != nil && strings.Contains(res.Error.Traceback, "sandpool") {
			t.Errorf("%s: the traceback shows our insides: %s", c.code, res.Error.Traceback)
		}
		if res.Outcome != c.want {
			t.Errorf("%s: %s, want %s: %+v", c.code, res.Outcome, c.want, res.Error)
		}
		lost := res.Outcome != agent.TimeoutInterrupted
		if res.KernelRestarted != lost {
			t.Errorf("%s: kernel restarted %v after %s", c.code, res.KernelRestarted, res.Outcome)
		}
		next := s.run(t, "'kept' in globals()")
		if want := fmt.Sprint(!lost); !strings.EqualFold(next.Text, want) || next.KernelRestarted {
			t.Errorf("after %s: state kept %s, want %s: %+v", c.code, next.Text, want, next)
		}
		s.run(t, "import time, os, signal, threading, subprocess\nkept = 1")
	}
}

// TestInterrupt: a call of Interrupt ends the running cell and nothing else.
func TestInterrupt(t *testing.T) {
	s := start(t)
	if err := s.Interrupt(t.Context()); err != nil {
		t.Fatal(err)
	}
	if res := s.run(t, "kept = 1"); res.Outcome != agent.OK {
		t.Fatalf("after an interrupt without a cell: %+v", res)
	}
	var res agent.ExecuteResult
	err := s.ExecuteStream(t.Context(), agent.ExecuteRequest{
		Code: "import time\nprint('go')\ntime.sleep(600)"}, func(ev agent.Event) error {
		if ev.Stdout != "" {
			return s.Interrupt(t.Context())
		}
		if ev.Result != nil {
			res = *ev.Result
		}
		return nil
	})
	if err != nil || res.Outcome != agent.Interrupted {
		t.Errorf("interrupted cell: %+v, %v", res, err)
	}
	if res := s.run(t, "kept"); res.Text != "1" {
		t.Errorf("state after an interrupt: %+v", res)
	}
}

// TestDeath: however a kernel ends, the cell has an answer that says so, and
// the next cell runs in a new one.
func TestDeath(t *testing.T) {
	s := start(t)
	for _, c := range []struct{ code, message string }{
		{"import os; os._exit(3)", "exited with code 3"},
		{"import os; os.kill(os.getpid(), 9)", "signal 9"},
		{"import ctypes; ctypes.string_at(0)", "signal 11"},
		{"import os; os.abort()", "signal 6"},
		{"import os; os.closerange(3, 5000)", ""},
		{"import os, subprocess; p = subprocess.Popen(['sleep', '1000']); os.kill(-1, 9); " +
			"os._exit(1)", ""},
		{"import ctypes, os\nif ctypes.CDLL(None).fork() == 0:\n  import time; time.sleep(100)\n" +
			"os._exit(4)", "exited with code 4"},
		{"import os; os.write(get_ipython().kernel.fd, b'\\xff\\xff\\xff\\xff' * 10); " +
			"__import__('time').sleep(600)", ""},
		{"import os, struct\nb = b'[' * 1000000\nos.write(get_ipython().kernel.fd, " +
			"struct.pack('>I', len(b)) + b); __import__('time').sleep(600)", ""},
	} {
		res := s.run(t, "print('before')\n"+c.code)
		if res.Outcome != agent.KernelDied || res.Error == nil ||
			!strings.Contains(res.Error.Message, c.message) || res.Stdout != "before\n" {
			t.Errorf("%s: %+v, error %+v", c.code, res, res.Error)
		}
		if res := s.run(t, "1"); res.Text != "1" || res.KernelRestarted {
			t.Fatalf("after %s: %+v", c.code, res)
		}
	}
	s.run(t, "import os, threading, time\nthreading.Timer(0.05, os._exit, [7]).start()")
	<-time.After(300 * time.Millisecond) // the kernel ends between two cells
	if res := s.run(t, "1"); res.Text != "1" || !res.KernelRestarted {
		t.Errorf("after a death between cells: %+v", res)
	}
	// The new kernel imports what the first one had, when a cell asks for it.
	res := s.run(t, "import matplotlib.pyplot as plt, pandas as pd; plt.plot([1, 2]); "+
		"pd.DataFrame({'a': [1]})")
	if len(res.Displays) != 1 || res.Text != "   a\n0  1" {
		t.Errorf("a figure and a table in a new kernel: %+v, error %+v", res, res.Error)
	}
}

// TestForgedEnd: a cell that claims its own end early gains nothing: its later answers
// are not taken for those of the next cell.
func TestForgedEnd(t *testing.T) {
	s := start(t)
	forge := `
import os, struct, json, time
k = get_ipython().kernel
for id in ("wrong", k.id):
    b = json.dumps({"op": "done", "id": id, "value": {"text/plain": "forged " + id}}).encode()
    os.write(k.fd, struct.pack(">I", len(b)) + b)
time.sleep(0.5)`
	if res := s.run(t, forge); !strings.HasPrefix(res.Text, "forged ") ||
		res.Text == "forged wrong" {
		t.Fatalf("a cell may lie about itself: %+v, error %+v", res, res.Error)
	}
	for range 2 {
		if res := s.run(t, "'honest'"); res.Text != "'honest'" || res.KernelRestarted {
			t.Errorf("the next cell: %+v, error %+v", res, res.Error)
		}
	}
}

// TestLateDisplay: what a thread displays while no cell runs harms nobody.
func TestLateDisplay(t *testing.T) {
	s := start(t)
	for range 3 {
		s.run(t, "import threading; kept = 1\nthreading.Timer(0.05, lambda: display(1)).start()")
		<-time.After(200 * time.Millisecond)
		if res := s.run(t, "kept"); res.Text != "1" || res.KernelRestarted {
			t.Errorf("after a late display: %+v, error %+v", res, res.Error)
		}
	}
}

// TestFloods: nothing that a cell puts out grows without bound.
func TestFloods(t *testing.T) {
	s := start(t)
	for _, c := range []string{
		"import sys\nfor i in range(3000): sys.stdout.write('x' * 100_000)\n" +
			"sys.stdout.write('end')",
		"import os\nfor i in range(3000): os.write(2, b'x' * 65536)\nos.write(1, b'end')",
		"!head -c 300000000 /dev/zero; echo end",
		"print('é' * 5_000_000 + 'end')",
	} {
		res := s.run(t, c)
		if res.Outcome != agent.OK || !strings.HasSuffix(strings.TrimSpace(res.Stdout), "end") {
			t.Errorf("%s: %s, ends with %q", c, res.Outcome,
				res.Stdout[max(0, len(res.Stdout)-20):])
		}
		if n := max(len(res.Stdout), len(res.Stderr)); n < agent.DefaultMaxOutput ||
			n > agent.DefaultMaxOutput+200 || !res.StdoutTruncated && !res.StderrTruncated {
			t.Errorf("%s: kept %d bytes, cut %v %v", c, n, res.StdoutTruncated, res.StderrTruncated)
		}
	}
	res := s.run(t, "'x' * 50_000_000")
	n := strings.Count(res.Text, "x")
	if mark := fmt.Sprintf("x\n[... about %d characters left out ...]", 50_000_002-n-1); len(
		res.Text) > 1<<20 || n < 1<<19 || !strings.HasSuffix(res.Text, mark) {
		t.Errorf("a giant value has %d bytes and ends with %q; want %q", len(res.Text),
			res.Text[max(0, len(res.Text)-60):], mark)
	}
	if res := s.run(t, "list(range(10_000_000))"); len(res.Text) > 1<<20 || res.Text == "" {
		t.Errorf("a long list has %d bytes", len(res.Text))
	}
	if res := s.run(t, "raise ValueError('x' * 50_000_000)"); len(res.Error.Traceback)+
		len(res.Error.Message) > 3<<20 {
		t.Errorf("a giant message has %d bytes", len(res.Error.Traceback)+len(res.Error.Message))
	}
	res = s.run(t, "for i in range(300): display({'text/plain': str(i)}, raw=True)\nfor i in "+
		"range(9): display({'a/b': 'x' * 8_000_000}, raw=True)")
	if len(res.Displays) != agent.MaxDisplays || !res.DisplaysTruncated {
		t.Errorf("%d displays, cut %v", len(res.Displays), res.DisplaysTruncated)
	}
	res = s.run(t, "class J:\n  def _repr_json_(self):\n    d = {}\n    for i in range(100000): "+
		"d = {'d': d}\n    return d\nJ()")
	if res.Outcome != agent.OK {
		t.Errorf("deep JSON: %+v", res.Error)
	}
}

// TestDescriptors: a cell that closes its output keeps its kernel and the next
// cell prints again.
func TestDescriptors(t *testing.T) {
	s := start(t)
	res := s.run(t, "import os; os.close(1); os.close(2); print('out')")
	if res.Outcome != agent.OK || res.Stdout != "out\n" {
		t.Errorf("closed output: %+v %+v", res, res.Error)
	}
	s.run(t, "import sys; sys.stdout.close()")
	if res := s.run(t, "print(end=''); 1"); res.Text != "1" {
		t.Errorf("after closing sys.stdout: %+v", res)
	}
	res = s.run(t, "fs = []\ntry:\n  while True: fs.append(open('/dev/null'))\nexcept OSError as "+
		"e: print(e.errno)\nfs = None")
	if !strings.Contains(res.Stdout+res.Stderr, "24") {
		t.Errorf("descriptors do not run out: %+v %+v", res, res.Error)
	}
}

// TestForkBomb: processes are bounded, and all of them end with the kernel.
func TestForkBomb(t *testing.T) {
	alone(t)
	s := start(t)
	res := s.runFor(t, 2*time.Second, "import os, signal\nsignal.signal(signal.SIGINT, "+
		"signal.SIG_IGN)\nwhile True:\n  try: os.fork()\n  except "+
		"OSError: pass\n  except BaseException: pass")
	if res.Outcome != agent.TimeoutRestarted && res.Outcome != agent.KernelDied {
		t.Errorf("fork bomb: %s", res.Outcome)
	}
	res = s.run(t, "import os\nsum('Uid:\\t1000' in open('/proc/' + p + '/status').read() for p "+
		"in os.listdir('/proc') if p.isdigit())")
	if res.Text != "1" {
		t.Errorf("%s processes of the user are left: %+v", res.Text, res.Error)
	}
}

// TestSeparation: code can neither signal, trace nor read those that watch it,
// nor use the port.
func TestSeparation(t *testing.T) {
	s := start(t)
	if res := s.run(t,
		"import os; (os.getuid(), os.getgid(), os.getgroups(), os.getresuid())"); res.Text !=
		"(1000, 1000, [], (1000, 1000, 1000))" {
		t.Errorf("cells run as %s", res.Text)
	}
	code := `
import os, ctypes, urllib.request, urllib.error
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
for path in ('/execute', '/metadata', '/files', '/interrupt', '/init'):
    try:
        urllib.request.urlopen(urllib.request.Request('http://ADDR' + path, data=b'{}', headers={'Authorization': 'Bearer guess'})); print('reached', path)
    except urllib.error.HTTPError as e: assert e.code in (400, 401, 405, 409), (path, e.code)
`
	if res := s.run(t, strings.ReplaceAll(code, "ADDR", s.addr)); res.Outcome != agent.OK ||
		res.Stdout != "" {
		t.Errorf("separation: %q %+v", res.Stdout, res.Error)
	}
	if res := s.run(t, "[k for k in os.environ if 'SECRET' in k or 'SANDPOOL' in k], "+
		"os.environ['HOME'] != '/root', sorted(os.listdir('/proc/self/fd'), key=int)[:3]"); res.Text != "([], True, ['0', '1', '2'])" {
		t.Errorf("environment: %s %+v", res.Text, res.Error)
	}
	if res := s.run(t, "import subprocess; len(subprocess.run(['ls', '/proc/self/fd'], "+
		"capture_output=True, text=True, close_fds=False).stdout.split())"); res.Text != "4" {
		t.Errorf("children inherit %s descriptors, want 4 (three streams and the listing's own)",
			res.Text)
	}
	if _, err := os.Stat(s.data); err != nil {
		t.Error(err)
	}
}

// TestCancelledWhileQueued: a call that is given up before its turn never runs.
func TestCancelledWhileQueued(t *testing.T) {
	s := start(t)
	done := make(chan error, 1)
	go func() {
		_, err := s.Execute(t.Context(), agent.ExecuteRequest{Code: "import os, time; ran = []; " +
			"open('running', 'w').close()\nwhile not os.path.exists('go'): time.sleep(.01)",
			Timeout: 10 * time.Minute})
		done <- err
	}()
	s.awaitFile(t, "running")
	short, cancel := contextFor(t, 200*time.Millisecond)
	defer cancel()
	if _, err := s.Execute(short, agent.ExecuteRequest{Code: "ran.append(1)"}); err == nil {
		t.Error("the queued call has an answer")
	}
	if err := os.WriteFile(filepath.Join(s.data, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if res := s.run(t, "ran"); res.Text != "[]" {
		t.Errorf("the call that was given up ran: %s", res.Text)
	}
}
