"""What goes over the wire, as values; nothing here waits for anything."""

import base64
import functools
import importlib
import json
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import quote

import httpx

API_VERSION = "2025-10-02-preview"
# The time that is added to an execution's own: for the claim, and the way there and back.
GRACE = 45.0
# The longest execution of a server as it comes, which is that of one without a timeout.
LONGEST = 220.0
# Seconds to wait before a stream that broke off is taken up again, while nothing comes of it: long
# enough for a server that restarts.
PAUSES = (0.0, 0.2, 0.5, 1.0, 2.0, 4.0)

Token = str | Callable[[], str]
# A value of the header traceparent of W3C Trace Context, or a function that returns the present one.
Traceparent = str | Callable[[], str]


class SandpoolError(Exception):
    """The server has refused a request, or could not serve it."""

    def __init__(
        self, message: str, *, status: int = 0, code: str = "", trace_id: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.trace_id, self.retry_after = status, code, trace_id, retry_after

    def __str__(self) -> str:
        more = [part for part in (self.code, f"trace id {self.trace_id}" if self.trace_id else "") if part]
        return super().__str__() + (f" ({', '.join(more)})" if more else "")


class PoolFull(SandpoolError):
    """The pool has as many sessions as it may have; retry_after says when to try again."""


class SessionEnded(SandpoolError):
    """The session ended under the call, or was lost: its variables and files are gone."""


class Unreachable(SandpoolError):
    """The server has not answered."""


class ExecutionFailed(Exception):
    """The code did not succeed; result says how it went."""

    def __init__(self, result: "Result") -> None:
        super().__init__(f"{result.error_name or 'failed'}: {result.error_message or result.status}")
        self.result = result


@dataclass(frozen=True)
class Image:
    """A figure. format is "png", "jpeg", "svg", "gif" or "webp"."""

    format: str
    data: bytes

    @property
    def mime(self) -> str:
        return "image/svg+xml" if self.format == "svg" else f"image/{self.format}"

    @property
    def url(self) -> str:
        """The image as a data URL."""
        return f"data:{self.mime};base64,{base64.b64encode(self.data).decode()}"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        """Notebooks show the figure."""
        svg = self.format == "svg"
        return {self.mime: self.data.decode() if svg else base64.b64encode(self.data).decode()}


@dataclass(frozen=True)
class Result:
    """How an execution went."""

    id: str
    status: str
    stdout: str = ""
    stderr: str = ""
    value: Any = None
    images: tuple[Image, ...] = ()
    displays: tuple[Mapping[str, str], ...] = ()
    error_name: str = ""
    error_message: str = ""
    exit_code: int | None = None
    state_lost: bool = False
    milliseconds: int = 0

    @property
    def ok(self) -> bool:
        return self.status in ("Succeeded", "0")

    def check(self) -> "Result":
        """Returns the result, or raises ExecutionFailed."""
        if not self.ok:
            raise ExecutionFailed(self)
        return self

    def text(self, longest: int = 20_000) -> str:
        """What a model reads: the output, the value and the error. The middle of more than longest
        characters is left out."""
        value = self.value if isinstance(self.value, str) else json.dumps(self.value)
        parts = [self.stdout, self.stderr, "" if self.value is None else value]
        if not self.ok and not self.stderr:
            parts.append(f"{self.error_name or self.status}: {self.error_message}")
        if self.exit_code:
            parts.append(f"exit code {self.exit_code}")
        if self.images:
            parts.append(f"figures: {len(self.images)}")
        if self.state_lost:
            parts.append("The variables are lost; files are kept.")
        whole = "\n".join(part.rstrip("\n") for part in parts if part) or "no output"
        if len(whole) <= longest:
            return whole
        half = longest // 2
        return f"{whole[:half]}\n[{len(whole) - 2 * half} characters left out]\n{whole[-half:]}"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        """Notebooks show the first figure, or else the value or the output."""
        shown: dict[str, Any] = {"text/plain": self.text()}
        for image in self.images[:1]:
            shown |= image._repr_mimebundle_()
        return shown


@dataclass(frozen=True)
class Event:
    """A part of a running execution; docs/executions.md lists the types. The last has the result."""

    type: str
    sequence: int = 0
    text: str = ""
    status: str = ""
    data: Mapping[str, str] = field(default_factory=dict)
    display_id: str = ""
    wait: bool = False
    result: Result | None = None


@dataclass(frozen=True)
class File:
    """A file or a directory of a session; path is from /mnt/data."""

    name: str
    path: str
    type: str
    size: int
    modified: str
    content_type: str


@dataclass(frozen=True)
class Request:
    """What is asked of the server."""

    method: str
    path: str
    params: dict[str, str] = field(default_factory=dict)
    body: dict[str, Any] | None = None
    content: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    timeout: float = 60.0
    traceparent: str | None = None


def new_identifier() -> str:
    return f"py-{uuid.uuid4()}"


def execution(
    identifier: str, code: str, timeout: float | None, shell: bool, traceparent: str | None, live: str = ""
) -> Request:
    """The request that runs code; live is the id of one whose events are read."""
    body: dict[str, Any] = {"shellCommand" if shell else "code": code}
    if timeout is not None:
        body["timeoutInSeconds"] = max(1, round(timeout))
    headers = {"Accept": "application/x-ndjson", "Operation-Id": live} if live else {}
    patience = (timeout if timeout is not None else LONGEST) + LONGEST + GRACE
    return Request(
        "POST", "executions", {"identifier": identifier}, body, headers=headers, timeout=patience,
        traceparent=traceparent,
    )


def events_after(identifier: str, execution_id: str, after: int, traceparent: str | None) -> Request:
    params = {"identifier": identifier, "after": str(after)}
    headers = {"Accept": "application/x-ndjson"}
    return Request(
        "GET", f"executions/{execution_id}", params, headers=headers, timeout=2 * LONGEST + GRACE,
        traceparent=traceparent,
    )


def cancellation(identifier: str, execution_id: str, traceparent: str | None) -> Request:
    return Request("DELETE", f"executions/{execution_id}", {"identifier": identifier}, traceparent=traceparent)


def ending(identifier: str) -> Request:
    return Request("DELETE", "session", {"identifier": identifier})


def upload(identifier: str, path: str, data: bytes) -> Request:
    # The form is written here: httpx would write a quote in the name as "%22".
    boundary = uuid.uuid4().hex
    name = re.sub(r'([\\"])', r"\\\1", path).replace("\r", "%0D").replace("\n", "%0A")
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    content = b"".join((head.encode(), data, f"\r\n--{boundary}--\r\n".encode()))
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    return Request("POST", "files", {"identifier": identifier}, content=content, headers=headers, timeout=900.0)


def download(identifier: str, path: str) -> Request:
    return Request("GET", f"files/{quote(path, safe='')}/content", {"identifier": identifier}, timeout=900.0)


def listing(identifier: str, path: str, recursive: bool) -> Request:
    params = {"identifier": identifier, "path": path, "recursive": str(recursive).lower()}
    return Request("GET", "files", params)


def removal(identifier: str, path: str) -> Request:
    return Request("DELETE", f"files/{quote(path, safe='')}", {"identifier": identifier})


def result_of(answer: Mapping[str, Any]) -> Result:
    """The result that an answer, or the last event of a stream, has."""
    inner = cast(Mapping[str, Any], answer.get("result") or {})
    value = inner.get("executionResult")
    images = tuple(_image(i) for i in inner.get("images") or ())
    if isinstance(value, dict) and value.get("type") == "image" and "base64_data" in value:
        images = images or (_image(value),)
        value = None
    failure = cast(Mapping[str, Any], (answer.get("error") or {}).get("error") or {})
    return Result(
        id=answer.get("id", ""),
        status=answer.get("status", ""),
        stdout=inner.get("stdout", ""),
        stderr=inner.get("stderr", ""),
        value=None if value == "" else value,
        images=images,
        displays=tuple(inner.get("displayData") or ()),
        error_name=inner.get("errorName") or failure.get("code", ""),
        error_message=inner.get("errorMessage") or failure.get("message", ""),
        exit_code=answer.get("exitCode"),
        state_lost=bool(inner.get("stateLost")),
        milliseconds=inner.get("executionTimeInMilliseconds", 0),
    )


def _image(i: Mapping[str, Any]) -> Image:
    return Image(str(i["format"]), base64.b64decode(i["base64_data"]))


def event_of(line: str) -> Event:
    e = cast(dict[str, Any], json.loads(line))
    if e["type"] == "error":
        failure = e.get("error") or {}
        raise SandpoolError(failure.get("message", "The stream cannot go on."), code=failure.get("code", ""))
    return Event(
        type=e["type"],
        sequence=e.get("sequence", 0),
        text=e.get("text", ""),
        status=e.get("status", ""),
        data=e.get("data") or {},
        display_id=e.get("displayId", ""),
        wait=bool(e.get("wait")),
        result=result_of(e["execution"]) if e["type"] == "result" else None,
    )


def files_of(answer: Mapping[str, Any]) -> list[File]:
    return [
        File(
            name=f["name"],
            path="/".join(part for part in (f.get("directory", ""), f["name"]) if part),
            type=f["type"],
            size=f.get("sizeInBytes", 0),
            modified=f["lastModifiedAt"],
            content_type=f.get("contentType", ""),
        )
        for f in answer["value"]
    ]


def error_of(response: httpx.Response) -> SandpoolError:
    """What an answer that is no success says; its body has been read."""
    try:
        detail = response.json()["error"]
    except (ValueError, KeyError, TypeError):
        detail = {}
    code = detail.get("code") or response.headers.get("x-ms-error-code", "")
    after = response.headers.get("retry-after", "")
    kind = {"SessionPoolMaxSessionsReached": PoolFull, "SessionEnded": SessionEnded}.get(code, SandpoolError)
    return kind(
        detail.get("message") or f"The server has answered {response.status_code}.",
        status=response.status_code,
        code=code,
        trace_id=detail.get("traceId") or response.headers.get("x-ms-request-id", ""),
        retry_after=float(after) if after.isdigit() else None,
    )


def broken_off(e: Exception) -> bool:
    """Whether a stream may go on after e: the connection broke, or the server is starting."""
    return isinstance(e, (httpx.HTTPError, Unreachable)) or isinstance(e, SandpoolError) and e.status in (502, 503)


def unreachable(endpoint: str, e: httpx.HTTPError) -> Unreachable:
    return Unreachable(f"No answer from {endpoint}: {e or type(e).__name__}.", code="Unreachable")


@functools.cache
def _inject() -> Callable[[dict[str, str]], None] | None:
    """What adds OpenTelemetry's present span to headers, if that is installed. It adds trace context
    alone: baggage may hold what is not for a server."""
    try:
        module = importlib.import_module("opentelemetry.trace.propagation.tracecontext")
    except ImportError:
        return None
    return cast(Callable[[dict[str, str]], None], module.TraceContextTextMapPropagator().inject)


def trace_headers(given: Traceparent | None) -> dict[str, str]:
    """The headers that make the server's spans parts of the caller's trace."""
    text = given() if callable(given) else given
    if text:
        return {"traceparent": text}
    headers: dict[str, str] = {}
    if inject := _inject():
        inject(headers)
    return headers


def arguments(endpoint: str, token: Token, r: Request, trace: Traceparent | None = None) -> dict[str, Any]:
    """The arguments of httpx for a request."""
    text = token() if callable(token) else token
    return {
        "method": r.method,
        "url": endpoint.rstrip("/") + "/" + r.path,
        "params": {"api-version": API_VERSION, **r.params},
        "json": r.body,
        "content": r.content,
        "headers": {"Authorization": f"Bearer {text}", **trace_headers(r.traceparent or trace), **r.headers},
        "timeout": httpx.Timeout(30.0, read=r.timeout, write=r.timeout),
    }
