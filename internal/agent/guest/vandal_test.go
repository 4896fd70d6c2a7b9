package guest_test

import (
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool/internal/agent"
)

// TestReplacedStreams: what is printed to whatever stands for a stream comes with its cell; what
// cannot be printed to is replaced.
func TestReplacedStreams(t *testing.T) {
	s := start(t)
	s.run(t, "import io, sys, codecs, contextlib\nclass Broken:\n  def write(self, text): raise "+
		"OSError('no write')\n  def flush(self): raise OSError('no flush')")
	wrap := `sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8"); print("完成")`
	for _, c := range []struct {
		code string
		want want
	}{
		{wrap, want{stdout: "完成\n"}},
		{wrap, want{stdout: "完成\n"}},
		{"print('still')", want{stdout: "still\n"}},
		{"sys.stdout = sys.__stdout__; print('back')", want{stdout: "back\n"}},
		{"sys.stdout = io.TextIOWrapper(sys.stdout.detach(), 'utf-8', line_buffering=True); " +
			"print('detached')", want{stdout: "detached\n"}},
		{"sys.stdout.detach()\n0", want{text: "0"}},
		{"print(1)", want{stdout: "1\n"}},
		{"sys.stdout = codecs.getwriter('utf-8')(sys.stdout.buffer); print('ä')",
			want{stdout: "ä\n"}},
		{"sys.stdout = open(1, 'w', closefd=False); print('fd')", want{stdout: "fd\n"}},
		{"sys.stdout = None", want{}},
		{"print(2)", want{stdout: "2\n"}},
		{"sys.stdout.close()", want{}},
		{"print(3)", want{stdout: "3\n"}},
		{"sys.stdout = 'text'; sys.stderr = 5", want{}},
		{"print(4); print(5, file=sys.stderr)", want{stdout: "4\n", stderr: "5\n"}},
		{"del sys.stdout, sys.stderr", want{}},
		{"print(6); print(7, file=sys.stderr)", want{stdout: "6\n", stderr: "7\n"}},
		{"kept = contextlib.redirect_stdout(io.StringIO()); into = kept.__enter__(); print('in')",
			want{}},
		{"print('to'); kept.__exit__(None, None, None); into.getvalue()",
			want{text: "'in\\nto\\n'"}},
		{"sys.stderr = sys.stdout; print('one', file=sys.stderr)", want{stdout: "one\n"}},
		{"sys.stderr = sys.__stderr__; sys.stdout.reconfigure(encoding='latin-1'); " +
			"print('é'.encode('latin-1').decode('latin-1') == 'é')", want{stdout: "True\n"}},
		{"sys.stdout.reconfigure(encoding='utf-8', newline='\\r\\n'); print('crlf')",
			want{stdout: "crlf\r\n"}},
		{"sys.stdout = Broken()\nprint('x')", want{outcome: agent.Failed,
			stderr: "sys.stdout.flush() failed: OSError: no flush\n", error: "OSError"}},
		{"sys.stdout = sys.__stdout__; sys.stderr = Broken()\n1/0", want{outcome: agent.Failed,
			stderr: "sys.stderr.flush() failed: OSError: no flush\n", error: "ZeroDivisionError"}},
		{"sys.stderr = sys.__stderr__", want{}},
		{"import logging; logging.basicConfig(level='INFO', format='%(message)s'); " +
			"logging.info('log')", want{stderr: "log\n"}},
		{"logging.info('later')", want{stderr: "later\n"}},
	} {
		c.want.check(t, c.code, s.run(t, c.code))
	}
	res := s.runFor(t, time.Second, "class Hangs:\n  def write(self, text): pass\n  def "+
		"flush(self):\n    while True: pass\nsys.stdout = Hangs()")
	if res.Outcome != agent.TimeoutInterrupted {
		t.Errorf("a flush that hangs: %+v", res)
	}
	want{stdout: "8\n"}.check(t, "after it", s.run(t, "print(8)"))
}

// TestVandals: whatever code does to what the kernel uses, its own cell has an answer, the next one
// runs in the same kernel, and a third finds again what it wants to use.
func TestVandals(t *testing.T) {
	s := start(t)
	for _, c := range []struct{ code, mend string }{
		{"import json; json.dumps = json.loads = json.JSONEncoder = json.encoder = None", ""},
		{"import json; json.JSONEncoder.default = lambda *a: 1/0; json.JSONEncoder.encode = None",
			""},
		{"import builtins; saved = dict(vars(builtins))\nfor name in saved:\n  if name not in " +
			"('vars', 'setattr', '__build_class__'): vars(builtins)[name] = None",
			"__builtins__.__dict__.update(saved)"},
		{"import builtins; del builtins.len, builtins.isinstance, builtins.str, " +
			"builtins.Exception, builtins.repr", "__builtins__.__dict__.update(saved)"},
		{"import os, time, threading, signal, traceback, linecache, select\nos.write = os.read = " +
			"os._exit = time.perf_counter_ns = time.time = threading.current_thread = " +
			"signal.signal = signal.getsignal = traceback.format_tb = linecache.getlines = " +
			"select.select = None", ""},
		{"Out = 5; In = None; del _oh, _ih, _dh; __ = 3; ___ = 4", ""},
		{"del get_ipython, exit, quit; display = 3", ""},
		{"__builtins__ = {}", "del __builtins__"},
		{"__name__ = 5; __doc__ = 6; __spec__ = 7", "__name__ = '__main__'"},
		{"import sys; sys.setrecursionlimit(60)", "import sys; sys.setrecursionlimit(1000)"},
		{"import sys; sys.settrace(lambda *a: 1/0)", ""},
		{"import sys; sys.setprofile(lambda *a: None)", "import sys; sys.setprofile(None)"},
		{"import sys; sys.path.clear(); sys.meta_path.clear(); sys.path_hooks.clear()", ""},
		{"import sys; sys.displayhook = sys.excepthook = " +
			"sys.unraisablehook = sys.last_value = None", ""},
		{"import os; os.environ.clear(); os.chdir('/')", ""},
		{"import signal; signal.signal(signal.SIGALRM, lambda *a: 1/0); " +
			"signal.setitimer(signal.ITIMER_REAL, 0.05, 0.003)",
			"import signal; signal.setitimer(signal.ITIMER_REAL, 0)"},
		{"import signal; signal.signal(signal.SIGALRM, lambda *a: exit()); signal.alarm(1)", ""},
		{"import gc; gc.disable(); gc.set_threshold(1); import warnings; " +
			"warnings.simplefilter('error')", ""},
		{"import asyncio; asyncio.run = asyncio.get_event_loop = None; " +
			"asyncio.set_event_loop_policy(None)", ""},
		{"ip = get_ipython if 'get_ipython' in dir() else None\nimport IPython; sh = " +
			"IPython.get_ipython(); sh.events.register('post_run_cell', lambda r: 1/0); " +
			"sh.events.register('pre_execute', lambda: 1/0)",
			"sh.events.callbacks['post_run_cell'].clear(); sh.events.callbacks['pre_execute'].clear()"},
		{"sh.display_formatter = None; sh.user_ns = {}; sh.compile = None", ""},
		{"import sys; [sys.modules.pop(m) for m in list(sys.modules) if m not in ('__main__', " +
			"'sys', 'builtins')]", ""},
		{"import ast; ast.parse = ast.walk = ast.Expr = ast.Expression = None; " +
			"ast.iter_child_nodes = None", ""},
		{"import sys; sys.modules.clear()", ""},
	} {
		res := s.run(t, c.code)
		if res.KernelRestarted || res.Outcome != agent.OK && res.Outcome != agent.Failed {
			t.Errorf("%s: %+v, error %+v", c.code, res, res.Error)
		}
		<-time.After(60 * time.Millisecond) // what a timer does between two cells
		if res := s.run(t, "1+1"); res.KernelRestarted || res.Text != "2" &&
			!strings.Contains(c.code, "setitimer") {
			t.Errorf("after %s: %+v, error %+v", c.code, res, res.Error)
		}
		for range 3 { // a timer may hit it
			res = s.run(t, c.mend)
		}
		if res.Outcome != agent.OK || res.KernelRestarted {
			t.Errorf("mend %s: %+v, error %+v", c.code, res, res.Error)
		}
		if res := s.run(t, "print('out'); raise KeyError('k')"); res.Stdout != "out\n" ||
			res.Error == nil || res.Error.Name != "KeyError" ||
			!strings.HasSuffix(strings.TrimSpace(res.Error.Traceback), "KeyError: 'k'") {
			t.Errorf("after %s: %+v, error %+v", c.code, res, res.Error)
		}
	}
}
