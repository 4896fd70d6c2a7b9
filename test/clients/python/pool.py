"""What the client scripts share: where the pool is, and how to say what failed.

SANDPOOL_ENDPOINT is the pool's management endpoint, SANDPOOL_TOKEN a token that
may execute in it. Nothing else about a client is changed.
"""

import os
import sys
import uuid

ENDPOINT = os.environ.get("SANDPOOL_ENDPOINT", "")
TOKEN = os.environ.get("SANDPOOL_TOKEN", "")
if not ENDPOINT or not TOKEN:
    sys.exit("set SANDPOOL_ENDPOINT and SANDPOOL_TOKEN")


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
