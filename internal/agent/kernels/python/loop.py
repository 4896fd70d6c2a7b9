"""The event loop of a session.

All cells share one. A cell that awaits runs whole as a task of it, so that it
can make tasks, and tasks that outlive it go on in later cells and in between. A
cell that does not await runs outside of it, as a script does, so that
asyncio.run() and run_until_complete() work there; create_task() works there
too: the task begins when the cell is over.

Within a cell that awaits, asyncio.run() and run_until_complete() would be
refused, because a loop is running. There they set the running loop aside.
"""

import asyncio
from _thread import get_ident
from ast import AsyncFunctionDef, FunctionDef, Lambda, Try, iter_child_nodes
from asyncio import CancelledError, all_tasks, base_events, events, new_event_loop, runners, set_event_loop, tasks
from asyncio.events import _get_running_loop, _set_running_loop
from contextvars import copy_context
from functools import wraps
from weakref import WeakSet

# What a loop keeps of its run, which a run within it would overwrite.
KEPT = ("_thread_id", "_old_agen_hooks")
# What a cell asks for that takes for granted that a loop is running, as in Jupyter.
ASKS = frozenset(("get_running_loop", "current_task"))


class Loop:
    """Runs coroutines for the cells of a session."""

    def __init__(self):
        self.loop = None
        self.task = None  # of the cell that runs in the loop
        self.main = get_ident()
        self.context = copy_context()  # of all cells
        self.runners = WeakSet()  # loops of asyncio.Runner, which ends all that goes on in its own
        self.install()

    def install(self):
        """Makes asyncio know the loop."""
        asyncio.create_task = tasks.create_task = self.with_loop(tasks.create_task)
        asyncio.run = runners.run = self.aside(runners.run)
        runners.Runner.run = self.aside(runners.Runner.run)
        if hasattr(runners.Runner, "_lazy_init"):
            runners.Runner._lazy_init = self.owned(runners.Runner._lazy_init)
        for name in ("run_until_complete", "run_forever"):
            setattr(base_events.BaseEventLoop, name, self.aside(getattr(base_events.BaseEventLoop, name)))
        self.adopt()

    def adopt(self):
        """Makes get_event_loop() return the loop; afterwards the loop is whichever a cell has set."""
        policy = events._get_event_loop_policy() if hasattr(events, "_get_event_loop_policy") else asyncio.get_event_loop_policy()
        if "get_event_loop" not in vars(policy):
            general = policy.get_event_loop

            def get_event_loop():
                return self.current() if get_ident() == self.main else general()

            policy.get_event_loop = get_event_loop
        local = getattr(policy, "_local", None)
        return getattr(local, "_loop", None)

    def current(self):
        """Returns the loop that cells use: the one that was set last, if it is open, or a new one."""
        chosen = self.adopt()
        if chosen is not None and not chosen.is_closed() and chosen not in self.runners:
            self.loop = chosen
        else:
            if self.loop is None or self.loop.is_closed():
                self.loop = new_event_loop()
            if chosen is None or chosen.is_closed():
                set_event_loop(self.loop)
        return self.loop

    def owned(self, begin):
        """Remembers the loop of a Runner: a cell that runs in it could not end the Runner."""

        @wraps(begin)
        def lazy_init(runner):
            begin(runner)
            self.runners.add(runner._loop)

        return lazy_init

    def with_loop(self, create_task):
        """Makes create_task() work where no loop is running."""

        @wraps(create_task)
        def create(coro, **options):
            if _get_running_loop() is None and get_ident() == self.main:
                return self.current().create_task(coro, **options)
            return create_task(coro, **options)

        return create

    def aside(self, run):
        """Makes a function that runs a loop work within a cell that awaits."""

        @wraps(run)
        def call(*args, **kwargs):
            loop, task = _get_running_loop(), self.task
            if task is None or loop is not self.loop or get_ident() != self.main or tasks.current_task(loop) is not task:
                return run(*args, **kwargs)
            kept = {name: vars(loop).get(name) for name in KEPT}
            ready = len(loop._ready)
            tasks._leave_task(loop, task)
            _set_running_loop(None)
            loop._thread_id = None
            try:
                return run(*args, **kwargs)
            finally:
                vars(loop).update(kept)
                _set_running_loop(loop)
                tasks._enter_task(loop, task)
                # The run that was set aside still counts on so many of these.
                while len(loop._ready) < ready:
                    handle = events.Handle(len, (), loop)
                    handle.cancel()
                    loop._ready.append(handle)

        return call

    def run(self, coroutine):
        """Runs the coroutine of a cell to its end."""
        loop = self.current()
        task = self.task = loop.create_task(coroutine, context=self.context)
        try:
            return loop.run_until_complete(task)
        except KeyboardInterrupt:
            if task.done():  # it came from within
                if not task.cancelled():
                    task.exception()
                raise
            task.cancel()
            try:
                return loop.run_until_complete(task)
            except CancelledError as e:  # which says where the cell was
                raise KeyboardInterrupt().with_traceback(e.__traceback__) from None
        finally:
            self.task = None

    def busy(self):
        """Whether there are tasks, or whatever else would go on if the loop ran."""
        loop = self.loop
        if loop is None or loop.is_closed():
            return False
        return bool(getattr(loop, "_ready", ()) or getattr(loop, "_scheduled", ()) or all_tasks(loop)
                    or len(loop._selector.get_map() or ()) > 1)

    def until_readable(self, fd):
        """Lets the tasks go on until a descriptor can be read."""
        loop = self.loop
        loop.add_reader(fd, loop.stop)
        try:
            loop.run_forever()
        finally:
            if not loop.is_closed():
                loop.remove_reader(fd)


def asks(tree):
    """Whether a cell asks for the running loop, and does not expect that there may be none."""
    rest = list(tree.body)
    while rest:
        node = rest.pop()
        if isinstance(node, (FunctionDef, AsyncFunctionDef, Lambda, Try)):
            continue
        if getattr(node, "attr", getattr(node, "id", None)) in ASKS:
            return True
        rest.extend(iter_child_nodes(node))
    return False
