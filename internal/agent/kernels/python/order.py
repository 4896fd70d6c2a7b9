"""Keeps what is printed in order with what else writes to the same pipes.

Printed text is gathered (streams.py), so it moves into the pipe before a child
process starts, before this process ends or becomes another program, and before
a cell writes to a descriptor itself. These calls are wrapped, and nothing else
of the interpreter is. C code that prints is seen only when ctypes looks it up.
"""

import _posixsubprocess
import _thread
import ctypes
import os
import subprocess
import threading
from functools import wraps

# What writes to a descriptor, or changes what one is.
WRITERS = ("write", "writev", "sendfile", "dup", "dup2")
# What starts a program. os.fork has hooks of its own.
STARTERS = ("system", "posix_spawn", "posix_spawnp", "execv", "execve")
# What starts a thread, and where it is known.
THREADS = ((_thread, "start_new_thread"), (_thread, "start_new"), (_thread, "start_joinable_thread"),
           (_thread, "_start_joinable_thread"), (threading, "_start_new_thread"), (threading, "_start_joinable_thread"))
# Functions of C that write, or start what writes.
PRINTERS = frozenset((
    "dprintf", "fork", "fprintf", "fputc", "fputs", "fwrite", "perror", "popen", "posix_spawn", "printf", "psignal",
    "putc", "putchar", "puts", "system", "vdprintf", "vfork", "vfprintf", "vprintf", "write", "writev"))
# Where libraries are that come with the image.
SYSTEM = ("/usr/", "/lib", "/opt/", "/etc/")
SPAWNERS = frozenset(("fork", "popen", "posix_spawn", "system", "vfork"))
LINE_BUFFERED = 1  # _IOLBF


def after(step, function, module="os"):
    """Returns function, which calls step first."""

    @wraps(function)
    def call(*args, **kwargs):
        step()
        return function(*args, **kwargs)

    call.__module__ = module  # so that it can be pickled by its name
    return call


def watch(outputs):
    """Wraps what else writes to the pipes of outputs."""
    for names, step in ((WRITERS, outputs.drain), (STARTERS, outputs.crowd)):
        for name in names:
            function = getattr(os, name)
            wrapped = after(step, function)
            setattr(os, name, wrapped)
            for able in (os.supports_fd, os.supports_dir_fd):
                if function in able:
                    able.remove(function)
                    able.add(wrapped)
    # subprocess and multiprocessing start their programs with it.
    _posixsubprocess.fork_exec = after(outputs.crowd, _posixsubprocess.fork_exec)
    subprocess._fork_exec = _posixsubprocess.fork_exec
    os.register_at_fork(before=outputs.crowd)
    for module, name in THREADS:
        if hasattr(module, name):
            setattr(module, name, after(outputs.threads, getattr(module, name), module.__name__))
    look_up = ctypes.CDLL.__getitem__

    @wraps(look_up)
    def find(library, name):
        function = look_up(library, name)
        if name in PRINTERS or is_own(library):
            function.__class__ = printing(type(function), outputs.crowd if name in SPAWNERS else outputs.drain)
        return function

    ctypes.CDLL.__getitem__ = find
    # C code writes whole lines too, as it does on a terminal.
    libc = ctypes.CDLL(None)
    libc.setvbuf(ctypes.c_void_p.in_dll(libc, "stdout"), None, LINE_BUFFERED, 0)


def is_own(library):
    """Whether a library is one that the session brought: it may print with any of its functions."""
    name = getattr(library, "_name", None)
    return type(name) is str and "/" in name and not name.startswith(SYSTEM)


def printing(kind, step):
    """Returns the class of a C function that may print: what was printed before goes first, by step."""
    class Printing(kind):
        _flags_, _restype_ = kind._flags_, kind._restype_

        def __call__(self, *args, **kwargs):
            step()
            return super().__call__(*args, **kwargs)

    Printing.__name__, Printing.__qualname__, Printing.__module__ = kind.__name__, kind.__qualname__, kind.__module__
    return Printing


def part(outputs):
    """In a process that a cell forked: what it printed last is not lost if it just exits."""
    outputs.part()
    os._exit = after(outputs.drain, os._exit)


def flush_c():
    """Writes what C code has gathered itself."""
    _flush(None)


_flush = ctypes.CDLL(None).fflush
