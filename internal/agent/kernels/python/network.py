"""What cells are told about a network that there may not be."""

import os
from os import environ

from errors import name_of


def present():
    """Whether there is a network beyond this machine's own."""
    try:
        with open("/proc/net/dev") as f:
            names = {line.partition(":")[0].strip() for line in f if ":" in line}
    except OSError:
        return True
    return bool(names - {"lo"})


# pip asks its index five times and then says that there is no such package.
OFFLINE = "PIP_NO_INDEX"


def tell_pip():
    """Has pip not even try to reach an index that it cannot reach."""
    if present():
        environ.pop(OFFLINE, None)
    else:
        environ[OFFLINE] = "1"


def asks_index(code):
    """Whether code has pip do what asks an index; "pipeline" and "df.index" do not count."""
    import re  # which sessions need not load for this

    return re.search(r"(?s)\bpip3?\b.{0,80}?\b(install|download|wheel|index)\b", code)


def explain(kernel, code, failure):
    """Says why pip could not get something, whether a command or a call of a cell ran it."""
    failed = failure is not None and name_of(failure) in ("CalledProcessError", "SystemExit") or kernel.commands and kernel.ns.get("_exit_code")
    if failed and OFFLINE in environ and asks_index(code):
        kernel.say("This session has no network, so pip cannot download packages. Upload wheels to /mnt/data and install "
                   "them with: %pip install /mnt/data/NAME.whl\n")
