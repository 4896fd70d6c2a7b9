"""Bounds what is said of values and exceptions: characters, processor time, memory.

What a cell made may be of any size, and so is its text: a list of lists of lists,
a table whose options ask for all rows, a __repr__ that never returns. More than
MAX_TEXT characters nobody sees. So a text is not made whole and cut afterwards:
whoever makes one writes into a Room, which is full in time, within a Watch,
which ends what has no room to write to.
"""

from _signal import ITIMER_VIRTUAL, SIGVTALRM, getsignal, setitimer
from _signal import signal as set_handler
from os import O_CLOEXEC, O_RDONLY, close, read, sysconf
from os import open as open_file
from time import thread_time

MAX_TEXT = 1 << 20  # characters of a text: a value's, a message, a traceback
TICK = 0.05  # seconds of processor time between two looks
MAX_GROWTH = 256 << 20  # bytes of memory
PAGE = sysconf("SC_PAGE_SIZE")


class TooMuch(BaseException):
    """What is made has met a bound."""


def clip(text):
    """Bounds a text; one that is cut says so at its end, as cut output does."""
    if len(text) <= MAX_TEXT:
        return text
    kept = MAX_TEXT - 64
    return f"{text[:kept]}\n[... {len(text) - kept} characters left out ...]"


def clip_middle(text):
    """Bounds a text whose end matters."""
    if len(text) <= MAX_TEXT:
        return text
    half = MAX_TEXT // 2 - 64
    return f"{text[:half]}\n[... {len(text) - 2 * half} characters left out ...]\n{text[-half:]}"


class Room:
    """Takes a text in parts until it is as long as a text may be."""

    def __init__(self):
        self.parts = []
        self.left = MAX_TEXT

    def write(self, text):
        self.parts.append(text)
        self.left -= len(text)
        if self.left < 0:
            raise TooMuch(f"a text has at most {MAX_TEXT} characters")

    def text(self):
        return "".join(self.parts)

    def ended(self, why):
        """The text so far, and why it is not whole."""
        return f"{self.text()[:MAX_TEXT - 256]}\n[... the rest is left out: {why} ...]"


class Watch:
    """Bounds the processor time of this thread and the growth of memory, unless a cell uses the same timer.

    C code that goes through a container lets signal handlers run at each element.
    """

    def __init__(self, seconds):
        self.seconds = seconds
        self.start = self.most = None
        self.on = False

    def __enter__(self):
        self.handler = getsignal(SIGVTALRM)
        try:
            set_handler(SIGVTALRM, self.look)
        except ValueError:  # another thread than the main one
            return
        self.on = True
        self.rest = setitimer(ITIMER_VIRTUAL, TICK, TICK)

    def look(self, signum, frame):
        if not self.on:
            return
        if self.start is None:
            self.start, self.most = thread_time() - TICK, resident() + MAX_GROWTH
        elif thread_time() - self.start > self.seconds:
            raise TooMuch(f"it takes more than {self.seconds:g} seconds of processor time")
        elif resident() > self.most:
            raise TooMuch(f"it takes more than {MAX_GROWTH >> 20} MiB of memory")

    def __exit__(self, *_):
        if not self.on:
            return
        self.on = False
        setitimer(ITIMER_VIRTUAL, *self.rest)
        if self.handler is not None:
            set_handler(SIGVTALRM, self.handler)


def resident():
    """The bytes of memory that this process has."""
    try:
        fd = open_file("/proc/self/statm", O_RDONLY | O_CLOEXEC)
        try:
            return int(read(fd, 100).split()[1]) * PAGE
        finally:
            close(fd)
    except OSError:  # a cell has opened all the files that it may
        return 0
