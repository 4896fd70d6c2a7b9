"""Describes exceptions.

An exception is what a cell made it: its traceback may have a hundred thousand
frames, its text fifty million characters, its __str__ may raise, print, exit or
never return. So a description has three forms, each for when the one before
fails, is interrupted or takes too long: IPython's, a plain one, a brief one
that runs no code of the exception.
"""

import sys
from errno import EMFILE, ENOMEM, ENOSPC
from linecache import cache as sources
from linecache import getline, getlines
from os import stat, statvfs, sysconf
from resource import RLIMIT_NOFILE, RLIMIT_NPROC, getrlimit
from stat import S_ISREG
from sys import getrecursionlimit, setrecursionlimit
from types import TracebackType

from IPython.core.error import StdinNotImplementedError, UsageError

from bounds import MAX_TEXT, Watch, clip, clip_middle

ENDS = 20  # frames that are kept at either end of a long traceback
MAX_CHAIN = 6  # exceptions of a chain that are shown
MAX_GROUP = 15  # exceptions of a group that are shown, at each of MAX_DEPTH levels
MAX_DEPTH = 4
MAX_SOURCE = 2 << 20  # characters of a source that is shown with its context
PATIENCE = 3.0  # seconds of processor time for a message, and for IPython's form
DEPTH = 3000  # calls that our own code may need

# What its text says at length, so that a traceback adds nothing.
SPEAKING = (SystemExit, UsageError, StdinNotImplementedError)
FORKS = frozenset(("fork", "forkpty", "posix_spawn", "posix_spawnp"))
sayings = []  # functions that return in one line what an exception means, or None

# What a class may have made its own is asked of the class that everything has: it runs no code.
_name = type.__dict__["__name__"]
_members = BaseExceptionGroup.__dict__["exceptions"]
_filename = SyntaxError.__dict__["filename"]
_cause = BaseException.__dict__["__cause__"]
_context = BaseException.__dict__["__context__"]
_suppress = BaseException.__dict__["__suppress_context__"]
_traceback = BaseException.__dict__["__traceback__"]


def limit(e):
    """Says in one line which limit of the session an exception has met."""
    kind = type(e)
    if kind is RuntimeError and e.args == ("can't start new thread",) or kind is BlockingIOError and _is_fork(e):
        return f"This session may have {getrlimit(RLIMIT_NPROC)[0]} processes and threads at a time."
    if kind is OSError and e.errno == EMFILE:
        return f"A process of this session may have {getrlimit(RLIMIT_NOFILE)[0]} files and sockets open at a time."
    if issubclass(kind, MemoryError) or kind is OSError and e.errno == ENOMEM:
        return f"This session may use {sysconf('SC_PHYS_PAGES') * sysconf('SC_PAGE_SIZE') >> 20} MiB of memory."
    if kind is OSError and e.errno == ENOSPC:
        sizes = ", ".join(f"{_mib(path)} MiB in {path}" for path in ("/tmp", "/dev/shm"))
        return f"Files of this session may take {_mib('/')} MiB, {sizes}."
    return None


def _is_fork(e):
    """Whether an exception comes from the start of a process; that of a socket is of the same kind."""
    tb = e.__traceback__
    while tb is not None and tb.tb_next is not None:
        tb = tb.tb_next
    code = tb and tb.tb_frame.f_code
    return code is not None and (
        code.co_name in ("_execute_child", "_launch", "_fork_exec", "spawnv_passfds")
        or not FORKS.isdisjoint(code.co_names))


def _mib(path):
    size = statvfs(path)
    return size.f_blocks * size.f_frsize >> 20


class Described:
    """What is told of an exception."""

    def __init__(self, e):
        self.name = name_of(e)
        self.message = ""
        self.traceback = self.name
        self.hopeless = False  # it is not worth the try to show it as IPython does

    def reply(self):
        return {"name": self.name, "message": self.message, "traceback": self.traceback}


def is_a(e, kinds):
    """isinstance() of an exception that may say anything of its class."""
    return issubclass(type(e), kinds)


def traceback_of(e):
    return _traceback.__get__(e)


def name_of(e):
    try:
        return _name.__get__(type(e))[:200]
    except BaseException:
        return "Exception"


def brief(e):
    """Describes an exception without any code of its own."""
    d = Described(e)
    arguments = BaseException.__dict__["args"].__get__(e)
    if len(arguments) == 1 and type(arguments[0]) is str:
        d.message = clip(arguments[0])
    d.traceback = f"{d.name}: {d.message}" if d.message else d.name
    return d


def describe(e, shell, first):
    """Describes an exception; first says whether a file's name is one of the cell's."""
    d = brief(e)
    low = getrecursionlimit()
    if low < DEPTH:  # a cell may have set a low one
        setrecursionlimit(DEPTH)
    try:
        for form in (plain, full):
            try:
                with Watch(2 * PATIENCE):
                    form(d, e, shell, first)
            except BaseException:
                break
    finally:
        if low < DEPTH:
            try:
                setrecursionlimit(low)
            except RecursionError:  # we are deeper than that
                pass
    name_limit(d, e)
    return d


def name_limit(d, e):
    """Adds the limit that an exception has met to what is told of it."""
    try:
        hint = limit(e)
    except BaseException:
        return
    if hint:
        d.message = f"{d.message}. {hint}" if d.message else hint
        d.traceback = f"{d.traceback}\n{hint}"


def speaks(e):
    """Whether the message of an exception says it all."""
    return is_a(e, SPEAKING) or any(saying(e) for saying in sayings)


def plain(d, e, shell, first):
    """Adds the message and a traceback as Python itself shows it."""
    try:
        text = e.msg if is_a(e, SyntaxError) and within(e, first) is None else e
        with Watch(PATIENCE):
            d.message = clip(str(text))
    except BaseException as why:
        d.message = "(the message cannot be shown)"
        d.hopeless = not isinstance(why, Exception)
    for saying in sayings:
        d.message = saying(e) or d.message
    said = f"{d.name}: {d.message}" if d.message else d.name
    if speaks(e):
        d.traceback = said
        return
    lines = ["Traceback (most recent call last):"]
    frames, left_out = ends(within(e, first))
    for i, tb in enumerate(frames):
        if left_out and i == ENDS:
            lines.append(f"  [... {left_out} frames left out ...]")
        code = tb.tb_frame.f_code
        lines.append(f'  File "{code.co_filename}", line {tb.tb_lineno}, in {code.co_name}')
        try:
            source = "" if is_endless(code.co_filename) else getline(code.co_filename, tb.tb_lineno).strip()
        except Exception:  # a cell has broken what it uses
            source = ""
        if source:
            lines.append("    " + source[:200])
    d.traceback = clip_middle("\n".join((*lines, said)) if frames else said)
    if is_a(e, BaseExceptionGroup):
        d.traceback = clip_middle("\n".join((d.traceback, *members(e))))


def members(group, depth=1):
    """Lists what a group of exceptions holds."""
    lines = []
    exceptions = _members.__get__(group)
    for number, e in enumerate(exceptions[:MAX_GROUP], 1):
        frames, _ = ends(_traceback.__get__(e))
        where = frames[-1:]
        at = f" (line {where[0].tb_lineno}, in {where[0].tb_frame.f_code.co_name})" if where else ""
        try:
            message = str(e)[:1000]
        except Exception:
            message = "(the message cannot be shown)"
        lines.append(f"{'  ' * depth}{number}. {name_of(e)}: {message}{at}")
        if is_a(e, BaseExceptionGroup) and depth < MAX_DEPTH:
            lines += members(e, depth + 1)
    if len(exceptions) > MAX_GROUP:
        lines.append(f"{'  ' * depth}[... {len(exceptions) - MAX_GROUP} exceptions left out ...]")
    return lines


def full(d, e, shell, first):
    """Adds a traceback as IPython shows it."""
    if d.hopeless or speaks(e) or len(d.message) >= MAX_TEXT - 64:
        return
    tb = within(e, first)
    if is_a(e, SyntaxError) and is_endless(_filename.__get__(e)):
        return
    if tb is None:
        if is_a(e, SyntaxError):
            with Watch(PATIENCE):
                d.traceback = clip_middle(shell.SyntaxTB.stb2text(
                    shell.SyntaxTB.structured_traceback(type(e), e, [])))
        return
    with Watch(PATIENCE), Shortened(e, tb) as shortened:
        sys.last_type, sys.last_value, sys.last_traceback = type(e), e, _traceback.__get__(e)
        if shortened.large:
            return
        if hasattr(type(e), "_render_traceback_"):
            text = "\n".join(map(str, e._render_traceback_() or ()))
        else:
            stb = shell.InteractiveTB.structured_traceback(type(e), e, _traceback.__get__(e), tb_offset=0)
            text = shell.InteractiveTB.stb2text(stb)
    if shortened.left_out:
        head, blank, tail = text.rpartition("\n\n")
        text = f"{head}\n\n[... {shortened.left_out} frames left out ...]{blank}{tail}"
    if is_a(e, BaseExceptionGroup):
        text = "\n".join((text.rstrip("\n"), *members(e)))
    if text:
        d.traceback = clip_middle(text)


class Shortened:
    """An exception and those that it is chained to, with short tracebacks, while it is shown."""

    def __init__(self, e, tb):
        self.undo = []
        self.left_out = 0
        self.large = False
        self.first = e, tb

    def __enter__(self):
        e, tb = self.first
        self.shorten(e, tb)
        seen = {id(e)}
        for _ in range(MAX_CHAIN):
            link = _cause if _cause.__get__(e) is not None else _context
            following = link.__get__(e)
            if following is None or id(following) in seen or link is _context and _suppress.__get__(e):
                return self
            seen.add(id(following))
            self.shorten(following, _traceback.__get__(following))
            e = following
        self.undo.append((_suppress, e, _suppress.__get__(e)))
        for link in (_cause, _context):
            self.undo.append((link, e, link.__get__(e)))
            link.__set__(e, None)
        return self

    def shorten(self, e, tb):
        frames, left_out = ends(tb)
        self.left_out += left_out
        self.large = self.large or any(map(is_large, {tb.tb_frame.f_code.co_filename for tb in frames}))
        if left_out:
            tb = None
            for frame in reversed(frames):
                tb = TracebackType(tb, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
        self.undo.append((_traceback, e, _traceback.__get__(e)))
        _traceback.__set__(e, tb)

    def __exit__(self, *_):
        for what, e, value in reversed(self.undo):
            what.__set__(e, value)


def is_endless(filename):
    """Whether what has the name of a source is no file that one reads to its end."""
    if type(filename) is not str or filename in sources:
        return False
    try:
        found = stat(filename)
    except (OSError, ValueError):
        return False
    return not S_ISREG(found.st_mode) or found.st_size > 8 * MAX_SOURCE


def is_large(filename):
    """Whether it takes long to show a source: IPython parses it whole."""
    return is_endless(filename) or sum(map(len, getlines(filename))) > MAX_SOURCE


def ends(tb):
    """Returns the first and the last parts of a traceback, and how many are between them."""
    frames, last, count = [], [], 0
    while tb is not None:
        if count < ENDS:
            frames.append(tb)
        else:
            last.append(tb)
            if len(last) >= 2 * ENDS:
                del last[:ENDS]
        count += 1
        tb = tb.tb_next
    last = last[-ENDS:]
    return frames + last, count - len(frames) - len(last)


def within(e, first):
    """Returns the traceback from the cell on, or None of what did not come from within it."""
    tb = _traceback.__get__(e)
    while tb is not None and not first(tb.tb_frame.f_code.co_filename):
        tb = tb.tb_next
    return tb
