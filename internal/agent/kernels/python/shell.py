"""IPython without a terminal, and without anybody who could type."""

import builtins
import importlib
import os
import site
import sys
from _sitebuiltins import Quitter
from codecs import getincrementaldecoder
from selectors import EVENT_READ, DefaultSelector
from subprocess import PIPE, Popen
from types import ModuleType

from IPython.core.displaypub import DisplayPublisher
from IPython.core.error import StdinNotImplementedError
from IPython.core.interactiveshell import InteractiveShell
from IPython.paths import get_ipython_dir
from traitlets import Type
from traitlets.config import Config

from values import bound

CAPTURE_STEP = 0.1  # seconds
NO_INPUT = "nobody can type into this session."


def number_of(name):
    """The descriptor that a stream writes to, or None."""
    try:
        return getattr(sys, name).fileno()
    except Exception:
        return None


def no_input(*args, **kwargs):
    raise StdinNotImplementedError(f"input() is not available: {NO_INPUT} Put the value into the code or into a file.")


def no_debugger(*args, **kwargs):
    raise StdinNotImplementedError(
        f"breakpoint() is not available: {NO_INPUT} Print what you want to see, or read the traceback of an error.")


def no_interaction(*args, **kwargs):
    raise StdinNotImplementedError(f"help() without an argument is not available: {NO_INPUT} Use help(object) or object?.")


class Exit(Quitter):
    """exit() and quit() of an interpreter, but for stdin, which they close and later cells need."""

    def __call__(self, code=None):
        raise SystemExit(code)


class Publisher(DisplayPublisher):
    """Sends what display() shows to the agent."""

    def publish(self, data, metadata=None, source=None, *, transient=None, update=False, **kwargs):
        self.shell.kernel.display(data, (transient or {}).get("display_id"), update)

    def clear_output(self, wait=False):
        self.shell.kernel.clear(wait)


class Shell(InteractiveShell):
    """IPython as the kernel uses it."""

    display_pub_class = Type(Publisher)
    kernel = None

    @property
    def system(self):
        """Runs a command, which writes to the descriptors 1 and 2, or to what captures the streams."""
        self.kernel.commands = True
        if all(number_of(name) == number for name, number in (("stdout", 1), ("stderr", 2))):
            return self.system_raw
        return self.system_captured

    def system_captured(self, cmd):
        cmd = self.var_expand(cmd, depth=1)
        shell = os.environ.get("SHELL") or None
        with Popen(cmd, shell=True, executable=shell, stdout=PIPE, stderr=PIPE) as p, DefaultSelector() as pipes:
            for pipe, name in ((p.stdout, "stdout"), (p.stderr, "stderr")):
                pipes.register(pipe, EVENT_READ, (name, getincrementaldecoder("utf-8")("replace")))
            while pipes.get_map():
                ready = pipes.select(CAPTURE_STEP)
                if not ready and p.poll() is not None:  # who else has the pipe stays behind
                    break
                for key, _ in ready:
                    name, decoder = key.data
                    data = os.read(key.fd, 1 << 16)
                    if text := decoder.decode(data, not data):
                        getattr(sys, name).write(text)
                    if not data:
                        pipes.unregister(key.fileobj)
        status = p.returncode
        self.user_ns["_exit_code"] = 128 - status if status > 128 else status

    def enable_gui(self, gui=None):
        pass

    def enable_matplotlib(self, gui=None):
        try:
            return super().enable_matplotlib(gui)
        except BaseException:
            self.pylab_gui_select = None  # what could not be enabled is not to be preferred later
            raise

    def ask_exit(self):
        raise SystemExit

    def showtraceback(self, exc_tuple=None, *args, **kwargs):
        e = (exc_tuple or sys.exc_info())[1] or getattr(sys, "last_value", None)
        if e is not None:
            self.kernel.complain(e)

    def showsyntaxerror(self, *args, **kwargs):
        self.showtraceback()

    def _showtraceback(self, etype, evalue, stb):
        self.kernel.say(self.InteractiveTB.stb2text(stb) + "\n")

    def init_history(self):
        super().init_history()
        self.history_manager.enabled = False

    def init_user_ns(self):
        super().init_user_ns()
        for names in (self.user_ns, self.user_ns_hidden):
            names.pop("open", None)  # IPython's, which refuses the descriptors 0 to 2
            names.pop("exit", None), names.pop("quit", None)  # IPython's, which take no status

    def init_prompts(self):
        pass  # sys.ps1 would say that somebody types


def main_module():
    """Returns a module like that of an interpreter that has just started."""
    module = ModuleType("__main__")
    module.__loader__ = importlib.machinery.BuiltinImporter
    if sys.version_info < (3, 14):
        module.__annotations__ = {}
    module.__builtins__ = builtins
    return module


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
    shell = Shell.instance(config=config, user_module=main_module())
    bound(shell.display_formatter)
    for name in ("exit", "quit"):
        shell.builtin_trap.auto_builtins.pop(name, None)
        setattr(builtins, name, Exit(name, "Ctrl-D (i.e. EOF)"))
    shell.builtin_trap.activate()
    builtins.input = no_input
    importlib.import_module("getpass").getpass = no_input
    importlib.import_module("pydoc").Helper.interact = no_interaction
    importlib.import_module("pydoc").Helper.intro = lambda self: None
    sys.breakpointhook = no_debugger
    return shell


def add_user_site():
    """Lets packages that cells install be found, where other interpreters find them."""
    site.USER_BASE = site.USER_SITE = None  # of another home
    site.getusersitepackages()
    if not site.ENABLE_USER_SITE:  # a virtual environment
        return
    directory = site.getusersitepackages()
    try:
        os.makedirs(directory, exist_ok=True)
    except OSError:
        pass
    before = list(sys.path)
    site.addsitedir(directory)
    added = sys.path[len(before):]
    first = next((i for i, path in enumerate(before) if path.endswith("-packages")), len(before))
    sys.path[:] = before[:first] + added + before[first:]
