package escape_test

import (
	"cmp"
	"strings"
	"testing"
	"time"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/client"
)

// bombs: code that takes all it can of one thing gets a clear answer, and its session goes on.
func (k *target) bombs(t *testing.T) {
	s := k.session(t, "box")
	for _, c := range []struct {
		name, code string
		timeout    time.Duration
		says       string // in stdout, stderr or the result
		lost       bool   // the variables are
	}{
		{"sleep for ever", "import time; time.sleep(1e6)", time.Second, "timed out", false},
		{"busy loop", "while True: pass", time.Second, "timed out", false},
		{"busy loop in C", "import itertools; any(itertools.repeat(0))", time.Second, "timed out",
			true},
		{"signals ignored", "import signal, time\nfor s in range(1, 32):\n  try: " +
			"signal.signal(s, signal.SIG_IGN)\n  except (OSError, ValueError): pass\n" +
			"time.sleep(1e6)", time.Second, "timed out", true},
		{"SIGSTOP", "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)\nimport time; " +
			"time.sleep(1e6)", time.Second, "timed out", false},
		{"_exit", "import os; os._exit(0)", 0, "Execution aborted", true},
		{"SIGKILL", "import os; os.kill(os.getpid(), 9)", 0, "Execution aborted", true},
		{"kill everything",
			"import os, subprocess\nsubprocess.Popen(['sleep', '1000'])\nos.kill(-1, 9)", 0, "",
			false},
		{"segfault", "import ctypes; ctypes.string_at(0)", 0, "Execution aborted", true},
		{"descriptors closed", "import os; os.closerange(0, 70000)", 0, "", true},
		{"deep recursion", "def f(): return f()\nf()", 0, "RecursionError", false},
		{"deep recursion in C", "import sys; sys.setrecursionlimit(10**9)\ndef f(x): return " +
			"f([x])\nclass A:\n  def __repr__(self): return repr(self)\nrepr(A())", 5 * time.Second,
			"RecursionError", false},
		{"descriptors", "import os\nfds = []\ntry:\n  while True: " +
			"fds.append(os.open('/dev/null', 0))\nexcept OSError as e: print(e)\nfor f in fds: " +
			"os.close(f)", 0, "Too many open files", false},
		{"threads", "import threading, time\ntry:\n  for i in range(5000): " +
			"threading.Thread(target=time.sleep, args=(1,), daemon=True).start()\nexcept " +
			"RuntimeError as e: print(e)\ntime.sleep(2)", 15 * time.Second,
			"can't start new thread", false},
		{"stdout", "import os\nfor i in range(100): os.write(1, b'x' * (1 << 20))\nprint('end')",
			15 * time.Second, "end", false},
		{"stderr of a child", "!yes | head -c 20000000 >&2; echo end", 15 * time.Second, "end",
			false},
		{"control characters", "import sys; sys.stdout.write('\\x00\\x1b\\r\\n' * 500000)", 0,
			"\x1b", false},
		{"giant result", "'x' * (64 << 20)", 0, "", false},
		{"deep result", "class D:\n  def __repr__(self): return '[' * 9000 + ']' * 9000\nD()", 0,
			"", false},
		{"giant number", "class D:\n  def __repr__(self): return '1e' + '9' * 100000\nD()", 0, "",
			false},
		{"displays", "from IPython.display import display, HTML\nfor i in range(300): " +
			"display(HTML('y' * 100000))", 15 * time.Second, "", false},
		{"a figure that is none", "from IPython.display import display\ndisplay({'image/png': " +
			"'!' * 1000, 'x/../y': '\\r\\n'}, raw=True)", 0, "", false},
		{"giant code", "x = '" + strings.Repeat("z", 8<<20) + "'", 0, "", false},
		{"giant exception", "raise Exception('e' * (32 << 20))", 0, "Exception", false},
		{"a name of an exception", "raise type('A\\r\\nB' * 10, (Exception,), {})('x')", 0, "",
			false},
		{"hostile repr", "class D:\n  def __repr__(self):\n    while True: pass\nD()", time.Second,
			"timed out", false},
		{"more than all memory, a list", "[0] * 10**10", 0, "MemoryError", false},
		{"more than all memory, bytes", "bytearray(10**11)", 0, "MemoryError", false},
		{"more than all memory, numpy", "import numpy\nnumpy.zeros(10**11)", 0, "MemoryError",
			false},
		{"more than all memory, mapped", "import mmap\nmmap.mmap(-1, 1 << 40)", 0,
			"Cannot allocate memory", false},
		{"room for more than all memory", "import mmap\nroom = mmap.mmap(-1, 1 << 40, " +
			"flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_NORESERVE)\nlen(room)", 0,
			"1099511627776", false},
		{"hostile formatter",
			"class D:\n  def _repr_mimebundle_(self, **k): raise SystemExit(3)\nD()", 0, "", false},
	} {
		s.prints(t, "kept = 1")
		got := s.runFor(t, cmp.Or(c.timeout, 10*time.Second), c.code)
		said := got.Result.Stdout + got.Result.Stderr + string(got.Result.ExecutionResult)
		if !strings.Contains(said, c.says) {
			t.Errorf("%s: %.300q does not say %q", c.name, said, c.says)
		}
		if most := 40 << 20; len(said) > most {
			t.Errorf("%s: an answer of %d bytes", c.name, len(said))
		}
		if next := s.prints(t, "print('kept' in globals())"); next != map[bool]string{
			true: "False\n", false: "True\n"}[c.lost] {
			t.Errorf("%s: lost is %v, and the next cell prints %q after %.300q", c.name, c.lost,
				next, got.Result.Stderr)
		}
	}
}

// memory: a sandbox over its limit ends, the answer says why, and the next request of the
// identifier gets a fresh session.
func (k *target) memory(t *testing.T) {
	s := k.session(t, "box")
	for name, code := range map[string]string{
		"heap": "x = []\nwhile True: x.append(b'x' * (16 << 20))",
		"child": "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'x = " +
			"[]\\nwhile True: x.append(b\"x\" * (16 << 20))'])",
		"/dev/shm": "import os\nfor i in range(100):\n  with open('/dev/shm/%d' % i, 'wb') as " +
			"f: f.write(b'x' * (16 << 20))",
		"socket": "import socket\nx = []\nwhile True:\n  a, b = socket.socketpair(); " +
			"a.setblocking(False); x.append((a, b))\n  a.setsockopt(socket.SOL_SOCKET, " +
			"socket.SO_SNDBUF, 1 << 22)\n  try:\n    while True: a.send(b'x' * 65536)\n  except " +
			"BlockingIOError: pass",
		"sparse": "import mmap\nx = mmap.mmap(-1, 8 << 30, flags=mmap.MAP_SHARED | " +
			"mmap.MAP_ANONYMOUS | mmap.MAP_NORESERVE)\nfor i in range(0, len(x), 4096): x[i] = 1",
		"gzip bomb": "import zlib\nz = zlib.compress(b'0' * (64 << 20))\nx = [zlib.decompress(z) " +
			"for i in range(100)]",
	} {
		got := s.runFor(t, 20*time.Second, code)
		if !got.Failed() {
			t.Errorf("%s: a success: %+v", name, got.Execution)
		}
		said := strings.ToLower(got.Result.Stderr)
		if !strings.Contains(said, "memory") && !strings.Contains(said, "space left") &&
			!strings.Contains(said, "too many open files") {
			t.Errorf("%s: %.300q does not say what ran out", name, got.Result.Stderr)
		}
		if after := s.prints(t, "print(6 * 7)"); after != "42\n" {
			t.Errorf("%s: the next request prints %q", name, after)
		}
		if err := k.DeleteSession(t.Context(), mine, s.id); err != nil {
			t.Errorf("%s: delete: %v", name, err)
		}
	}
}

// disk: a full disk, and too many files, are errors of the code that wrote them, and of uploads.
func (k *target) disk(t *testing.T) {
	s := k.session(t, "box")
	if got := s.run(t,
		"with open('/mnt/data/big', 'wb') as f:\n  while True: f.write(b'x' * (1 << 20))"); !strings.Contains(got.Result.Stderr, "No space left") {
		t.Errorf("a full disk: %.300q", got.Result.Stderr)
	}
	if _, err := k.UploadFile(t.Context(), mine, s.id, "more",
		strings.NewReader(strings.Repeat("x", 8<<20))); err == nil {
		t.Error("an upload to a full disk succeeded")
	}
	if got := s.prints(t, "import os; os.remove('/mnt/data/big'); open('/mnt/data/small', "+
		"'w').write('x'); print(os.listdir('/mnt/data'))"); got != "['small']\n" {
		t.Errorf("after the file is deleted: %q", got)
	}
	inodes := s.runFor(t, 5*time.Second, "i = 0\nwhile True:\n  os.symlink('x', '/mnt/data/l%d' "+
		"% i) if i % 2 else open('/mnt/data/f%d' % i, 'w').close()\n  i += 1")
	t.Logf("inodes: %.200q", inodes.Result.Stderr)
	if !inodes.Failed() {
		t.Error("endless files are a success")
	}
	if _, err := k.Files(t.Context(), mine, s.id, "", true); err != nil &&
		!strings.Contains(err.Error(), "entries") {
		t.Errorf("list of too many files: %v", err)
	}
	deep := k.session(t, "deep")
	deep.run(t, "import os\nos.chdir('/mnt/data')\ntry:\n  for i in range(3000): os.mkdir('d'); "+
		"os.chdir('d')\nexcept OSError as e: print(e)")
	if _, err := k.Files(t.Context(), mine, deep.id, "", true); err != nil {
		t.Errorf("list of a deep tree: %v", err)
	}
}

// fork: a fork bomb is bounded by the sandbox's limit of processes and ends with its session.
func (k *target) fork(t *testing.T) {
	s := k.session(t, "box")
	bomb := "import os\nwhile True:\n  try: os.fork()\n  except OSError: pass"
	got, err := k.Execute(t.Context(), mine, s.id, client.Run{Code: bomb, Timeout: 2 * time.Second})
	t.Logf("fork bomb: %.300q, %v", got.Result.Stderr, err)
	if err == nil && !got.Failed() {
		t.Error("a fork bomb is a success")
	}
	// It may have met the limit of memory first, which ends the session.
	if err := k.DeleteSession(t.Context(), mine, s.id); err != nil &&
		sandpool.ClassOf(err) != sandpool.NotFound {
		t.Errorf("delete: %v", err)
	}
}

// kernel: code that speaks to the agent in the kernel's place can spoil its own
// session's answers and nothing else.
func (k *target) kernel(t *testing.T) {
	s := k.session(t, "box")
	for _, c := range []string{
		"import os\nfor fd in range(3, 50):\n  try: os.write(fd, b'\\xff' * 1000)\n  except " +
			"OSError: pass",
		"import os\nfor fd in range(3, 50):\n  try: os.write(fd, b'\\x00\\x0f\\xff\\xff' + b'[' " +
			"* 0xfffff)\n  except OSError: pass",
		"import os\nfor fd in range(3, 50):\n  try: os.dup2(1, fd)\n  except OSError: pass",
		"import sys, os\nsys.stdout.close(); sys.stderr.close(); os.close(1); os.close(2)",
		"import builtins\nfor n in 'repr', 'print', 'len', 'isinstance', 'open', 'str', " +
			"'compile', 'exec': setattr(builtins, n, None)",
		"import json, sys, threading\njson.dumps = json.loads = None\nsys.modules.clear()",
		"import gc\nfor o in gc.get_objects():\n  if isinstance(o, dict): \n    try: o.clear()\n " +
			"   except Exception: pass",
	} {
		got, err := k.Execute(t.Context(), mine, s.id,
			client.Run{Code: c, Timeout: 3 * time.Second})
		if err != nil {
			t.Errorf("%.60q: %v", c, err)
		}
		t.Logf("%.60q: %s %.100q", c, got.Status, got.Result.Stderr)
		// Some spoil the kernel without ending it. Its session is deleted as a caller would.
		if err := k.DeleteSession(t.Context(), mine, s.id); err != nil {
			t.Errorf("%.60q: delete: %v", c, err)
		}
	}
}
