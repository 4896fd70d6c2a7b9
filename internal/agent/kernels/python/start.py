"""How the kernel starts: as the unprivileged user, with its control socket as
descriptor 3, its source as 4, and the memory that it shares with the agent as 5.

The interpreter is started without options, which sys.flags would tell and child
processes inherit. HOME is a directory without packages, and the working
directory is one that cells cannot write to. So nothing that cells installed is
imported before the kernel is there.
"""

import ctypes
import os
import resource
import sys
from fcntl import F_DUPFD_CLOEXEC, fcntl
from mmap import MAP_SHARED, PROT_READ, PROT_WRITE

import errors
import figures
import order
from cells import Kernel
from shell import add_user_site, make_shell
from streams import AREA, Outputs
from warm import handle

CONTROL_FD = 700  # beyond what a cell closes by habit


def main(directory, home):
    control = fcntl(3, F_DUPFD_CLOEXEC, CONTROL_FD)
    shared = fcntl(5, F_DUPFD_CLOEXEC, CONTROL_FD)
    os.closerange(3, CONTROL_FD)
    for what, limit in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_NOFILE, 4096)):
        resource.setrlimit(what, (limit, limit))
    os.umask(0o022)
    os.environ["HOME"] = home
    try:
        os.chdir(directory)
    except OSError:  # a cell has made it inaccessible; another can make it accessible
        pass
    outputs = Outputs(mapped(shared, 2 * AREA), shared)
    order.watch(outputs)
    figures.watch()
    errors.sayings += figures.saying,
    kernel = Kernel(make_shell(), outputs, control)
    sys.stdout = sys.__stdout__ = kernel.out
    sys.stderr = sys.__stderr__ = kernel.err
    add_user_site()
    sys.argv = [""]
    sys.orig_argv = [sys.executable]
    kernel.serve(handle)
    os._exit(0)  # the agent is gone


def mapped(fd, size):
    """Maps a file into memory, as mmap does, which would keep a descriptor that cells see."""
    libc = ctypes.CDLL(None)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long
    address = libc.mmap(None, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
    if address == ctypes.c_void_p(-1).value:
        raise MemoryError("the memory that the agent shares cannot be mapped")
    return (ctypes.c_ubyte * size).from_address(address)
