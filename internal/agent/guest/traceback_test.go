package guest_test

import (
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool/internal/agent"
)

// TestBoundedErrors: what is told of an exception takes little time and space, whatever it is.
func TestBoundedErrors(t *testing.T) {
	s := start(t)
	s.run(t, "import sys\ndef r(n): return r(n+1)\ndef a(n): return b(n)\ndef b(n): return a(n)\n"+
		"kept = 1")
	for _, c := range []struct{ code, name, traceback string }{
		{"sys.setrecursionlimit(30_000)\nr(0)", "RecursionError", "frames left out"},
		{"sys.setrecursionlimit(100_000)\nr(0)", "RecursionError", "frames left out"},
		{"sys.setrecursionlimit(50_000)\na(0)", "RecursionError", "frames left out"},
		{"sys.setrecursionlimit(1_000)\nr(0)", "RecursionError", "frames left out"},
		{"e = ValueError(0)\nfor i in range(100_000):\n  f = ValueError(i); f.__cause__ = e; e = " +
			"f\nraise e", "ValueError", "ValueError: 99999"},
		{"def chain(n):\n  try: chain(n-1) if n else 1/0\n  except Exception: raise " +
			"ValueError(n)\nchain(300)", "ValueError", "ValueError: 300"},
		{"e = ValueError('loop'); e.__context__ = KeyError('k'); e.__context__.__context__ = e\n" +
			"raise e", "ValueError", "ValueError: loop"},
		{"raise ExceptionGroup('many', [ExceptionGroup('inner', [KeyError('k')])] + " +
			"[ValueError(i) for i in range(10_000)])", "ExceptionGroup", "1. ExceptionGroup: " +
			"inner (1 sub-exception)\n    1. KeyError: 'k'\n  2. ValueError: 0"},
		{"e = ValueError('notes')\nfor i in range(200_000): e.add_note('note %d' % i)\nraise e",
			"ValueError", "ValueError: notes"},
		{"int('x' * 50_000_000)", "ValueError", "invalid literal"},
		{"exec('\\n' * 1_000_000 + 'x = ' + '1 + ' * 100_000 + 'y')", "", ""},
		{"exec(compile('x = [' + '1, ' * 2_000_000 + '1/0]', 'big.py', 'exec'))",
			"ZeroDivisionError", "big.py"},
		{"class E(Exception):\n  def __str__(self): return 's' * 20_000_000\nraise E", "E",
			"E: sss"},
		{"class E(Exception):\n  def __str__(self): sys.exit()\nraise E", "E", "raise E"},
		{"class E(Exception):\n  def __str__(self): print('said'); return 'text'\nraise E", "E",
			"E: text"},
		{"class M(type):\n  __name__ = property(lambda c: 1/0)\nclass E(Exception, metaclass=M): " +
			"pass\nraise E('m')", "", "m"},
		{"class E(Exception):\n  def _render_traceback_(self): return ['x' * 50_000_000]\nraise E",
			"E", "x"},
		{"class E(Exception):\n  def _render_traceback_(self): 1/0\nraise E", "E", "raise E"},
		{"class E(Exception):\n  def __getattribute__(self, n):\n    while True: pass\nraise " +
			"E('m')", "E", "in <module>\n    raise E('m')\nE: m"},
		{"class G(ExceptionGroup):\n  @property\n  def exceptions(self):\n    while True: pass\n" +
			"raise G('g', [KeyError('k')])", "G", "1. KeyError: 'k'"},
		{"exec(compile('1/0', '/dev/zero', 'exec'))", "ZeroDivisionError",
			"File \"/dev/zero\", line 1"},
		{"raise SyntaxError('s', ('/dev/zero', 1, 1, 't'))", "SyntaxError", "s (zero, line 1)"},
		{"import os; os.mkfifo('pipe'); exec(compile('1/0', 'pipe', 'exec'))",
			"ZeroDivisionError", "File \"pipe\", line 1"},
		{"class E(SyntaxError): pass\nraise E('s', ('f.py', 10**9, 10**9, 't' * 10_000_000))", "E",
			""},
	} {
		res := s.run(t, c.code)
		if res.Error == nil || c.name != "" && res.Error.Name != c.name ||
			!strings.Contains(res.Error.Traceback, c.traceback) ||
			len(res.Error.Traceback)+len(res.Error.Message) > 3<<20 ||
			strings.Contains(res.Error.Traceback, "sandpool/") {
			e := agent.ExecutionError{}
			if res.Error != nil {
				e = *res.Error
			}
			t.Errorf("%s: %s, %q, %d bytes of traceback: %q … %q", c.code, e.Name, head(e.Message),
				len(e.Traceback), head(e.Traceback), e.Traceback[max(0, len(e.Traceback)-200):])
		}
		if res := s.run(t, "sys.setrecursionlimit(1000); kept"); res.Text != "1" ||
			res.KernelRestarted {
			t.Fatalf("after %s: %+v, error %+v", c.code, res, res.Error)
		}
	}
}

// TestInterruptedErrors: what comes after the code of a cell, such as to describe its exception or
// its value, can be interrupted as the code can, and the state is kept.
func TestInterruptedErrors(t *testing.T) {
	s := start(t)
	s.run(t, "import time; kept = 1")
	for _, c := range []struct{ code, name string }{
		{"class E(Exception):\n  def __str__(self):\n    while True: pass\nraise E", "E"},
		{"class E(Exception):\n  def __str__(self): time.sleep(600)\nraise E", "E"},
		{"class E(Exception):\n  def _render_traceback_(self):\n    while True: pass\nraise E",
			"E"},
		{"class V:\n  def __repr__(self):\n    while True: pass\nV()", "KeyboardInterrupt"},
		{"class V:\n  def _repr_html_(self): time.sleep(600)\nV()", "KeyboardInterrupt"},
		{"get_ipython().events.register('post_execute', lambda: time.sleep(600))",
			"KeyboardInterrupt"},
	} {
		res := s.runFor(t, 500*time.Millisecond, c.code)
		if res.Outcome != agent.TimeoutInterrupted || res.Error == nil || res.Error.Name != c.name {
			t.Errorf("%s: %s, error %+v", c.code, res.Outcome, res.Error)
		}
		s.run(t, "get_ipython().events.callbacks['post_execute'].clear()")
		if res := s.run(t, "kept"); res.Text != "1" || res.KernelRestarted {
			t.Errorf("after %s: %+v, error %+v", c.code, res, res.Error)
		}
	}
}

// TestOneLine: an error that says all in its message has no traceback around it.
func TestOneLine(t *testing.T) {
	s := start(t)
	s.run(t, "import matplotlib, matplotlib.pyplot")
	for code, want := range map[string]string{
		"breakpoint()":                         "breakpoint() is not available",
		"help()":                               "help() without an argument is not available",
		"input('? ')":                          "input() is not available",
		"def f():\n  breakpoint()\nf()":        "breakpoint() is not available",
		"import getpass; getpass.getpass()":    "input() is not available",
		"import pdb; pdb.set_trace()":          "input() is not available",
		"matplotlib.use('TkAgg', force=True)":  "'TkAgg' of matplotlib cannot be used",
		"matplotlib.use('WebAgg', force=True)": "'WebAgg' of matplotlib cannot be used",
		"%matplotlib webagg":                   "'webagg' of matplotlib cannot be used",
		"%matplotlib widget":                   "'widget' of matplotlib cannot be used",
		"matplotlib.use('ipympl', force=True)": "'ipympl' of matplotlib cannot be used",
		"matplotlib.use('QtAgg')":              "'QtAgg' of matplotlib cannot be used",
		"%matplotlib tk":                       "of matplotlib cannot be used",
		"import sys; sys.exit('the reason')":   "the reason",
		"import matplotlib.pyplot as plt; plt.switch_backend('gtk4agg')": "'gtk4agg' of matplotlib cannot be used",
	} {
		res := s.run(t, code)
		if res.Error == nil || !strings.Contains(res.Error.Traceback, want) ||
			strings.Contains(strings.TrimSpace(res.Error.Traceback), "\n") {
			t.Errorf("%s: error %+v", code, res.Error)
		}
	}
}

// TestLimitsAreNamed: an error that comes from a limit of the session names it.
func TestLimitsAreNamed(t *testing.T) {
	s := start(t)
	for code, want := range map[string]string{
		"kept = []\nwhile True: kept.append(open('/dev/null'))": "4096 files and sockets open",
		"import socket\nkept = [1]\nwhile True: kept.append(socket.socket())": "4096 files and " +
			"sockets open",
		"import errno; raise OSError(errno.ENOSPC, 'no room')": "Files of this session may take",
		"bytearray(1 << 60)":                                       "MiB of memory",
		"import numpy; numpy.zeros(1 << 50)":                       "MiB of memory",
		"import mmap; mmap.mmap(-1, 1 << 60)":                      "MiB of memory",
		"fork = lambda: 1\nfork(); raise BlockingIOError(11, 'x')": "processes and threads at a time",
		"raise RuntimeError(\"can't start new thread\")":           "processes and threads at a time",
	} {
		res := s.run(t, code)
		if res.Error == nil || !strings.Contains(res.Error.Message, want) ||
			!strings.Contains(res.Error.Traceback, want) {
			t.Errorf("%s: error %+v, want %q", code, res.Error, want)
		}
		s.run(t, "kept = None")
	}
}
