"""What happens before a snapshot is taken, and to each of its clones.

Imports and cells before the snapshot save every session that time. What they
leave behind besides is undone: a session starts as an interpreter does that was
started just now.
"""

import gc
import importlib
import linecache
import os
import platform
import random
import signal
import sys
import time
import warnings
from ctypes import CDLL

import network

WARM_MODULES = ("numpy", "pandas", "matplotlib.pyplot", "matplotlib_inline.backend_inline", "subprocess", "tempfile", "uuid")
WARM_CELLS = (
    "1+1", "print(end='')", "1/0", "%who_ls", "!true", "import asyncio; await asyncio.sleep(0)", "[1, {'a': (2, 'b')}]",
    "x = (", "import numpy; numpy.arange(3)", "import pandas; pandas.DataFrame({'a': [1, 2]})",
    "import matplotlib.pyplot as plt; plt.plot([1, 2])")


def describe_runtime():
    """What /metadata tells. Gathered before any cell runs, so cells cannot change it."""
    from importlib import metadata

    packages = {}
    for dist in metadata.distributions():
        name = dist.metadata["Name"]
        if name:
            packages[name.lower()] = {"name": name, "version": dist.version}
    return {"runtime": "python", "version": platform.python_version(), "kernel": "ipython",
            "kernelVersion": importlib.import_module("IPython").__version__,
            "packages": [packages[k] for k in sorted(packages)]}


def warm(kernel):
    """Imports and runs what first cells use, so that they need not wait for it."""
    # pandas imports numexpr, which would start threads that every restore has to bring back.
    theirs = os.environ.get("NUMEXPR_MAX_THREADS")
    os.environ["NUMEXPR_MAX_THREADS"] = "1"
    for name in WARM_MODULES:
        try:
            importlib.import_module(name)
        except Exception:  # an image need not have all of them
            pass
    del os.environ["NUMEXPR_MAX_THREADS"]
    if theirs is not None:
        os.environ["NUMEXPR_MAX_THREADS"] = theirs
    before = State(kernel)
    fd, kernel.fd = kernel.fd, -1
    for code in WARM_CELLS:
        kernel.execute({"id": "", "code": code})
    kernel.fd = fd
    before.restore()
    seed(kernel, "00" * 32)  # what libraries set up for it once is then in the snapshot
    gc.collect()
    gc.freeze()
    CDLL(None).malloc_trim(0)


class State:
    """What cells can change and no session may inherit."""

    def __init__(self, kernel):
        self.kernel = kernel
        self.names = dict(kernel.shell.user_ns)
        self.environ = dict(os.environ)
        self.path = list(sys.path)
        self.filters = [f for f in warnings.filters if f[2].__name__ != "ProvisionalCompleterWarning"]  # IPython's
        self.handlers = {s: signal.getsignal(s) for s in signal.valid_signals()}

    def restore(self):
        kernel = self.kernel
        loop = kernel.loop
        if loop.loop is not None:
            loop.loop.close()
            loop.loop = None
        asyncio = sys.modules["asyncio"]
        asyncio.set_event_loop_policy(None)
        loop.adopt()
        ns = kernel.shell.user_ns
        ns.clear()
        ns.update(self.names)
        os.environ.clear()
        os.environ.update(self.environ)
        sys.path[:] = self.path
        warnings.filters[:] = self.filters
        warnings._filters_mutated()
        for number, handler in self.handlers.items():
            if handler is not signal.getsignal(number):
                signal.signal(number, handler)


def seed(kernel, text):
    """Makes this clone of a snapshot different from its siblings."""
    data = bytes.fromhex(text)
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
    network.tell_pip()
    forget(kernel)


def forget(kernel):
    """Leaves no trace of the cells so far but what they defined."""
    shell = kernel.shell
    kernel.count = shell.execution_count = 1
    shell.history_manager.input_hist_parsed[:] = [""]
    shell.history_manager.input_hist_raw[:] = [""]
    kernel.values.clear()
    for name in ("_", "__", "___"):
        shell.user_ns.pop(name, None)
    shell.user_ns.update(_="", __="", ___="")
    kernel.last = ""
    for name in ("last_exc", "last_type", "last_value", "last_traceback"):
        vars(sys).pop(name, None)
    vars(shell.InteractiveTB).pop("tb", None)  # what %debug opens
    shell.SyntaxTB.last_syntax_error = None
    names = getattr(shell.compile, "_filename_map", {})
    for name in names:
        linecache.cache.pop(name, None)
    names.clear()
    vars(linecache).get("_interactive_cache", {}).clear()


def handle(kernel, request):
    """Answers the requests that run no cell."""
    reply = {"op": "done", "id": request["id"]}
    if request["op"] == "warm":
        reply["info"] = describe_runtime()
        warm(kernel)
    elif request["op"] == "init":
        seed(kernel, request["seed"])
        os.environ.update(request.get("env", {}))
    return reply
