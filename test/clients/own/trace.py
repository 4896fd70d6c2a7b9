"""Runs code as a part of traces of its own, and prints what the spans at the server must be parts of:
a name, a trace and a span, one of each a line. The variables are those of check.py. With the argument
"otel" the spans are OpenTelemetry's.
"""

import asyncio
import os
import secrets
import sys

import sandpool

ENDPOINT, TOKEN = os.environ["SANDPOOL_ENDPOINT"], os.environ["SANDPOOL_TOKEN"]


def made(name: str) -> str:
    """A new traceparent, which is printed."""
    trace, span = secrets.token_hex(16), secrets.token_hex(8)
    print("span", name, trace, span)
    return f"00-{trace}-{span}-01"


async def calls(name: str, given: bool) -> None:
    """Makes a call of each kind, of both clients."""
    with sandpool.Pool(ENDPOINT, TOKEN) as pool, pool.session() as s:
        s.run("1", traceparent=made(name + "-run") if given else None)
        for _ in s.stream("2", traceparent=made(name + "-stream") if given else None):
            pass
    async with sandpool.AsyncPool(ENDPOINT, TOKEN) as a, a.session() as t:
        await t.run("3", traceparent=made(name + "-async") if given else None)


def otel() -> None:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    trace.set_tracer_provider(TracerProvider())
    with trace.get_tracer("test").start_as_current_span("caller") as span:
        of = span.get_span_context()
        print("span", "otel", f"{of.trace_id:032x}", f"{of.span_id:016x}")
        asyncio.run(calls("otel", False))


def main() -> None:
    if sys.argv[1:] == ["otel"]:
        return otel()
    asyncio.run(calls("given", True))
    with sandpool.Pool(ENDPOINT, TOKEN, traceparent=lambda: made("pool")) as pool, pool.session() as s:
        s.run("4")
    asyncio.run(calls("none", False))  # nothing is made up


main()
