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

Lines are whole. print() writes a line in pieces; between them another thread
may want to print, and waits until the line ends, or for STEP at most.

The interpreter switches threads and runs signal handlers where something is
called or a loop begins anew, and nowhere else. So the steps that read the end
of what is gathered, add to it and move the end, without a call, are one step.
"""

from _thread import RLock, get_ident
from errno import EAGAIN, EBADF, EINTR
from fcntl import F_DUPFD_CLOEXEC, F_SETFL, LOCK_EX, LOCK_UN, fcntl, lockf
from io import BufferedWriter, FileIO, TextIOWrapper
from os import WEXITED, WNOHANG, WNOWAIT, P_ALL, dup2, waitid, write
from select import select
from time import perf_counter_ns as clock
from time import sleep

HEADER = 4096  # bytes of an area before its text: where that starts and ends, 8 bytes each
AREA = 128 << 10  # bytes of the area of one stream
SPARE_FD = 701  # and on: beyond what a cell closes by habit
PACE = 10_000_000  # ns between lines that go into the pipe at once, on average
AHEAD = 32 * PACE  # so many of them may come in a row
STEP = 5_000_000  # ns that a line of one thread keeps the others waiting
LOOK = 10_000_000  # ns between looks for child processes


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

    def __init__(self, fd, name, shared, offset, lock):
        pipe = Pipe(fd, name)
        super().__init__(pipe)
        self.pipe = pipe
        pipe.port = self
        self.locked = lock  # the descriptor of the shared memory, while the agent takes text of a running cell
        self.room(memoryview(shared).cast("B")[offset:offset + AREA])
        self.due = 0  # when the next line may go into the pipe, by PACE
        self.owner = 0  # the thread whose line is not over
        self.crowd = False  # there may be child processes
        self.looked = 0  # when they were looked for
        self.direct = False  # each line goes into the pipe at once
        self.counts = []
        self.writing = 0  # the thread that moves text into the pipe
        self.turn = RLock()
        self.live = False
        self.before = None  # called before text is added while live

    def room(self, area):
        self.bounds = area[:16].cast("Q")  # start and end
        self.text = area[HEADER:]
        self.size = len(self.text)

    def add(self, data, over):
        """Adds bytes; over says that a line ends with them."""
        if self.live:
            self.before(self)
        size = len(data)
        me = get_ident()
        while True:
            if self.owner and self.owner != me:
                self.wait()
                continue
            bounds = self.bounds
            end = bounds[1]
            stop = end + size
            if stop > self.size:
                self.owner = me
                self.much(data)
                break
            self.text[end:stop] = data
            bounds[1] = stop
            self.owner = me
            break
        if not over:
            return
        self.owner = 0
        now = clock()
        due = self.due
        if due < now:
            due = now
        if due - now <= AHEAD:
            self.due = due + PACE
            self.drain()
        elif self.direct or self.crowd and self.accompanied(now):
            self.drain()

    def much(self, data):
        """Adds what does not fit."""
        self.drain()
        if len(data) > self.size // 2:
            self.pipe.write(data)
            return
        bounds = self.bounds
        size = len(data)
        end = bounds[1]
        if end + size > self.size:  # another thread was quicker
            self.pipe.write(data)
            return
        self.text[end:end + size] = data
        bounds[1] = end + size

    def wait(self):
        """Waits until the line of another thread is over, or seems to be left as it is."""
        owner, end, until = self.owner, self.bounds[1], clock() + STEP
        while self.owner == owner and self.bounds[1] == end:
            if clock() > until:
                self.owner = 0
                return
            sleep(0.0001)

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
        bounds = self.bounds
        if bounds[0] == bounds[1]:
            return
        me = get_ident()
        if self.writing == me:  # a signal handler prints while we write
            return
        with self.turn:
            self.writing = me
            try:
                if self.live:
                    lockf(self.locked, LOCK_EX)
                self.move()
            finally:
                if self.live:
                    lockf(self.locked, LOCK_UN)
                self.writing = 0

    def move(self):
        counts, bounds = self.counts, self.bounds
        while True:
            try:
                while True:
                    while counts:
                        bounds[0] += counts[0]
                        del counts[0]
                    start, end = bounds[0], bounds[1]
                    if start >= end:
                        if bounds[1] == end:
                            bounds[0] = bounds[1] = 0
                        return
                    counts.extend(map(self.pipe.some, (self.text[start:end],)))
            finally:
                while counts:
                    bounds[0] += counts[0]
                    del counts[0]

    def part(self):
        """Makes this process, which a cell forked, one that shares nothing with its parent."""
        self.room(memoryview(bytearray(HEADER + (8 << 10))))
        self.turn = RLock()
        self.owner = self.writing = 0
        self.counts = []
        self.live = False
        self.direct = self.crowd = True
        self.looked = 1 << 62

    # What io.BufferedWriter has.

    def write(self, data):
        data = bytes(data)
        self.add(data, data.endswith(b"\n"))
        return len(data)

    def flush(self):
        if self.owner == get_ident():
            self.owner = 0  # a line that is left as it is
        if self.live:
            self.before(self)
        self.drain()

    def close(self):
        self.flush()


class Stream(TextIOWrapper):
    """Text for a port."""

    def __init__(self, port):
        super().__init__(port, "utf-8", "backslashreplace", line_buffering=port.pipe.number == 2)
        self.mode = "w"
        self.port = port
        self.plain = True

    def write(self, text):
        if type(text) is str and self.plain:
            self.port.add(text.encode("utf-8", "backslashreplace"), text.endswith("\n"))
            return len(text)
        count = super().write(text)
        super().flush()
        return count

    def flush(self):
        self.port.flush()

    def reconfigure(self, **options):
        super().reconfigure(**options)
        self.plain = False


class Outputs:
    """Both streams of the kernel."""

    def __init__(self, shared, lock):
        self.ports = [Port(fd, name, shared, offset, lock)
                      for fd, name, offset in ((1, "<stdout>", 0), (2, "<stderr>", AREA))]

    def drain(self):
        for port in self.ports:
            port.drain()

    def crowd(self):
        """Child processes may write to the pipes from now on."""
        for port in self.ports:
            port.crowd = True
            port.looked = 0
        self.drain()

    def direct(self):
        """Something else in this process may write to the pipes from now on."""
        for port in self.ports:
            port.direct = True
        self.drain()

    def part(self):
        for port in self.ports:
            port.part()

    def watch(self, settle):
        """Somebody watches the cell as it runs: settle() makes the order of the streams sure; None ends it."""
        for port in self.ports:
            port.live = settle is not None
            port.before = settle
