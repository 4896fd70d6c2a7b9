package guest_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool/internal/agent"
)

// awaitFile waits until the session has made a file.
func (s *sandbox) awaitFile(t testing.TB, name string) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); <-tick.C {
		if _, err := os.Stat(filepath.Join(s.data, name)); err == nil {
			return
		}
	}
	t.Fatalf("%s was not made in time", name)
}

// each returns the lines that a format makes of 0 to n-1.
func each(n int, format string) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.ReplaceAll(format, "N", strconv.Itoa(i)))
	}
	return b.String()
}

// TestWholeLines: threads and processes that print at the same time tear no line.
func TestWholeLines(t *testing.T) {
	s := start(t)
	s.run(t, "import threading, multiprocessing, sys\nclass Slow:\n  def __str__(self):\n    for "+
		"_ in range(200): pass\n    return 'slow'\n"+
		"def work(n, out):\n  for i in range(100): print('worker', n, Slow(), 'line', i, file=out)")
	line := regexp.MustCompile(`^worker \d slow line \d+$`)
	for _, with := range []string{"threading.Thread",
		"multiprocessing.get_context('fork').Process"} {
		for _, out := range []string{"stdout", "stderr"} {
			res := s.run(t, "ts = ["+with+"(target=work, args=(n, sys."+out+
				")) for n in range(4)]\nfor t in ts: t.start()\nfor t in ts: t.join()")
			text := res.Stdout + res.Stderr
			lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
			torn := 0
			for _, l := range lines {
				if !line.MatchString(l) {
					torn++
				}
			}
			if torn > 0 || len(lines) != 400 {
				t.Errorf("%s, %s: %d lines of 400, %d of them torn; error %+v", with, out,
					len(lines), torn, res.Error)
			}
		}
	}
}

// TestPrintingOrder: what writes to standard output in turn with print(), in whatever way, comes in
// turn.
func TestPrintingOrder(t *testing.T) {
	s := start(t)
	s.run(t, "import os, sys, subprocess, ctypes, io, logging, contextlib\nlibc = "+
		"ctypes.CDLL(None)\nn = 100")
	many := each(100, "p N\n")
	for _, c := range []struct{ code, want string }{
		{"for i in range(n): print('p', i); os.write(1, b'w %d\\n' % i)", each(100, "p N\nw N\n")},
		{"for i in range(n): print('p', i); libc.printf(b'c %d\\n', i)", each(100, "p N\nc N\n")},
		{"for i in range(n): print('p', i); sys.stdout.buffer.write(b'b %d\\n' % i)",
			each(100, "p N\nb N\n")},
		{"for i in range(n): print('p', i); sys.stdout.buffer.raw.write(b'r %d\\n' % i)",
			each(100, "p N\nr N\n")},
		{"for i in range(n): print('p', i)\nos.system('echo child'); print('after')", many +
			"child\nafter\n"},
		{"for i in range(n): print('p', i)\nsubprocess.run('echo child', shell=True); " +
			"print('after')", many + "child\nafter\n"},
		{"for i in range(n): print('p', i)\nos.waitpid(os.posix_spawn('/bin/echo', ['echo', " +
			"'child'], {}), 0); print('after')", many + "child\nafter\n"},
		{"for i in range(n): print('p', i)\n!echo child\nprint('after')", many + "child\nafter\n"},
		{"for i in range(n): print('p', i)\npid = os.fork()\nif pid == 0: print('child', " +
			"end=''); os._exit(0)\nos.waitpid(pid, 0); print(' after')", many + "child after\n"},
		{"p = subprocess.Popen(['cat'], stdin=subprocess.PIPE)\nfor i in range(n): print('p', " +
			"i)\np.communicate(b'child\\n'); print('after')", many + "child\nafter\n"},
		{"for i in range(n): print('p', i)\nold = os.dup(1); f = os.open('f', os.O_RDWR | " +
			"os.O_CREAT); os.dup2(f, 1); print('in f'); os.system('echo too'); os.dup2(old, 1); " +
			"print('after'); print(open('f').read(), end='')", many + "after\nin f\ntoo\n"},
		{"print('a', end=''); os.write(1, b'b'); subprocess.run(['echo', 'c']); " +
			"sys.stdout.buffer.write(b'd'); print('e')", "abc\nde\n"},
	} {
		if res := s.run(t, c.code+"\n0"); res.Stdout != c.want || res.Error != nil {
			t.Errorf("%s\n got %q\nwant %q\nerror %+v", c.code, head(res.Stdout), head(c.want),
				res.Error)
		}
	}
}

// TestNothingLost: whatever ends a kernel, all that was printed before is in the answer.
func TestNothingLost(t *testing.T) {
	s := start(t)
	for _, end := range []string{"os._exit(3)", "os.kill(os.getpid(), 9)", "ctypes.string_at(0)",
		"os.abort()", "os.execv('/bin/true', ['true'])"} {
		res := s.run(t,
			"import os, ctypes\nfor i in range(1000): print(i)\nprint('unfinished', end='')\n"+end)
		if want := each(1000, "N\n") + "unfinished"; res.Outcome != agent.KernelDied ||
			res.Stdout != want {
			t.Errorf("%s: %s, %d bytes of %d: %q", end, res.Outcome, len(res.Stdout), len(want),
				res.Stdout[max(0, len(res.Stdout)-50):])
		}
	}
	res := s.runFor(t, time.Second, "import signal; signal.signal(signal.SIGINT, "+
		"signal.SIG_IGN)\nfor i in range(1000): print(i)\nwhile True: pass")
	if want := each(1000, "N\n"); res.Outcome != agent.TimeoutRestarted || res.Stdout != want {
		t.Errorf("a kernel that was killed: %s, %d bytes of %d", res.Outcome, len(res.Stdout),
			len(want))
	}
}

// TestPrintingPace: lines that come quickly are not written one by one, which would cost many times
// what printing costs in plain Python. The system calls that write are counted, not the time.
func TestPrintingPace(t *testing.T) {
	s := start(t)
	s.run(t, "def writes():\n  return "+
		"int(open('/proc/self/io').read().split('syscw:')[1].split()[0])")
	s.run(t, "import ctypes; ctypes.CDLL(None).printf(b'')") // C that prints changes no pace
	res := s.run(t, "before = writes()\nfor i in range(20_000): print(i)\nwrites() - before")
	if calls, err := strconv.Atoi(res.Text); err != nil || calls > 2_000 {
		t.Errorf("20,000 lines take %s system calls; error %+v", res.Text, res.Error)
	}
}

// TestStreamOrder: whoever watches a cell sees what it prints and shows as it happens, and in that
// order.
func TestStreamOrder(t *testing.T) {
	s := start(t)
	s.run(t, "import sys, os, time, subprocess")
	watch := func(code string, on func(seen string)) string {
		var seen strings.Builder
		err := s.ExecuteStream(t.Context(), agent.ExecuteRequest{Code: code, Timeout: time.Minute},
			func(ev agent.Event) error {
				switch {
				case ev.Display != nil:
					fmt.Fprintf(&seen, "<%s>", ev.Display.Data["text/plain"])
				case ev.Clear != nil:
					fmt.Fprintf(&seen, "<clear %v>", ev.Clear.Wait)
				case ev.Result != nil && ev.Result.Error != nil:
					fmt.Fprintf(&seen, "<error %s>", ev.Result.Error.Message)
				}
				seen.WriteString(ev.Stdout + strings.ToUpper(ev.Stderr))
				if on != nil {
					on(seen.String())
				}
				return nil
			})
		if err != nil {
			t.Errorf("%s: %v", code, err)
		}
		return seen.String()
	}
	const mixed = `
for i in range(50):
    print('out', i); print('err', i, file=sys.stderr); display(i); print('more', i)
    if i % 10 == 0: subprocess.run(['echo', 'child', str(i)]); os.write(1, b'direct\n')
    display({'text/plain': 'x'}, raw=True)`
	want := ""
	for i := range 50 {
		want += fmt.Sprintf("out %d\nERR %d\n<%d>more %d\n", i, i, i, i)
		if i%10 == 0 {
			want += fmt.Sprintf("child %d\ndirect\n", i)
		}
		want += "<x>"
	}
	if got := watch(mixed, nil); got != want {
		t.Errorf("order:\n got %q\nwant %q", got, want)
	}
	// Each step waits until the one before was seen: what is printed arrives while the cell runs.
	for _, step := range []string{"print('N')", "print('N', end='')",
		"[print('line') for _ in range(200)]; print('N')", "sys.stderr.write('N')",
		"os.system('echo N')"} {
		code := ""
		for i := range 3 {
			code += strings.ReplaceAll(step, "N", fmt.Sprintf("step%d", i)) +
				fmt.Sprintf("\nwhile not os.path.exists('seen%d'): time.sleep(0.001)\n"+
					"os.remove('seen%d')\n", i, i)
		}
		next := 0
		watch(code, func(seen string) {
			if next < 3 && strings.Contains(strings.ToLower(seen), fmt.Sprintf("step%d", next)) {
				if err := os.WriteFile(filepath.Join(s.data, fmt.Sprintf("seen%d", next)), nil,
					0o666); err != nil {
					t.Error(err)
				}
				next++
			}
		})
		if next != 3 {
			t.Errorf("%s: %d of 3 steps were seen while the cell ran", step, next)
		}
	}
	if got := watch("print('a'); from IPython.display import clear_output; clear_output(); "+
		"print('b'); clear_output(wait=True); print('c')", nil); got !=
		"a\n<clear false>b\n<clear true>c\n" {
		t.Errorf("cleared: %q", got)
	}
}

// TestPrintingOddities: what is no plain text is written as in an interpreter of its own, also when
// lines come quickly.
func TestPrintingOddities(t *testing.T) {
	s := start(t)
	s.run(t, "import sys")
	many := each(2000, "N\n")
	for _, c := range []struct{ code, want string }{
		{`print('\ud800')`, "\\ud800\n"},
		{`print('\0', end='')`, "\x00"},
		{`print('e\u0301', '完成', '🎉', sep='')`, "e\u0301完成🎉\n"},
		{`print('x' * 40_000)`, strings.Repeat("x", 40_000) + "\n"},
		{`print('a' * 20_000, end='')
print('b' * 20_000)`, strings.Repeat("a", 20_000) + strings.Repeat("b", 20_000) + "\n"},
		{`sys.stdout.buffer.write(b'\xff\xfe\n')`, "\uFFFD\uFFFD\n"},
		{`sys.stdout.writelines(['a\n', 'b\n'])`, "a\nb\n"},
		{"try: sys.stdout.write(1)\nexcept TypeError as e: print(e)",
			"write() argument must be str, not int\n"},
		{"sys.stdout.reconfigure(encoding='utf-8', line_buffering=True)\nprint('é')", "é\n"},
		{"try: print('\\ud800')\nexcept UnicodeEncodeError: print('refused')", "refused\n"},
		{"sys.stdout.reconfigure(encoding='latin-1'); sys.stdout.write('\\x41')\n" +
			"sys.stdout.reconfigure(encoding='utf-8', errors='backslashreplace'); print()", "A\n"},
		{"class Text(str):\n  def encode(self, *a): return 7\nprint(Text('text'))", "text\n"},
		{"old, seen = sys.stdout.write, []\nsys.stdout.write = lambda s: seen.append(s)\n" +
			"print('hidden')\nsys.stdout.write = old\nprint(seen)", "['hidden', '\\n']\n"},
	} {
		if res := s.run(t, "for i in range(2000): print(i)\n"+c.code+"\nNone"); res.Stdout !=
			many+c.want || res.Error != nil {
			t.Errorf("%s\n got %q\nwant %q\nerror %+v", c.code,
				head(strings.TrimPrefix(res.Stdout, many)), head(c.want), res.Error)
		}
	}
}
