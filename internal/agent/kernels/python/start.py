"""How the kernel starts: as the unprivileged user, with its control socket as
descriptor 3, its source as 4, and the memory that it shares with the agent as 5.

The interpreter is started without options, which sys.flags would tell and child
processes inherit. HOME is a directory without packages, and the working
directory is one that cells cannot write to. So nothing that cells installed is
imported before the kernel is there.
"""

import os
import resource
import sys
from fcntl import F_DUPFD_CLOEXEC, fcntl

import errors
import figures
import order
from cells import Kernel
from shell import add_user_site, make_shell
from streams import Outputs
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
    outputs = Outputs(shared)
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
