"""The client for programs with an event loop: what _sync has, with await."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from types import TracebackType
from typing import Self

import httpx

from . import _wire as wire


class AsyncPool:
    """A session pool. endpoint is its poolManagementEndpoint; http, if given, makes the requests.
    traceparent is the trace that they belong to; without it, it is that of OpenTelemetry's present span,
    where that is installed."""

    def __init__(
        self,
        endpoint: str,
        token: wire.Token,
        *,
        http: httpx.AsyncClient | None = None,
        traceparent: wire.Traceparent | None = None,
    ) -> None:
        self._endpoint, self._token, self._trace = endpoint, token, traceparent
        self._own, self._http = http is None, http or httpx.AsyncClient()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections; sessions go on."""
        if self._own:
            await self._http.aclose()

    def session(self, identifier: str | None = None, *, keep: bool | None = None, shell: bool = False) -> "AsyncSession":
        """The session of that name, or a new one. keep says whether it outlives its with block: by default
        one with a name does. shell says that the pool is one of type Shell."""
        named = identifier if identifier is not None else wire.new_identifier()
        return AsyncSession(self, named, keep if keep is not None else identifier is not None, shell)

    async def _ask(self, r: wire.Request) -> httpx.Response:
        try:
            response = await self._http.request(**wire.arguments(self._endpoint, self._token, r, self._trace))
        except httpx.HTTPError as e:
            raise wire.unreachable(self._endpoint, e) from e
        if not response.is_success:
            raise wire.error_of(response)
        return response

    async def _lines(self, r: wire.Request) -> AsyncGenerator[str, None]:
        async with self._http.stream(**wire.arguments(self._endpoint, self._token, r, self._trace)) as response:
            if not response.is_success:
                await response.aread()
                raise wire.error_of(response)
            async for line in response.aiter_lines():
                if line:
                    yield line


class AsyncSession:
    """A session of a pool, whose sandbox is claimed by the first call."""

    def __init__(self, pool: AsyncPool, identifier: str, keep: bool, shell: bool) -> None:
        self._pool, self.identifier, self._keep, self.shell = pool, identifier, keep, shell

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        if not self._keep:
            await self.end()

    async def run(self, code: str, timeout: float | None = None, *, traceparent: str | None = None) -> wire.Result:
        """Runs code and returns how it went. timeout is in seconds."""
        r = wire.execution(self.identifier, code, timeout, self.shell, traceparent)
        return wire.result_of((await self._pool._ask(r)).json())

    async def stream(
        self, code: str, timeout: float | None = None, *, traceparent: str | None = None
    ) -> AsyncGenerator[wire.Event, None]:
        """Runs code and yields its events as they happen. A loop that is left early cancels the code
        when the generator is closed (contextlib.aclosing)."""
        execution, last, tries, begun = wire.new_identifier(), 0, 0, False
        r = wire.execution(self.identifier, code, timeout, self.shell, traceparent, execution)
        done = False
        try:
            while not done:
                try:
                    async with contextlib.aclosing(self._pool._lines(r)) as lines:
                        async for line in lines:
                            begun = True
                            event = wire.event_of(line)
                            last, tries, done = event.sequence, 0, event.type == "result"
                            yield event
                except (httpx.HTTPError, wire.SandpoolError) as e:
                    if not begun or not wire.broken_off(e):
                        if isinstance(e, httpx.HTTPError):
                            raise wire.unreachable(self._pool._endpoint, e) from e
                        raise
                if done:
                    return
                if tries == len(wire.PAUSES):
                    raise wire.Unreachable("The stream broke off, again and again.", code="Unreachable")
                await asyncio.sleep(wire.PAUSES[tries])
                tries += 1
                r = wire.events_after(self.identifier, execution, last, traceparent)
        except (GeneratorExit, asyncio.CancelledError):
            if not done:
                with contextlib.suppress(wire.SandpoolError):
                    await self._pool._ask(wire.cancellation(self.identifier, execution, traceparent))
            raise

    async def write(self, path: str, data: bytes | str) -> None:
        """Writes a file; path is from /mnt/data."""
        await self._pool._ask(wire.upload(self.identifier, path, data.encode() if isinstance(data, str) else data))

    async def read(self, path: str) -> bytes:
        """Reads a file; path is from /mnt/data."""
        return (await self._pool._ask(wire.download(self.identifier, path))).content

    async def files(self, path: str = "", *, recursive: bool = False) -> list[wire.File]:
        """Lists a directory; path is from /mnt/data."""
        return wire.files_of((await self._pool._ask(wire.listing(self.identifier, path, recursive))).json())

    async def remove(self, path: str) -> None:
        """Removes a file, or a directory with all that is in it."""
        await self._pool._ask(wire.removal(self.identifier, path))

    async def end(self) -> None:
        """Ends the session and all that is in it. One that is not there is ended already."""
        try:
            await self._pool._ask(wire.ending(self.identifier))
        except wire.SandpoolError as e:
            if e.code not in ("SessionWithIdentifierNotFound", "SessionEnded"):
                raise
