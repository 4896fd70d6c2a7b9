"""Runs cells for the agent, one after another, in the main thread.

  in  {op: warm, id}, {op: init, id, seed, env}, {op: run, id, code, live}, {op: ack}
  out {op: display, id, ...}, {op: clear, id, ...}, {op: sync, id} while a cell
      runs, {op: done, id, ...}

Output needs no marker: everything that a cell printed is in the pipes before
its done frame is sent. A clear frame is acknowledged, and while somebody
watches a cell (live) each of the frames before done, so that what is printed
after it comes after it.

What a cell left behind decides what happens next: streams, handlers and hooks
of its own, builtins that do not work, a timer whose handler raises. So whatever
comes after the code of a cell is one of the steps of execute(), any of which
may fail or be interrupted, and serve() survives what escapes them.
"""

import __future__
import sys
from _signal import SIGINT
from _signal import getsignal as handler_of
from _signal import signal as set_handler
from _thread import RLock, get_ident
from ast import Expr, Expression, PyCF_ALLOW_TOP_LEVEL_AWAIT, PyCF_ONLY_AST
from os import _exit, close, register_at_fork
from sys import getrecursionlimit, gettrace, settrace
from time import perf_counter_ns as clock

from IPython.core.displayhook import DisplayHook

import figures
import network
from around import Around
from errors import brief, describe, is_a, traceback_of
from loop import ASKS, Loop, asks
from order import flush_c, part
from streams import Stream
from values import encode, represent
from wire import Reader, Writer

MAX_OUTPUTS = 200  # cells whose values Out keeps
MAX_LATE = 32  # displays between two cells that the next one brings
PARSE = PyCF_ONLY_AST | PyCF_ALLOW_TOP_LEVEL_AWAIT
FUTURES = 0  # the flags of all features of __future__
for _name in __future__.all_feature_names:
    FUTURES |= getattr(__future__, _name).compiler_flag
_code = SystemExit.__dict__["code"]
COROUTINE = 0x80  # inspect.CO_COROUTINE


class Kernel:
    """Runs cells and answers on the control socket."""

    def __init__(self, shell, outputs, control):
        self.shell = shell
        shell.kernel = self
        self.outputs = outputs
        self.fd = control
        self.reader = Reader(control)
        self.writer = Writer(control)
        self.out, self.err = map(Stream, outputs.ports)
        self.main = get_ident()
        self.loop = Loop()
        self.inside = self.loop.context.run  # calls a function as part of a cell
        self.id = ""
        self.name = None  # of the cell that runs, as a file
        self.running = False  # a SIGINT counts
        self.sending = 0  # the thread that sends a frame
        self.interrupted = False  # a SIGINT came meanwhile
        self.backlog = []  # frames of signal handlers that came meanwhile
        self.late = []  # displays of no cell
        self.active = False  # a cell runs, of which frames count
        self.live = False
        self.printed = None  # the port that was printed to last, while live
        self.forked = False
        self.commands = False  # the cell ran one
        self.lock = RLock()
        self.trace = None
        self.futures = 0
        self.count = 1  # the number of the cell, as In and Out have it
        # What a look at the shell finds, which takes working builtins.
        self.ns, self.global_ns = shell.user_ns, shell.user_global_ns
        self.callbacks = shell.events.callbacks
        self.history = shell.history_manager.input_hist_parsed, shell.history_manager.input_hist_raw
        self.transformers = shell.ast_transformers
        self.formatter = shell.display_formatter
        self.values = self.ns["_oh"]
        self.last = ""  # the value that we called _
        self.handler = self.on_interrupt
        set_handler(SIGINT, self.handler)
        register_at_fork(after_in_child=self.child)

    # Signals and frames.

    def on_interrupt(self, signum, frame):
        if self.sending == self.main:
            self.interrupted = True
        elif self.running:
            raise KeyboardInterrupt

    def send(self, message, last=False):
        """Sends one frame whole: a SIGINT in its middle is kept for later."""
        me = get_ident()
        if self.sending == me:  # in a signal handler, between two parts of a frame
            self.backlog.append(message)
            return
        with self.lock:
            self.sending = me
            try:
                while True:
                    if self.fd >= 0:
                        self.writer.send(message)
                        if not last and (self.live or message["op"] == "clear"):
                            self.reader.next()  # that it was taken
                    if not self.backlog:
                        break
                    message = self.backlog.pop(0)
                if last:
                    self.active = False
            finally:
                self.sending = 0
                late, self.interrupted = self.interrupted, False
        if late and self.running and me == self.main:
            raise KeyboardInterrupt

    def settle(self, port):
        """Before something is printed while live: makes sure that what the other stream has comes first."""
        if self.printed is not port:
            first, self.printed = self.printed, port
            if first is not None:
                first.calm()
            if first is not None and self.active:
                first.drain()
                self.send({"op": "sync", "id": self.id})

    def show(self, message):
        """Sends what belongs between what was printed before and after it."""
        if not self.active:
            self.late[MAX_LATE - 1:] = []
            self.late.append(message)
            return
        self.outputs.drain()
        if self.live:
            self.outputs.calm()
        self.printed = None
        message["id"] = self.id
        self.send(message)

    def display(self, data, display_id=None, update=False):
        bundle = encode(data)
        if bundle:
            self.show({"op": "display", "data": bundle, "display": str(display_id or ""), "update": bool(update)})

    def clear(self, wait=False):
        self.show({"op": "clear", "wait": bool(wait)})

    # What we say ourselves.

    def say(self, text):
        """Writes to standard error, whatever became of it."""
        try:
            sys.stderr.write(text)
        except Exception:
            self.err.write(text)

    def complain(self, e):
        """Shows an exception that is not the cell's own."""
        self.hide_handler(e)
        self.say(describe(e, self.shell, self.is_cell).traceback.rstrip("\n") + "\n")

    def is_cell(self, name):
        return name == self.name or name.startswith("<ipython-input-")

    # Cells.

    def parse(self, code):
        """Returns the syntax tree, the name for tracebacks, and the plain source.

        What parses as Python needs none of IPython's transformations, which
        cost more than most cells.
        """
        shell = self.shell
        code = code.removeprefix("\ufeff")
        try:
            if code.startswith("In ["):
                raise SyntaxError
            tree = compile(code, "<cell>", "exec", PARSE | self.futures, dont_inherit=True)
            source = code
        except (SyntaxError, ValueError):
            tree = None
        if tree is None:  # not above: of what is wrong with the cell, this error alone is shown
            source = shell.transform_cell(code)
        try:
            shell.execution_count = self.count
            name = shell.compile.cache(source, self.count, raw_code=code)
        except Exception:  # a cell has broken what it uses; this one may mend it
            name = f"<ipython-input-{self.count}>"
        self.name = name
        if tree is None:
            tree = compile(source, name, "exec", PARSE | self.futures, dont_inherit=True)
        for lines, line in zip(self.history, (source, code)):
            lines.append(line)
        if self.transformers:
            tree = shell.transform_ast(tree)
        return tree, name, source

    def compile(self, tree, name, mode):
        code = compile(tree, name, mode, PyCF_ALLOW_TOP_LEVEL_AWAIT | self.futures, dont_inherit=True)
        self.futures |= code.co_flags & FUTURES
        return code

    def evaluate(self, code):
        return eval(code, self.global_ns, self.ns)

    async def whole(self, codes):
        """Runs the parts of a cell in the event loop and returns the value of the last."""
        value = None
        for code in codes:
            value = self.evaluate(code)
            if code.co_flags & COROUTINE:
                value = await value
        return value

    def cell(self, code):
        """Runs one cell; returns its value, or None if that is not to be shown."""
        tree, name, source = self.parse(code)
        body = tree.body
        last = body[-1] if body and isinstance(body[-1], Expr) else None
        in_loop = any(name in source for name in ASKS) and asks(tree)
        codes = []
        if last is not None:
            body.pop()
        if body:
            codes.append(self.compile(tree, name, "exec"))
        if last is not None:
            codes.append(self.compile(Expression(last.value), name, "eval"))
        if in_loop or any(code.co_flags & COROUTINE for code in codes):
            value = self.loop.run(self.whole(codes))
        else:
            value = None
            for code in codes:
                value = self.inside(self.evaluate, code)
        if last is None or value is None or (";" in source and DisplayHook.semicolon_at_end_of_expression(source)):
            return None
        return value

    def run(self, code):
        """Runs one cell with what surrounds it; returns its value's representations, or None."""
        self.inside(self.before)
        try:
            value = self.cell(code)
            if value is None:
                return None
            self.remember(value)
            return self.inside(represent, value, self.formatter)
        finally:
            self.inside(self.after)

    def trigger(self, event, *arguments):
        """Calls what is registered with IPython for an event."""
        for function in self.callbacks[event][:]:
            try:
                function(*arguments)
            except Exception as e:
                self.complain(e)

    def before(self):
        self.trigger("pre_execute")
        self.trigger("pre_run_cell", None)

    def after(self):
        self.trigger("post_execute")
        try:
            figures.at_end(self.shell)
        except Exception as e:
            self.complain(e)
        self.trigger("post_run_cell", None)

    def remember(self, value):
        """Keeps a value as _ and in Out, which forgets those of long ago."""
        ns, outputs = self.ns, self.values
        if value is outputs:
            return
        if ns.get("_") is self.last:  # else the cells use the name for their own
            ns["___"], ns["__"], ns["_"] = ns.get("__"), self.last, value
            self.last = value
        outputs[self.count] = value
        outputs.pop(self.count - MAX_OUTPUTS, None)

    def flush(self):
        """Writes what is kept by whatever stands for the streams now, then what we keep."""
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name, None)
            if stream is self.out or stream is self.err or not usable(name) or not hasattr(stream, "flush"):
                continue
            try:
                stream.flush()
            except Exception as e:
                self.say(f"sys.{name}.flush() failed: {brief(e).traceback}\n")
            except BaseException:  # it hangs, and would at the end of each cell
                setattr(sys, name, self.out if name == "stdout" else self.err)
                raise
        flush_c()

    def prepare(self):
        """Puts what cells need back in its place."""
        if handler_of(SIGINT) is not self.handler:
            set_handler(SIGINT, self.handler)
        if not usable("stdout"):
            self.out = sys.stdout = Stream(self.outputs.ports[0])
        if not usable("stderr"):
            self.err = sys.stderr = Stream(self.outputs.ports[1])

    def execute(self, request):
        """Runs a cell and returns the reply. Each step may be interrupted; all of them are taken."""
        self.id = request["id"]
        reply = {"op": "done", "id": self.id}
        self.name = None
        self.interrupted = False
        failure = around = None
        start = clock()
        try:
            self.begin(request)
            if "env" in request or "dir" in request or "input" in request:
                around = Around(request)
            self.running = True
            try:
                reply["value"] = self.run(request["code"])
            except BaseException as e:
                failure = e
            settrace(None)
            try:
                self.flush()
            except BaseException as e:
                failure = failure or e
            network.explain(self, request["code"], failure)
            if failure is not None:
                reply["error"] = self.describe(failure)
        except BaseException as e:  # it came between the steps
            failure = failure or e
        self.running = False
        if around is not None:
            around.undo()
        if failure is not None:
            reply.setdefault("error", brief(failure).reply())
            reply["value"] = None
        self.outputs.drain()
        reply["ns"] = clock() - start
        self.count += 1
        if self.forked:
            self.leave(reply, failure)
        return reply

    def begin(self, request):
        live = bool(request.get("live"))
        if live or self.live:
            self.outputs.drain()
            self.live = live
            self.printed = None
            self.outputs.watch(self.settle if live else None)
        self.outputs.begin()
        self.active = True
        self.commands = False
        self.prepare()
        if self.late:
            late, self.late = self.late, []
            for message in late:
                self.show(message)

    def leave(self, reply, failure):
        """Ends a child that a cell forked and that came to the end of the cell, as a program ends."""
        status = 0 if failure is None else 1
        text = reply["error"]["traceback"] if failure is not None else ""
        if failure is not None and is_a(failure, SystemExit):
            code = _code.__get__(failure)
            text = "" if code is None else reply["error"]["message"]
            if code is None or type(code) in (int, bool):
                status, text = int(code or 0) & 0xFF, ""
        if text:
            self.say(text + "\n")
            self.outputs.drain()
        _exit(status)

    def describe(self, e):
        self.hide_handler(e)
        name = self.name
        return describe(e, self.shell, lambda filename: filename == name).reply()

    def hide_handler(self, e):
        """Takes our own frames out of a traceback: the signal handler, and what wraps functions of os."""
        tb = traceback_of(e)
        while tb is not None:
            while tb.tb_next is not None and tb.tb_next.tb_frame.f_code.co_filename.startswith("sandpool/"):
                tb.tb_next = tb.tb_next.tb_next
            tb = tb.tb_next

    # Life.

    def serve(self, handle):
        """Serves requests; those other than run are handle's."""
        while True:
            try:
                if self.loop.busy():
                    self.wait()
                request = self.reader.next()
            except EOFError:
                return
            except BaseException as e:  # a signal handler of a cell, or a task
                self.stray(e)
                continue
            self.answer(request, handle)

    def answer(self, request, handle):
        """Handles a request and sends the reply, whatever is raised meanwhile."""
        reply = {"op": "done", "id": request["id"]}
        try:
            reply = self.execute(request) if request["op"] == "run" else handle(self, request)
        except BaseException as e:
            self.running = False
            reply["error"] = brief(e).reply()
        try:
            self.send(reply, last=True)
        except (BrokenPipeError, ConnectionResetError):
            _exit(0)  # the agent is gone
        except BaseException as e:
            self.stray(e)

    def wait(self):
        """Lets tasks of cells go on until there is a request."""
        self.running = True
        try:
            self.loop.until_readable(self.fd)
        finally:
            self.running = False

    def stray(self, e):
        """Shows what was raised between two cells."""
        try:
            if not is_a(e, KeyboardInterrupt):
                self.complain(e)
        except BaseException:
            pass

    def child(self):
        """In a process that a cell forked: it is no kernel and must not answer as one."""
        self.forked = True
        self.live = False
        self.lock = RLock()
        part(self.outputs)
        fd, self.fd = self.fd, -1
        if fd >= 0:
            close(fd)


def usable(name):
    """Whether what stands for a stream in sys can be written to."""
    try:
        stream = getattr(sys, name)
        return not getattr(stream, "closed", False) and callable(stream.write)
    except BaseException:
        return False
