"""Drives our own client for Python against a real server: what its README says, and what goes wrong.

SANDPOOL_ENDPOINT and SANDPOOL_SHELL_ENDPOINT are pools, SANDPOOL_FULL_ENDPOINT is one without a free
session, and SANDPOOL_TOKEN is a token for them.
"""

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Coroutine
from typing import Any
from urllib.parse import urlsplit

import sandpool

ENDPOINT, FULL = os.environ["SANDPOOL_ENDPOINT"], os.environ["SANDPOOL_FULL_ENDPOINT"]
SHELL, TOKEN = os.environ["SANDPOOL_SHELL_ENDPOINT"], os.environ["SANDPOOL_TOKEN"]
SLOW = "import time\nfor i in range(5):\n    print('line', i, flush=True)\n    time.sleep(0.3)\n6 * 7"
LINES = "".join(f"line {i}\n" for i in range(5))


def equal(what: str, got: object, want: object) -> None:
    """Ends the script unless got is want."""
    if got != want:
        sys.exit(f"{what}: got {got!r}, want {want!r}")
    print(f"ok   {what}")


def said(events: list[sandpool.Event]) -> str:
    return "".join(e.text for e in events if e.type == "stdout")


class Forwarder:
    """A TCP proxy to the server, in a thread of its own, whose connections can be cut."""

    def __init__(self, endpoint: str) -> None:
        to = urlsplit(endpoint)
        self._to, self._open = (to.hostname, to.port), set[asyncio.StreamWriter]()
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        server = self._run(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.endpoint = endpoint.replace(f":{to.port}", f":{server.sockets[0].getsockname()[1]}", 1)

    def _run(self, c: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(c, self._loop).result()

    async def _serve(self, r: asyncio.StreamReader, w: asyncio.StreamWriter) -> None:
        up, down = await asyncio.open_connection(*self._to)
        self._open.update((w, down))
        await asyncio.gather(self._pour(r, down), self._pour(up, w))

    async def _pour(self, r: asyncio.StreamReader, w: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await r.read(65536):
                w.write(data)
                await w.drain()
        w.close()

    def cut(self) -> None:
        async def cut() -> None:
            for w in self._open:
                w.transport.abort()
            self._open.clear()

        self._run(cut())


def sync() -> None:
    with sandpool.Pool(ENDPOINT, lambda: TOKEN) as pool:
        with pool.session() as s:
            r = s.run("x = 6\nprint('hi')\nx * 7")
            equal("a value", (r.ok, r.value, r.stdout, r.images), (True, 42, "hi\n", ()))
            equal("state", s.run("x").check().value, 6)
            r = s.run("1/0")
            equal("an exception", (r.ok, r.error_name, "Traceback" in r.stderr), (False, "ZeroDivisionError", True))
            try:
                r.check()
            except sandpool.ExecutionFailed as e:
                equal("is raised when asked", e.result is r, True)
            else:
                sys.exit("check has not raised")
            r = s.run("import time; time.sleep(60)", timeout=1)
            equal("a timeout", (r.ok, r.error_name, s.run("x").value), (False, "Timeout", 6))
            r = s.run("import matplotlib.pyplot as plt; _ = plt.plot([1, 2])")
            equal("a figure", [(i.format, i.data[:4]) for i in r.images], [("png", b"\x89PNG")])
            equal("as notebooks show it", sorted(r._repr_mimebundle_()), ["image/png", "text/plain"])

            events = list(s.stream(SLOW))
            last = events[-1].result
            equal("a stream", (said(events), last is not None and last.value), (LINES, 42))
            for event in (stream := s.stream("import time\nprint('a', flush=True)\ntime.sleep(200)")):
                if event.text:
                    break
            stream.close()
            equal("a stream that is left", s.run("x").value, 6)

            name = 'a b/\u00e9"%.txt'
            s.write(name, "hello")
            equal("a file", (s.read(name), [f.path for f in s.files(recursive=True) if f.type == "file"]), (b"hello", [name]))
            big = os.urandom(20 << 20)
            s.write("big.bin", big)
            equal("a big file", s.read("big.bin") == big, True)
            s.remove("big.bin")
            try:
                s.read("big.bin")
            except sandpool.SandpoolError as e:
                equal("a file that is not there", (e.status, len(e.trace_id), e.code != ""), (404, 32, True))
            else:
                sys.exit("a file that is not there was read")
            name = s.identifier
        with pool.session(name) as s:
            equal("a session that has ended", s.run("'x' in globals()").value, "False")
            s.end()
            s.end()
    with sandpool.Pool(SHELL, TOKEN) as pool, pool.session(shell=True) as s:
        r = s.run("cd /tmp; echo out; echo err >&2; exit 3")
        equal("a command", (r.ok, r.stdout, r.stderr, r.exit_code), (False, "out\n", "err\n", 3))
        events = list(s.stream("for i in 1 2; do echo $i; done"))
        equal("a stream of one", said(events), "1\n2\n")
    for what, endpoint, token, kind, status in (
        ("a full pool", FULL, TOKEN, sandpool.PoolFull, (404, 429)),
        ("a wrong token", ENDPOINT, "nonsense", sandpool.SandpoolError, (401,)),
        ("a server that is away", "https://127.0.0.1:9", TOKEN, sandpool.Unreachable, (0,)),
    ):
        with sandpool.Pool(endpoint, token) as pool:
            try:
                pool.session("refused-1").run("1")
            except sandpool.SandpoolError as e:
                equal(f"{what}: {kind.__name__}: {e}", (type(e), e.status in status), (kind, True))
            else:
                sys.exit("nothing was refused")


def resumed() -> None:
    forwarder = Forwarder(ENDPOINT)
    with sandpool.Pool(forwarder.endpoint, TOKEN) as pool, pool.session() as s:
        events, cuts = [], 0
        for event in s.stream(SLOW):
            events.append(event)
            if event.text and cuts < 2:
                forwarder.cut()
                cuts += 1
        equal("a stream that broke off twice", (said(events), cuts), (LINES, 2))
        equal("without a gap", [e.sequence for e in events], list(range(1, len(events) + 1)))


async def concurrent() -> None:
    async with sandpool.AsyncPool(ENDPOINT, TOKEN) as pool:
        async with pool.session() as s:
            events = [e async for e in s.stream(SLOW)]
            equal("a stream with await", said(events), LINES)

            async def forever() -> None:
                async for _ in s.stream("import time\ntime.sleep(200)"):
                    pass

            task = asyncio.create_task(forever())
            await asyncio.sleep(0.5)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            equal("a task that is cancelled ends its code", (await s.run("6 * 7")).value, 42)
            await s.write("a.txt", b"hello")
            equal("files with await", (await s.read("a.txt"), [f.path for f in await s.files()]), (b"hello", ["a.txt"]))
            await s.remove("a.txt")

        async def one(i: int) -> Any:
            async with pool.session() as s:
                return (await s.run(f"{i} * 2")).value

        equal("ten sessions at once", await asyncio.gather(*(one(i) for i in range(10))), [2 * i for i in range(10)])


sync()
resumed()
asyncio.run(concurrent())
