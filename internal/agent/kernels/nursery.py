# The second part of the Python runner: the process that kernels are forked
# from. It follows python.py in the same program.

def become_kernel(kernel, fds, uid, gid, directory):
    """Turns a fork of the nursery into a kernel; never returns."""
    control, out, err = fds
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(out, 1)
    os.dup2(err, 2)
    fcntl.fcntl(control, fcntl.F_DUPFD_CLOEXEC, CONTROL_FD)
    os.closerange(3, CONTROL_FD)
    os.seteuid(0)
    os.setegid(0)
    for what, limit in ((resource.RLIMIT_NPROC, MAX_PROCESSES), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_NOFILE, 4096)):
        resource.setrlimit(what, (limit, limit))
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    libc.prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: /proc/self belongs to the user
    os.umask(0o022)
    os.chdir(directory)
    sys.stdout, sys.stderr = stream(1), stream(2)
    sys.__stdout__, sys.__stderr__ = sys.stdout, sys.stderr
    sys.path.insert(0, "")
    sys.argv = [""]
    kernel.serve(CONTROL_FD)


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


def make_shell():
    config = Config()
    config.HistoryManager.enabled = False
    config.HistoryManager.hist_file = ":memory:"
    config.InteractiveShell.history_load_length = 0
    config.InteractiveShell.colors = "nocolor"
    config.InteractiveShell.xmode = "Context"
    shell = Shell.instance(config=config)
    shell.builtin_trap.activate()
    builtins.input = no_input
    importlib.import_module("getpass").getpass = no_input
    return shell


def nursery(uid, gid, directory):
    control = 3
    os.set_inheritable(control, False)
    os.setegid(gid)
    os.seteuid(uid)
    os.makedirs(site.getusersitepackages(), exist_ok=True)
    sys.path.append(site.getusersitepackages())
    kernel = Kernel(make_shell())
    kernel.handler = signal.SIG_IGN
    for name in ("numpy", "pandas", "matplotlib.pyplot", "matplotlib_inline.backend_inline", "subprocess", "tempfile", "uuid"):
        try:
            importlib.import_module(name)
        except Exception:  # an image need not have all of them
            pass
    kernel.warm(NURSERY_CELLS)
    sys.stdout.flush()
    gc.collect()
    gc.freeze()

    def reap(signum, frame):
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            send(control, {"op": "exit", "pid": pid, "status": status})

    signal.signal(signal.SIGCHLD, reap)
    connection = socket.socket(fileno=control)
    send(control, {"op": "warm", "info": describe_runtime()})
    while True:
        data, fds, _, _ = socket.recv_fds(connection, 1, 3)
        if not data:
            os._exit(0)
        try:
            pid = os.fork()
        except OSError as e:
            send(control, {"op": "forked", "pid": 0, "message": str(e)})
            pid = -1
        if pid == 0:
            try:
                become_kernel(kernel, fds, uid, gid, directory)
            except BaseException as e:
                if not isinstance(e, EOFError):
                    traceback.print_exc()
            os._exit(1)
        for fd in fds:
            os.close(fd)
        if pid > 0:
            send(control, {"op": "forked", "pid": pid})


nursery(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
