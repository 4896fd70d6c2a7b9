package guest_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool/internal/agent"
)

// want is what a cell must come to. Empty fields are compared too, unless any is set.
type want struct {
	outcome        agent.Outcome
	stdout, stderr string
	text           string
	error          string // name of the exception
}

func (w want) check(t *testing.T, code string, res agent.ExecuteResult) {
	t.Helper()
	if w.outcome == "" {
		w.outcome = agent.OK
	}
	got := want{outcome: res.Outcome, stdout: res.Stdout, stderr: res.Stderr, text: res.Text}
	if res.Error != nil {
		got.error = res.Error.Name
	}
	if got != w {
		t.Errorf("%s\n got %+v\nwant %+v\nerror %+v", code, got, w, res.Error)
	}
	if res.HasValue != (w.text != "") {
		t.Errorf("%s: has value %v with text %q", code, res.HasValue, res.Text)
	}
}

// TestValues: the value of a cell is that of its last expression, as IPython prints it.
func TestValues(t *testing.T) {
	s := start(t)
	for _, c := range []struct {
		code string
		want want
	}{
		{"1 + 1", want{text: "2"}},
		{"_ + 1", want{text: "3"}},
		{"print('hi')\n40 + 2", want{stdout: "hi\n", text: "42"}},
		{"x = 1", want{}},
		{"x", want{text: "1"}},
		{"x;", want{}},
		{"'a;b'", want{text: "'a;b'"}},
		{"None", want{}},
		{"", want{}},
		{"# nothing", want{}},
		{"True", want{text: "True"}},
		{"float('nan')", want{text: "nan"}},
		{"'abc'", want{text: "'abc'"}},
		{"{'a': 1}", want{text: "{'a': 1}"}},
		{"['x' * 40, 'y' * 40]", want{text: "['xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx',\n " +
			"'yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy']"}},
		{"if True:\n  5", want{}},
		{"def f():\n  return 'é\\ud800'\nprint(f())", want{stdout: "é\\ud800\n"}},
		{"import os; os.getcwd() == os.environ.get('PWD', os.getcwd())", want{text: "True"}},
		{"import numpy as np; np.arange(3)", want{text: "array([0, 1, 2])"}},
		{"import pandas as pd; pd.DataFrame({'a': [1, 2]})", want{text: "   a\n0  1\n1  2"}},
		{"from __future__ import annotations\ndef g(a: undefined): pass", want{}},
		{"def h(a: undefined): pass\nh.__annotations__", want{text: "{'a': 'undefined'}"}},
		{"class R:\n  def __repr__(self): raise ValueError('x')\n0", want{text: "0"}},
		{"Out[1]", want{text: "2"}},
		{"\ufeffprint('marked')", want{stdout: "marked\n"}},
		{"x = 1\r\nx + 1\r\n", want{text: "2"}},
		{"help(len)", want{stdout: "Help on built-in function len in module builtins:\n\n" +
			"len(obj, /)\n    Return the number of items in a container.\n\n"}},
		{"import pickle\nclass P: x = 1\npickle.loads(pickle.dumps(P())).x", want{text: "1"}},
		{"import dataclasses, typing\n@dataclasses.dataclass\nclass D:\n  y: " +
			"typing.ClassVar[int] = 3\nD()", want{text: "D()"}},
		{"def src(): return 1\nimport inspect; inspect.getsource(src)",
			want{text: "'def src(): return 1\\n'"}},
	} {
		c.want.check(t, c.code, s.run(t, c.code))
	}
}

// TestShell: cells may use IPython's additions, and child processes write into their cell.
func TestShell(t *testing.T) {
	s := start(t)
	for _, c := range []struct {
		code string
		want want
	}{
		{"!echo shell; echo problem >&2", want{stdout: "shell\n", stderr: "problem\n"}},
		{"x = !echo one two\nx[0].split()", want{text: "['one', 'two']"}},
		{"%%bash\necho from bash", want{stdout: "from bash\n"}},
		{"%cd /\n%pwd", want{stdout: "/\n", text: "'/'"}},
		{"%%writefile /tmp/w.txt\nhello", want{stdout: "Overwriting /tmp/w.txt\n"}},
		{"%nosuchmagic", want{outcome: agent.Failed, error: "UsageError"}},
		{"await __import__('asyncio').sleep(0, 'slept')", want{text: "'slept'"}},
		{"import asyncio\nasync def f():\n  await asyncio.sleep(0)\n  return 6\nt = " +
			"asyncio.ensure_future(f()) if False else await f()\nt", want{text: "6"}},
		{"asyncio.run(f())", want{text: "6"}},
		{"import sys, os, subprocess\nprint('a', end=''); os.write(1, b'b'); " +
			"subprocess.run(['echo', 'c']); sys.stdout.buffer.write(b'd'); print('e');", want{
			stdout: "abc\nde\n"}},
		{"import warnings\nwarnings.simplefilter('always')\nwarnings.showwarning = lambda m, *a: " +
			"print('warn', m, file=sys.stderr)\nwarnings.warn('careful')", want{
			stderr: "warn careful\n"}},
		{"os.open('/dev/stdout', os.O_WRONLY) > 2", want{text: "True"}},
		{"pid = os.fork()\nif pid == 0: print('child')\nelse: os.waitpid(pid, 0)\n'end'",
			want{stdout: "child\n", text: "'end'"}},
		{"def end(*a):\n  pid = os.fork()\n  if pid == 0: sys.exit(*a)\n  return " +
			"os.waitpid(pid, 0)[1] >> 8\nend(), end(4), end(True), end('reason')",
			want{stderr: "reason\n", text: "(0, 4, 1, 1)"}},
		{"pid = os.fork()\nif pid == 0: sys.stderr = open(os.devnull, 'w'); 1/0\n" +
			"os.waitpid(pid, 0)[1] >> 8", want{text: "1"}},
		{"%%capture seen\n!echo caught; echo too >&2; exit 3", want{}},
		{"seen.stdout, seen.stderr, _exit_code", want{text: "('caught\\n', 'too\\n', 3)"}},
		{"import io, contextlib\ndef caught():\n  mine = 5\n  with " +
			"contextlib.redirect_stdout(io.StringIO()) as into:\n    " +
			"get_ipython().system('echo {mine}; sleep 60 &')\n  return into.getvalue()\ncaught()",
			want{text: "'5\\n'"}},
		{"import ctypes; ctypes.CDLL(None).printf(b'from C\\n');", want{stdout: "from C\n"}},
	} {
		if strings.Contains(c.code, "w.txt") {
			s.run(t, "!touch /tmp/w.txt")
			defer os.Remove("/tmp/w.txt") // which is the machine's here
		}
		c.want.check(t, c.code, s.run(t, c.code))
	}
}

// TestErrors: whatever a cell raises is a result with a traceback, and the kernel goes on.
func TestErrors(t *testing.T) {
	s := start(t)
	s.run(t, "kept = 1")
	for _, c := range []struct{ code, name, message, traceback string }{
		{"def f():\n  1/0\nf()", "ZeroDivisionError", "division by zero", "in f()"},
		{"x = (", "SyntaxError", "", "SyntaxError"},
		{"raise KeyError('k')", "KeyError", "'k'", "KeyError: 'k'"},
		{"input('name? ')", "StdinNotImplementedError", "input() is not available",
			"Put the value into the code"},
		{"import getpass; getpass.getpass()", "StdinNotImplementedError",
			"input() is not available", ""},
		{"import sys; sys.exit(3)", "SystemExit", "3", "SystemExit: 3"},
		{"exit()", "SystemExit", "", ""},
		{"exit(3)", "SystemExit", "3", "SystemExit: 3"},
		{"quit(code=0)", "SystemExit", "0", ""},
		{"import builtins; builtins.exit('no file')", "SystemExit", "no file", ""},
		{"raise KeyboardInterrupt", "KeyboardInterrupt", "", "KeyboardInterrupt"},
		{"import os; os.write(999, b'')", "OSError", "Bad file descriptor", "os.write(999"},
		{"def r(): return r()\nr()", "RecursionError", "maximum recursion depth", "RecursionError"},
		{"bytearray(1 << 60)", "MemoryError", "", "MemoryError"},
		{"class E(Exception):\n  def __str__(self): 1/0\nraise E", "E", "", ""},
		{"await (lambda: None)()", "TypeError", "", ""},
		{"(" + strings.Repeat("(", 5000), "", "", ""},
		{"x = " + strings.Repeat("-", 100000) + "1", "", "", ""},
		{"raise BaseExceptionGroup('g', [KeyError(1)])", "ExceptionGroup", "", ""},
		{"'\\ud800'.encode()", "UnicodeEncodeError", "", ""},
		{"a\x00b", "", "", ""},
	} {
		res := s.run(t, c.code)
		head := c.code[:min(len(c.code), 60)]
		if res.Outcome != agent.Failed || res.Error == nil {
			t.Errorf("%s: outcome %s, want an error", head, res.Outcome)
			continue
		}
		if c.name != "" && res.Error.Name != c.name ||
			!strings.Contains(res.Error.Message, c.message) ||
			!strings.Contains(res.Error.Traceback, c.traceback) ||
			strings.Contains(res.Error.Traceback, "\x1b") ||
			strings.Contains(res.Error.Traceback, "sandpool") {
			t.Errorf("%s: error %+v", head, res.Error)
		}
		if got := s.run(t, "kept"); got.Text != "1" || got.KernelRestarted {
			t.Fatalf("after %s: state lost: %+v", head, got)
		}
	}
}

// TestSyntaxErrors: what is wrong with a cell is said once, and without our own part in finding it.
func TestSyntaxErrors(t *testing.T) {
	s := start(t)
	for code, last := range map[string]string{
		"x = (":           "SyntaxError: '(' was never closed",
		"for x in y\n  1": "SyntaxError: expected ':'",
		"return 1":        "SyntaxError: 'return' outside function",
		"exec('x = (')":   "SyntaxError: '(' was never closed (<string>, line 1)",
		"\tx\n y":         "IndentationError: unindent does not match any outer indentation level",
	} {
		res := s.run(t, code)
		if res.Error == nil || strings.Count(res.Error.Traceback, last) != 1 ||
			!strings.HasSuffix(strings.TrimSpace(res.Error.Traceback), last) ||
			last != res.Error.Name+": "+res.Error.Message ||
			strings.Contains(res.Error.Traceback, "sandpool") {
			t.Errorf("%q: error %+v, want one %q", code, res.Error, last)
		}
	}
}

// TestFigures: each open figure is shown once, closed, and does not return.
func TestFigures(t *testing.T) {
	s := start(t)
	count := func(res agent.ExecuteResult) (n int) {
		for _, d := range res.Displays {
			if strings.HasPrefix(d.Data["image/png"], "iVBOR") {
				n++
			}
		}
		return n
	}
	for _, c := range []struct {
		code string
		want int
	}{
		{"import matplotlib.pyplot as plt\nplt.plot([1, 2]);", 1},
		{"1", 0},
		{"for i in range(3):\n  plt.figure(); plt.plot([i])", 3},
		{"plt.plot([1]); plt.show(); plt.plot([2]);", 2},
		{"plt.plot([1]); plt.savefig('f.png')", 1},
		{"plt.plot([1]); raise ValueError", 1},
		{"%matplotlib inline\nplt.plot([1]);", 1},
		{"fig = plt.figure(); plt.close(fig)", 0},
		{"import matplotlib; matplotlib.use('Agg')\nplt.plot([1]);", 1},
		{"for i in range(3):\n  plt.plot([i]); plt.show()", 3},
		{"plt.plot([1]); plt.savefig('f.png'); plt.close()", 0},
		{"fig, ax = plt.subplots(); fig.show()", 1},
		{"plt.plot([1]); raise ValueError", 1},
		{"1", 0},
		{"plt.switch_backend('svg'); plt.plot([1]);", 1},
		{"matplotlib.use('pdf'); plt.plot([1]); plt.show()", 1},
		{"matplotlib.rcParams['backend'] = 'agg'; plt.plot([1]);", 1},
		{"plt.switch_backend('template'); plt.plot([1]);", 1},
		{"%matplotlib agg\nplt.plot([1]);", 1},
		{"%matplotlib inline\nplt.plot([1]);", 1},
		{"import os; os.environ['MPLBACKEND'] = 'agg'; plt.plot([1]);", 1},
		{"matplotlib.use('agg'); matplotlib.use('inline'); plt.plot([1]); plt.show(); " +
			"plt.plot([2]);", 2},
		{"from matplotlib.figure import Figure; f = Figure(); f.subplots().plot([1]); display(f)",
			1},
		// A kernel that replaces another imports matplotlib in a cell.
		{"os._exit(3)", 0},
		{"import matplotlib; matplotlib.use('agg'); import matplotlib.pyplot as plt\nfor i in " +
			"range(2):\n  plt.plot([i]); plt.show()", 2},
		// Pillow finds a program that shows pictures, in a window that nobody sees.
		{"import os; open('xdg-open', 'w').close(); os.chmod('xdg-open', 0o755)\n" +
			"os.environ['PATH'] += ':' + os.getcwd()\n" +
			"from PIL import Image; Image.new('RGB', (2, 2)).show()", 1},
	} {
		if res := s.run(t, c.code); count(res) != c.want {
			t.Errorf("%s: %d figures, want %d: %+v", c.code, count(res), c.want, res.Error)
		}
	}
	s.run(t, "matplotlib.use('inline')")
	res := s.run(t, "fig, ax = plt.subplots(); plt.close(fig); fig")
	if !strings.HasPrefix(res.Value["image/png"], "iVBOR") {
		t.Errorf("a figure as value has representations %v", len(res.Value))
	}
}

// TestDisplays: what is shown can be updated, also later, and cleared.
func TestDisplays(t *testing.T) {
	s := start(t)
	s.run(t, "from IPython.display import *; import sys")
	plain := func(res agent.ExecuteResult) string {
		var all []string
		for _, d := range res.Displays {
			all = append(all, d.Data["text/plain"])
		}
		return strings.Join(all, ",")
	}
	for _, c := range []struct{ code, displays, stdout, stderr string }{
		{"h = display({'text/plain': 'one'}, raw=True, display_id='d')\nh.update({'text/plain': " +
			"'two'}, raw=True)", "two", "", ""},
		{"h.update({'text/plain': 'three'}, raw=True)", "three", "", ""},
		{"update_display({'text/plain': 'four'}, raw=True, display_id='d'); " +
			"h.display({'text/plain': 'five'}, raw=True)", "four,five", "", ""},
		{"print('a'); display(1); clear_output(); print('b'); display(2)", "2", "b\n", ""},
		{"print('a'); print('e', file=sys.stderr); display(1); clear_output(wait=True)", "1", "a\n",
			"e\n"},
		{"print('a'); print('e', file=sys.stderr); display(1); clear_output(wait=True); " +
			"print('b')", "", "b\n", ""},
		{"for i in range(100): clear_output(wait=True); print('step', i); display(i)", "99",
			"step 99\n", ""},
		{"print('a'); clear_output(True); display(1); print('b', file=sys.stderr)", "1", "", "b\n"},
		{"print('a'); display(1); clear_output()", "", "", ""},
		{"import os; clear_output(True); os.system('echo child');", "", "child\n", ""},
		{"display({'text/plain': 'p', 5: 'x', 'a/b': object()}, raw=True)", "p", "", ""},
		{"import threading; t = threading.Timer(0.05, lambda: display('late')); t.start()", "", "",
			""},
		{"t.join(); 0", "'late'", "", ""},
	} {
		res := s.run(t, c.code)
		if got := plain(res); got != c.displays || res.Stdout != c.stdout ||
			res.Stderr != c.stderr {
			t.Errorf("%s: displays %q, %q, %q; want %q, %q, %q; error %+v", c.code, got, res.Stdout,
				res.Stderr, c.displays, c.stdout, c.stderr, res.Error)
		}
	}
}

// TestWhoseOutput: what a cell printed is in its result, whatever else it said and when.
func TestWhoseOutput(t *testing.T) {
	s := start(t)
	s.run(t, "import sys, os, time")
	for _, c := range []struct{ code, out, err string }{
		{"1", "", ""},
		{"print('a'); 1", "a\n", ""},
		{"print('b', file=sys.stderr); 1", "", "b\n"},
		{"display('c'); print('d'); 1", "d\n", ""},
		{"print('e'); display('f'); print('g', file=sys.stderr); 1", "e\n", "g\n"},
		{"os.system('echo h'); 1", "h\n", ""},
		{"time.sleep(0.005); print('i'); 1", "i\n", ""},
		{"print('j', flush=True); time.sleep(0.005); print('k'); 1", "j\nk\n", ""},
		{"print('l' * 200_000, end=''); 1", strings.Repeat("l", 200_000), ""},
	} {
		for range 10 {
			res, err := s.Execute(t.Context(), agent.ExecuteRequest{Code: c.code,
				Timeout: time.Minute, MaxOutput: 1 << 20})
			if err != nil {
				t.Fatal(err)
			}
			if res.Text != "1" || res.Stdout != c.out || res.Stderr != c.err {
				t.Errorf("%s: value %q, output %q, errors %q", c.code, res.Text, head(res.Stdout),
					head(res.Stderr))
			}
		}
	}
}

func head(s string) string { return s[:min(len(s), 100)] }

// TestBackground: processes that stay behind hold nothing up; what they print
// comes with the next cell.
func TestBackground(t *testing.T) {
	s := start(t)
	s.run(t, "import subprocess, threading, time\np = subprocess.Popen('sleep 1000', shell=True)")
	s.run(t, "threading.Thread(target=time.sleep, args=(1000,)).start()")
	if res := s.run(t, "p.poll() is None"); res.Text != "True" {
		t.Errorf("the background process is gone: %+v", res)
	}
	s.run(t, "subprocess.Popen('(until test -e go; do sleep 0.01; done; echo late; touch done)', "+
		"shell=True);")
	s.run(t, "open('go', 'w').close()\nimport os\nwhile not os.path.exists('done'): "+
		"time.sleep(0.01)")
	res := s.run(t, "q = subprocess.Popen('yes | head -c 3000000; touch flooded; exec yes', "+
		"shell=True)\nwhile not os.path.exists('flooded'): time.sleep(0.01)\n'over'")
	if res.Text != "'over'" || !res.StdoutTruncated || len(res.Stdout) > agent.DefaultMaxOutput+
		200 {
		t.Errorf("a flood in the background: text %q, %d bytes, cut %v", res.Text, len(res.Stdout),
			res.StdoutTruncated)
	}
	if res := s.run(t, "q.kill(); q.wait()"); res.Text != "-9" {
		t.Errorf("kill the flood: %+v", res.Error)
	}
}

// TestOrder: cells of a session run one after another in the order they came.
func TestOrder(t *testing.T) {
	s := start(t)
	s.run(t, "seen = []")
	const n = 8
	results := make(chan error, n)
	for i := range n {
		code := "import time; time.sleep(0.15); seen.append(" + string(rune('0'+i)) + ")"
		go func() {
			_, err := s.Execute(t.Context(), agent.ExecuteRequest{Code: code, Timeout: time.Minute})
			results <- err
		}()
		<-time.After(250 * time.Millisecond) // the order of arrival is what is tested
	}
	for range n {
		if err := <-results; err != nil {
			t.Fatal(err)
		}
	}
	if res := s.run(t, "seen"); res.Text != "[0, 1, 2, 3, 4, 5, 6, 7]" {
		t.Errorf("ran in the order %s", res.Text)
	}
}

func BenchmarkRoundTrip(b *testing.B) {
	s := start(b)
	for b.Loop() {
		if res := s.run(b, "1+1"); res.Text != "2" {
			b.Fatalf("result %+v", res)
		}
	}
}
