"""Runs Python cells for the agent.

It starts as the unprivileged user, with its control socket and its output
pipes, and runs cells one after another in its main thread.

A frame, in both directions, is a 4 byte big-endian length and a JSON object.
  in  {op: warm, id}, {op: init, id, seed}, {op: run, id, code}
  out {op: display, id, ...} while a cell runs, {op: done, id, ...}

Output needs no marker: everything that a cell wrote is in the pipes before
its done frame is sent, because both streams are unbuffered.
"""

import ast
import asyncio
import base64
import builtins
import ctypes
import errno
import fcntl
import gc
import importlib
import io
import json
import linecache
import os
import platform
import random
import resource
import select
import signal
import site
import struct
import sys
import threading
import time
import traceback

from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.error import StdinNotImplementedError, UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.lib.pretty import _repr_pprint
from traitlets import Type
from traitlets.config import Config

MAX_TEXT = 1 << 20  # characters of a value's text and of a traceback
MAX_MIME = 8 << 20  # characters of one representation of a display
MAX_PROCESSES = 128  # processes and threads of the user; a fork of a kernel takes 30 MB under gVisor
MAX_OUTPUTS = 200  # cells whose values Out keeps
CONTROL_FD = 700  # beyond what a cell closes by habit
PARSE = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
FUTURES = 0
for _feature in __import__("__future__").all_feature_names:
    FUTURES |= getattr(__import__("__future__"), _feature).compiler_flag
COROUTINE = 0x80  # inspect.CO_COROUTINE
PLAIN = frozenset((int, float, bool, str, bytes))
libc = ctypes.CDLL(None)


# What is imported and run before a snapshot, so that no session waits for it.
WARM_MODULES = ("numpy", "pandas", "matplotlib.pyplot", "matplotlib_inline.backend_inline", "subprocess", "tempfile", "uuid")
WARM_CELLS = (
    "1+1", "print(end='')", "1/0", "%who_ls", "!true", "import asyncio; await asyncio.sleep(0)", "[1, {'a': (2, 'b')}]",
    "x = (", "import numpy; numpy.arange(3)", "import pandas; pandas.DataFrame({'a': [1, 2]})",
    "import matplotlib.pyplot as plt; plt.plot([1, 2])")


class Pipe(io.FileIO):
    """An unbuffered output stream that writes all or fails.

    It survives a child that made the shared pipe non-blocking, and a cell
    that closed descriptor 1 or 2.
    """

    def __init__(self, fd):
        super().__init__(fd, "wb", closefd=False)
        self.spare = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, CONTROL_FD + 1)

    def write(self, data):
        view = memoryview(data).cast("B")
        total = len(view)
        fd = self.fileno()
        while view:
            try:
                view = view[os.write(fd, view):]
            except BlockingIOError:
                select.select([], [fd], [])
            except OSError as e:
                if e.errno != errno.EBADF:
                    raise
                os.dup2(self.spare, fd)
        return total


def stream(fd):
    return io.TextIOWrapper(Pipe(fd), "utf-8", "backslashreplace", write_through=True)


def no_input(*args, **kwargs):
    raise StdinNotImplementedError(
        "input() is not available: nobody can type into this session. Put the value into the code or into a file.")


def send(fd, message, fds=()):
    body = json.dumps(message).encode()
    data = memoryview(struct.pack(">I", len(body)) + body)
    while data:
        data = data[os.write(fd, data):]


class Reader:
    """Reads frames from a control socket, usually with one system call each."""

    def __init__(self, fd):
        self.fd = fd
        self.rest = b""

    def next(self):
        data = bytearray(self.rest)  # bytes would be copied at each of the many reads of a large frame
        while len(data) < 4 or len(data) < 4 + int.from_bytes(data[:4], "big"):
            more = os.read(self.fd, 1 << 20)
            if not more:
                raise EOFError
            data += more
        end = 4 + int.from_bytes(data[:4], "big")
        self.rest = data[end:]
        return json.loads(data[4:end])


def clip(text):
    """Bounds a text; one that is cut says so at its end, as cut output does."""
    if len(text) <= MAX_TEXT:
        return text
    kept = MAX_TEXT - 64
    return f"{text[:kept]}\n[... {len(text) - kept} characters left out ...]"


def encode(bundle):
    """Makes every representation a string of bounded size; drops what cannot be."""
    out = {}
    for mime, value in bundle.items():
        try:
            if isinstance(value, (bytes, bytearray)):
                value = base64.b64encode(value).decode()
            elif not isinstance(value, str):
                value = json.dumps(value)
        except (TypeError, ValueError, RecursionError):
            continue
        if mime == "text/plain":
            out[mime] = clip(value)
        elif len(value) <= MAX_MIME:
            out[str(mime)] = value
    return out


class Publisher(DisplayPublisher):
    """Sends what display() shows to the agent."""

    def publish(self, data, metadata=None, source=None, *, transient=None, update=False, **kwargs):
        self.shell.kernel.display(data, (transient or {}).get("display_id"), update)

    def clear_output(self, wait=False):
        pass


class Shell(InteractiveShell):
    """IPython without a terminal."""

    display_pub_class = Type(Publisher)
    kernel = None
    system = InteractiveShell.system_raw

    def enable_gui(self, gui=None):
        pass

    def ask_exit(self):
        raise SystemExit

    def _showtraceback(self, etype, evalue, stb):
        print(self.InteractiveTB.stb2text(stb), file=sys.stderr)

    def init_history(self):
        super().init_history()
        self.history_manager.enabled = False


class Kernel:
    """Runs cells and answers on the control socket."""

    def __init__(self, shell):
        self.shell = shell
        shell.kernel = self
        self.fd = -1
        self.id = ""
        self.running = False  # a SIGINT counts
        self.sending = False  # a SIGINT has to wait
        self.interrupted = False
        self.forked = False
        self.lock = threading.Lock()
        self.futures = 0
        self.loop = None
        self.last = ""  # the value that we called _

    # Signals.

    def on_interrupt(self, signum, frame):
        if self.sending:
            self.interrupted = True
        elif self.running:
            raise KeyboardInterrupt

    def send(self, message):
        """Sends one frame whole: a SIGINT in its middle is kept for later."""
        main = threading.current_thread() is threading.main_thread()
        if main:
            self.sending = True
        try:
            with self.lock:
                if self.fd >= 0:
                    send(self.fd, message)
        finally:
            if main:
                self.sending = False
                late, self.interrupted = self.interrupted, False
                if late and self.running:
                    raise KeyboardInterrupt

    def display(self, data, display_id=None, update=False):
        bundle = encode(data)
        if bundle:
            self.send({"op": "display", "id": self.id, "data": bundle,
                       "display": str(display_id or ""), "update": bool(update)})

    # Cells.

    def parse(self, code):
        """Returns the syntax tree, the name for tracebacks, and the plain source.

        What parses as Python needs none of IPython's transformations, which
        cost more than most cells.
        """
        shell = self.shell
        try:
            if code.startswith("In ["):
                raise SyntaxError
            tree = compile(code, "<cell>", "exec", PARSE | self.futures, dont_inherit=True)
            source = code
        except (SyntaxError, ValueError):
            tree = None
        if tree is None:  # not above: of what is wrong with the cell, this error alone is shown
            source = shell.transform_cell(code)
        name = shell.compile.cache(source, shell.execution_count, raw_code=code)
        if tree is None:
            tree = compile(source, name, "exec", PARSE | self.futures, dont_inherit=True)
        history = shell.history_manager
        history.input_hist_parsed.append(source)
        history.input_hist_raw.append(code)
        if shell.ast_transformers:
            tree = shell.transform_ast(tree)
        return tree, name, source

    def evaluate(self, tree, name, mode):
        code = compile(tree, name, mode, ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | self.futures, dont_inherit=True)
        self.futures |= code.co_flags & FUTURES
        value = eval(code, self.shell.user_global_ns, self.shell.user_ns)
        if code.co_flags & COROUTINE:
            value = self.wait(value)
        return value

    def wait(self, coroutine):
        """Runs a coroutine in the event loop that all cells share."""
        if self.loop is None or self.loop.is_closed():
            self.loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self.loop)
        task = self.loop.create_task(coroutine)
        try:
            return self.loop.run_until_complete(task)
        except KeyboardInterrupt:
            task.cancel()
            where = self.loop.run_until_complete(asyncio.gather(task, return_exceptions=True))[0]
            raise KeyboardInterrupt().with_traceback(getattr(where, "__traceback__", None)) from None

    def cell(self, code):
        """Runs one cell; returns its value's representations, or None."""
        shell = self.shell
        events = shell.events
        events.trigger("pre_execute")
        events.trigger("pre_run_cell", None)
        try:
            tree, self.name, source = self.parse(code)
            body = tree.body
            last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
            if body:
                self.evaluate(tree, self.name, "exec")
            if last is None:
                return None
            value = self.evaluate(ast.Expression(last.value), self.name, "eval")
            if value is None or (";" in source and DisplayHook.semicolon_at_end_of_expression(source)):
                return None
            return self.represent(value)
        finally:
            events.trigger("post_execute")
            events.trigger("post_run_cell", None)

    def represent(self, value):
        self.remember(value)
        formatter = self.shell.display_formatter
        if type(value) in PLAIN:  # no other representations
            plain = formatter.formatters["text/plain"]
            default = plain.type_printers.get(type(value)) is _repr_pprint
            return encode({"text/plain": repr(value) if default else plain(value)})
        return encode(formatter.format(value)[0]) or None

    def remember(self, value):
        """Keeps a value as _ and in Out, which forgets those of long ago."""
        ns = self.shell.user_ns
        outputs = ns["_oh"]
        if value is outputs:
            return
        if ns.get("_") is self.last:  # else the cells use the name for their own
            ns["___"], ns["__"], ns["_"] = ns.get("__"), self.last, value
            self.last = value
        outputs[self.shell.execution_count] = value
        outputs.pop(self.shell.execution_count - MAX_OUTPUTS, None)

    def execute(self, request):
        self.id = request["id"]
        reply = {"op": "done", "id": self.id}
        self.name = None
        self.interrupted = False
        if signal.getsignal(signal.SIGINT) is not self.handler:
            signal.signal(signal.SIGINT, self.handler)
        for name, fd in (("stdout", 1), ("stderr", 2)):
            if getattr(getattr(sys, name), "closed", False):
                setattr(sys, name, stream(fd))
        start = time.perf_counter_ns()
        try:
            try:
                self.running = True
                reply["value"] = self.cell(request["code"])
                self.running = False
            except BaseException as e:
                self.running = False
                reply["error"] = self.describe(e)
        except KeyboardInterrupt as e:
            self.running = False
            reply["error"] = self.describe(e)
        libc.fflush(None)
        reply["ns"] = time.perf_counter_ns() - start
        self.shell.execution_count += 1
        if self.forked:
            self.leave(reply)
        return reply

    def leave(self, reply):
        """Ends a child that a cell forked and that came to the end of the cell."""
        error = reply.get("error")
        if error and error["name"] != "SystemExit":
            print(error["traceback"], file=sys.stderr)
        os._exit(1 if error else 0)

    def describe(self, e):
        """Describes an exception. Nothing that it holds may stop that."""
        name = type(e).__name__
        try:
            message = clip(str(e.msg) if isinstance(e, SyntaxError) and self.within(e) is None else str(e))
        except BaseException:
            message = "(the message cannot be shown)"
        try:
            text = self.render(e, name, message)
        except BaseException:
            text = "".join(traceback.format_tb(e.__traceback__, 20)) + f"{name}: {message}"
        if len(text) > MAX_TEXT:
            text = text[:MAX_TEXT // 2] + "\n[... cut ...]\n" + text[-MAX_TEXT // 2:]
        return {"name": name, "message": message, "traceback": text}

    def render(self, e, name, message):
        if isinstance(e, (SystemExit, UsageError)):
            return f"{name}: {message}"
        tb = self.within(e)
        shell = self.shell
        if tb is None:
            if isinstance(e, SyntaxError):
                return shell.SyntaxTB.stb2text(shell.SyntaxTB.structured_traceback(type(e), e, []))
            return f"{name}: {message}"
        self.hide_handler(tb)
        e = e.with_traceback(tb)
        sys.last_type, sys.last_value, sys.last_traceback = type(e), e, e.__traceback__
        if hasattr(e, "_render_traceback_"):
            return "\n".join(e._render_traceback_())
        stb = shell.InteractiveTB.structured_traceback(type(e), e, e.__traceback__, tb_offset=0)
        return shell.InteractiveTB.stb2text(stb)

    def within(self, e):
        """Returns the traceback from the cell on, or None of what did not come from within it."""
        tb = e.__traceback__
        while tb is not None and tb.tb_frame.f_code.co_filename != self.name:
            tb = tb.tb_next
        return tb

    def hide_handler(self, tb):
        """Cuts our signal handler off the end of a traceback."""
        while tb is not None:
            if tb.tb_next is not None and tb.tb_next.tb_frame.f_code is Kernel.on_interrupt.__code__:
                tb.tb_next = None
            tb = tb.tb_next

    # Life.

    def seed(self, request):
        """Makes this clone of a snapshot different from its siblings."""
        data = bytes.fromhex(request["seed"])
        random.seed(data)
        modules = sys.modules
        if "numpy" in modules:
            modules["numpy"].random.seed([int.from_bytes(data[i:i + 4], "big") for i in range(0, len(data), 4)])
        if "ssl" in modules:
            modules["ssl"].RAND_add(data, float(len(data)))
        if "tempfile" in modules:
            modules["tempfile"]._name_sequence = None
        if "uuid" in modules:
            modules["uuid"]._last_timestamp = None
            modules["uuid"]._node = None
        if "logging" in modules:
            modules["logging"]._startTime = time.time()
        self.forget()

    def forget(self):
        """Leaves no trace of the cells so far but what they defined."""
        shell = self.shell
        shell.execution_count = 1
        shell.history_manager.input_hist_parsed[:] = [""]
        shell.history_manager.input_hist_raw[:] = [""]
        shell.user_ns["_oh"].clear()
        shell.user_ns.update(_="", __="", ___="")
        self.last = ""
        for name in ("last_exc", "last_type", "last_value", "last_traceback"):
            vars(sys).pop(name, None)
        vars(shell.InteractiveTB).pop("tb", None)  # what %debug opens
        shell.SyntaxTB.last_syntax_error = None
        names = getattr(shell.compile, "_filename_map", {})
        for name in names:
            linecache.cache.pop(name, None)
        names.clear()

    def warm(self):
        """Imports and runs what first cells use, so that they need not wait for it."""
        for name in WARM_MODULES:
            try:
                importlib.import_module(name)
            except Exception:  # an image need not have all of them
                pass
        fd, self.fd = self.fd, -1
        for code in WARM_CELLS:
            self.execute({"id": "", "code": code})
        if self.loop is not None:
            self.loop.close()
            self.loop = None
            asyncio.set_event_loop(None)
        self.shell.reset(new_session=True)
        self.seed({"seed": "00" * 32})  # what libraries set up for it once is then in the snapshot
        self.fd = fd
        gc.collect()
        gc.freeze()
        libc.malloc_trim(0)

    def serve(self, fd):
        self.fd = fd
        self.handler = self.on_interrupt
        signal.signal(signal.SIGINT, self.handler)
        os.register_at_fork(after_in_child=self.child)
        reader = Reader(fd)
        while True:
            request = reader.next()
            op = request["op"]
            if op == "run":
                self.send(self.execute(request))
            elif op == "init":
                self.seed(request)
                self.send({"op": "done", "id": request["id"]})
            elif op == "warm":
                info = describe_runtime()
                self.warm()
                self.send({"op": "done", "id": request["id"], "info": info})

    def child(self):
        """In a process that a cell forked: it is no kernel and must not answer as one."""
        self.forked = True
        self.lock = threading.Lock()
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)
