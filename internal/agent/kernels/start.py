# The second part of the Python runner: how its process starts. It follows
# python.py in the same program.

from IPython.paths import get_ipython_dir


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
    # With this directory missing, IPython makes it and puts a text into it: the one file
    # in the writable layer of a snapshot, which costs each restore 5 ms of processor time.
    try:
        os.makedirs(os.path.join(get_ipython_dir(), "profile_default", "startup"), exist_ok=True)
    except OSError:
        pass
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


def main(directory):
    control = fcntl.fcntl(3, fcntl.F_DUPFD_CLOEXEC, CONTROL_FD)
    os.closerange(3, CONTROL_FD)
    for what, limit in ((resource.RLIMIT_NPROC, MAX_PROCESSES), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_NOFILE, 4096)):
        resource.setrlimit(what, (limit, limit))
    os.umask(0o022)
    try:
        os.chdir(directory)
    except OSError:  # a cell has made it inaccessible; another can make it accessible
        pass
    sys.stdout, sys.stderr = stream(1), stream(2)
    sys.__stdout__, sys.__stderr__ = sys.stdout, sys.stderr
    kernel = Kernel(make_shell())
    try:
        os.makedirs(site.getusersitepackages(), exist_ok=True)
    except OSError:
        pass
    sys.path.insert(0, "")
    sys.path.append(site.getusersitepackages())
    sys.argv = [""]
    try:
        kernel.serve(control)
    except EOFError:  # the agent is gone
        os._exit(0)


main(sys.argv[1])
