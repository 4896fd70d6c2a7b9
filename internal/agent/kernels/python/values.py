"""Turns values into text: their representations by MIME type, bounded."""

from base64 import b64encode

from IPython.lib.pretty import _repr_pprint

from errors import clip
from wire import dumps

MAX_MIME = 8 << 20  # characters of one representation
MAX_BUNDLE = 64  # representations of one value
PLAIN = frozenset((int, float, bool, str, bytes))


def encode(bundle):
    """Makes every representation a string of bounded size; drops what cannot be."""
    out = {}
    for mime, value in list(bundle.items())[:MAX_BUNDLE]:
        try:
            if isinstance(value, (bytes, bytearray)):
                value = b64encode(value).decode()
            elif not isinstance(value, str):
                value = dumps(value)
            value, mime = str.__str__(value), str.__str__(mime)
        except (TypeError, ValueError, RecursionError):
            continue
        if mime == "text/plain":
            out[mime] = clip(value)
        elif len(value) <= MAX_MIME:
            out[mime] = value
    return out


def represent(value, formatter):
    """Returns the representations of the value of a cell, or None."""
    if type(value) in PLAIN:  # no other representations
        plain = formatter.formatters["text/plain"]
        default = plain.type_printers.get(type(value)) is _repr_pprint
        return encode({"text/plain": repr(value) if default else plain(value)})
    return encode(formatter.format(value)[0]) or None
