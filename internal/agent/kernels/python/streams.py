"""sys.stdout and sys.stderr of the kernel.

Both are pipes that the agent empties, because child processes and C code write
to them too. A system call for each print would cost a hundred times what print
costs, so text is gathered first, in memory that the agent shares: what a kernel
leaves there when it ends, the agent takes. Nothing is lost, whatever ends it.

What is gathered moves into the pipe
  - with each line, as long as lines do not come too quickly (PACE);
  - with each line, while there may be child processes, which write there too;
  - before anything else can write there: see order.py;
  - with flush(), when it is too much, and at the end of a cell.
While somebody watches a cell, the agent also takes what has waited a while.

Lines that come quickly are only put into the memory (writer): that is most of
what they cost. What else there is to a line is done by Port.add.

Lines are whole. print() writes a line in pieces; between them another thread
may want to print, and waits until the line ends, or for STEP at most.

The interpreter switches threads and runs signal handlers where something is
called or a loop begins anew, and nowhere else. A window of the memory is a
mmap, of which write() adds at the end in one step. A window is emptied when the
other one has taken its place, in one step too.
"""

from _thread import RLock, get_ident
from _thread import _count as count_threads
from errno import EAGAIN, EBADF, EINTR
from fcntl import F_DUPFD_CLOEXEC, F_SETFL, LOCK_EX, LOCK_UN, fcntl, lockf
from io import BufferedWriter, FileIO, TextIOWrapper
from mmap import mmap
from os import WEXITED, WNOHANG, WNOWAIT, P_ALL, close, dup, dup2, waitid, write
from select import select
from time import perf_counter_ns as clock
from time import sleep

HEADER = 4096  # bytes of an area before its windows: three numbers of 8 bytes
WINDOW = 32 << 10  # bytes of a window
AREA = HEADER + 2 * WINDOW  # bytes of the area of one stream
END = b"\xff"  # follows the text of a window; UTF-8 has no such byte
BLANK = END * WINDOW
SPARE_FD = 701  # and on: beyond what a cell closes by habit
PACE = 10_000_000  # ns between lines that go into the pipe at once, on average
AHEAD = 32 * PACE  # so many of them may come in a row
STEP = 5_000_000  # ns that a line of one thread keeps the others waiting
LOOK = 10_000_000  # ns between looks for child processes
LEAST = 512  # bytes that quick lines may be before the pace is looked at again, at first


class Pipe(FileIO):
    """A descriptor that is written whole.

    It survives a child that made the shared pipe non-blocking, and a cell
    that closed descriptor 1 or 2.
    """

    def __init__(self, fd, name):
        super().__init__(fd, "wb", closefd=False)
        self.name = name
        self.number = fd
        self.spare = fcntl(fd, F_DUPFD_CLOEXEC, SPARE_FD)
        self.port = None

    def write(self, data):
        self.port.drain()
        view = memoryview(data).cast("B")
        total = len(view)
        while view:
            view = view[self.some(view):]
        return total

    def some(self, view):
        """Writes something of view; returns 0 if it has to be called again."""
        try:
            return write(self.number, view)
        except OSError as e:
            if e.errno == EAGAIN:
                select([], [self.number], [])
            elif e.errno == EBADF:
                dup2(self.spare, self.number)
            elif e.errno != EINTR:
                raise
        return 0


class Port(BufferedWriter):
    """What is gathered for one pipe.

    It is what sys.stdout.buffer is in other interpreters, and never closed: it
    is the descriptor's, which outlives whatever wraps it.
    """

    def __init__(self, fd, name, shared, offset):
        pipe = Pipe(fd, name)
        super().__init__(pipe)
        self.pipe = pipe
        pipe.port = self
        self.locked = shared  # the descriptor of the memory, locked while the agent takes text of a running cell
        self.due = 0  # when the next line may go into the pipe, by PACE
        self.crowd = False  # there may be child processes
        self.looked = 0  # when they were looked for
        self.direct = False  # each line goes into the pipe at once
        self.allowance = LEAST  # bytes of a window that are used
        self.began = 0  # when lines began to come quickly
        self.quick = False  # they do
        self.counts = []
        self.writing = 0  # the thread that moves text into the pipe
        self.turn = RLock()
        self.live = False
        self.before = None  # called before text is added while live
        self.errors = None  # of an encoding
        (self.quick_write, self.use, self.set_quick, self.set_threads, self.claim, self.release) = writer(self)
        starts = (offset + HEADER, offset + HEADER + WINDOW)
        self.room(memoryview(mapped(shared, HEADER, offset)), [mapped(shared, WINDOW, start) for start in starts])

    def room(self, header, windows):
        self.header = header[:24].cast("Q")  # which window is in use, and where the text of each starts
        self.windows = windows
        self.views = [memoryview(window) for window in windows]
        for number, view in enumerate(self.views):
            view[:] = BLANK
            self.reset(number)
        self.use(0)

    def reset(self, number):
        start = WINDOW - self.allowance
        self.windows[number].seek(start)
        self.header[1 + number] = start

    def write_text(self, text):
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        self.add(str.encode(text, "utf-8", self.errors), text[-1:] == "\n")
        return len(text)

    def add(self, data, over):
        """Adds bytes; over says that a line ends with them."""
        if self.live:
            self.before(self)
        me = get_ident()
        while True:
            owner = self.claim(me)
            if owner == me:
                break
            self.wait(owner, me)
        try:
            self.windows[self.header[0]].write(data)
        except ValueError:
            self.much(data)
        if not over:
            return
        self.release(me)
        if self.quick:
            return
        now = clock()
        due = self.due
        if due < now:
            due = now
        if due - now <= AHEAD:
            self.due = due + PACE
            self.drain()
        elif self.direct or self.crowd and self.accompanied(now):
            self.drain()
        else:
            self.began = now
            self.set_quick(True)

    def much(self, data):
        """Adds what does not fit."""
        if self.quick:
            now = clock()
            if now - self.began < PACE:
                self.allowance = min(2 * self.allowance, WINDOW)
                self.began = now
            else:
                self.calm()
        self.drain()
        try:
            self.windows[self.header[0]].write(data)
        except ValueError:
            self.pipe.write(data)

    def calm(self):
        """Has each line looked at."""
        self.set_quick(False)
        self.allowance = LEAST

    def wait(self, owner, me):
        """Waits until the line of another thread is over, or seems to be left as it is."""
        end, until = self.end(), clock() + STEP
        while self.claim(me) == owner and self.end() == end:
            if clock() > until:
                self.release(owner)
                return
            sleep(0.0001)

    def end(self):
        number = self.header[0]
        return number, self.windows[number].tell()

    def accompanied(self, now):
        """Whether there are child processes."""
        if now - self.looked > LOOK:
            self.looked = now
            try:
                waitid(P_ALL, 0, WEXITED | WNOHANG | WNOWAIT)
            except OSError:
                self.crowd = False
        return self.crowd

    def drain(self):
        """Moves what is gathered into the pipe."""
        header = self.header
        one, two = self.windows
        if one.tell() == header[1] and two.tell() == header[2]:
            return
        me = get_ident()
        if self.writing == me:  # a signal handler prints while we write
            return
        with self.turn:
            self.writing = me
            try:
                if self.live:
                    lockf(self.locked, LOCK_EX)
                used = header[0]
                self.move(1 - used)  # what was left there when this was interrupted
                self.use(1 - used)
                self.move(used)
            finally:
                if self.live:
                    lockf(self.locked, LOCK_UN)
                self.writing = 0

    def move(self, number):
        """Moves what is in a window that is not in use into the pipe."""
        counts, header, place = self.counts, self.header, 1 + number
        view, end = self.views[number], self.windows[number].tell()
        try:
            while True:
                while counts:
                    header[place] += counts[0]
                    del counts[0]
                start = header[place]
                if start >= end:
                    break
                counts.extend(map(self.pipe.some, (view[start:end],)))
        finally:
            while counts:
                header[place] += counts[0]
                del counts[0]
        view[:end] = BLANK[:end]
        self.reset(number)

    def part(self):
        """Makes this process, which a cell forked, one that shares nothing with its parent."""
        self.turn = RLock()
        self.release(self.claim(0))
        self.writing = 0
        self.counts = []
        self.live = False
        self.direct = self.crowd = True
        self.looked = 1 << 62
        self.calm()
        self.set_threads(False)
        kept.append(self.windows)
        self.room(memoryview(bytearray(HEADER)), [mmap(-1, WINDOW) for _ in range(2)])

    # What io.BufferedWriter has.

    def write(self, data):
        data = bytes(data)
        if END in data:
            if self.live:
                self.before(self)
            self.pipe.write(data)
        else:
            self.add(data, data.endswith(b"\n"))
        return len(data)

    def flush(self):
        self.release(get_ident())  # a line that is left as it is
        if self.live:
            self.before(self)
        self.drain()

    def close(self):
        self.flush()


def writer(port):
    """Returns a function that writes text to a port, and functions that say how.

    What they share are variables of this function: attributes would cost as much as the rest.
    """
    put = None
    quick = threads = False
    owner = 0  # the thread whose line is not over

    def write(text):
        nonlocal owner
        if quick:
            try:
                data = text.encode()
                if threads:
                    me = get_ident()
                    if not owner or owner == me:
                        owner = me
                        put(data)
                        if text == "\n" or text[-1:] == "\n":
                            owner = 0
                        return len(text)
                else:
                    put(data)
                    return len(text)
            except (ValueError, TypeError, AttributeError):  # no room, half a surrogate pair, no text
                pass
        return port.write_text(text)

    def use(number):
        nonlocal put
        put = port.windows[number].write
        port.header[0] = number

    def set_quick(on):
        nonlocal quick
        port.quick = quick = on

    def set_threads(on):
        nonlocal threads
        threads = on

    def claim(me):
        """Returns the thread whose line is not over, which is me if no other's is not."""
        nonlocal owner
        owner = owner or me
        return owner

    def release(whose):
        nonlocal owner
        if owner == whose:
            owner = 0

    return write, use, set_quick, set_threads, claim, release


class Stream(TextIOWrapper):
    """Text for a port."""

    def __init__(self, port):
        super().__init__(port, "utf-8", "backslashreplace", line_buffering=port.pipe.number == 2)
        self.mode = "w"
        self.port = port
        self.write = port.quick_write
        port.errors = self.errors

    def write(self, text):
        """Writes text in the ways of which Port knows nothing."""
        count = super().write(text)
        super().flush()
        return count

    def flush(self):
        self.port.flush()

    def reconfigure(self, **options):
        super().reconfigure(**options)
        vars(self).pop("write", None)
        if self.encoding.lower() in ("utf-8", "utf8") and options.get("newline") in (None, "", "\n"):
            self.write = self.port.quick_write
            self.port.errors = self.errors


class Outputs:
    """Both streams of the kernel."""

    def __init__(self, shared):
        self.ports = [Port(fd, name, shared, offset) for fd, name, offset in ((1, "<stdout>", 0), (2, "<stderr>", AREA))]

    def drain(self):
        for port in self.ports:
            port.drain()

    def calm(self):
        """Has each line looked at, until lines come quickly again."""
        for port in self.ports:
            port.calm()

    def begin(self):
        """Before a cell."""
        self.calm()
        self.threads(count_threads() > 0)

    def crowd(self):
        """Child processes may write to the pipes from now on."""
        for port in self.ports:
            port.crowd = True
            port.looked = 0
        self.calm()
        self.drain()

    def threads(self, on=True):
        """Other threads may print from now on."""
        for port in self.ports:
            port.set_threads(on)

    def part(self):
        for port in self.ports:
            port.part()

    def watch(self, settle):
        """Somebody watches the cell as it runs: settle() makes the order of the streams sure; None ends it."""
        for port in self.ports:
            port.live = settle is not None
            port.before = settle


kept = []  # what must not be taken down


def mapped(fd, size, offset):
    """Maps a part of a file, without a descriptor that cells would see."""
    try:
        return mmap(fd, size, offset=offset, trackfd=False)
    except TypeError:  # before Python 3.13: a mmap has a duplicate of fd, the lowest that is free
        number = dup(fd)
        close(number)
        kept.append(mmap(fd, size, offset=offset))
        close(number)
        return kept[-1]
