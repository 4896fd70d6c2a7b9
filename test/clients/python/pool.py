"""What the client scripts share: where the pools are, and how to say what failed.

The environment says where: SANDPOOL_ENDPOINT is the management endpoint of a pool,
SANDPOOL_FULL_ENDPOINT that of one without a free session, SANDPOOL_ABSENT_ENDPOINT
leads to none, and SANDPOOL_TOKEN is a token that may execute in them. Nothing else about
a client is changed.
"""

import os
import sys
import time
import uuid


def setting(name):
    value = os.environ.get(name)
    if not value:
        sys.exit(f"set {name}")
    return value


ENDPOINT = setting("SANDPOOL_ENDPOINT")
FULL = setting("SANDPOOL_FULL_ENDPOINT")
ABSENT = setting("SANDPOOL_ABSENT_ENDPOINT")
TOKEN = setting("SANDPOOL_TOKEN")

# The codes of errors that clients pass on.
FULL_CODE = "SessionPoolMaxSessionsReached"
ABSENT_CODE = "SessionPoolNotFound"


def token():
    return TOKEN


def new_identifier():
    return f"client-{uuid.uuid4()}"


def equal(what, got, want):
    """Ends the script unless got is want."""
    if got != want:
        sys.exit(f"{what}: got {got!r}, want {want!r}")
    print(f"ok   {what}")


def holds(what, text, part):
    """Ends the script unless text contains part."""
    if part not in text:
        sys.exit(f"{what}: {part!r} is not in {text!r}")
    print(f"ok   {what}")


def raises(what, kind, call):
    """Returns the exception that call() raises, or ends the script unless it is of that kind."""
    try:
        got = call()
    except kind as e:
        print(f"ok   {what}: {type(e).__name__}")
        return e
    sys.exit(f"{what}: got {got!r}, want {kind.__name__}")


async def raises_async(what, kind, awaitable):
    """Is raises for an awaitable."""
    try:
        got = await awaitable
    except kind as e:
        print(f"ok   {what}: {type(e).__name__}")
        return e
    sys.exit(f"{what}: got {got!r}, want {kind.__name__}")


def eventually(what, call, want):
    """Ends the script unless call() is want within a minute."""
    end = time.monotonic() + 60
    while (got := call()) != want:
        if time.monotonic() > end:
            sys.exit(f"{what}: still {got!r} after a minute, want {want!r}")
        time.sleep(0.05)
    print(f"ok   {what}")
