"""Turns values into text: their representations by MIME type, bounded."""

import sys
from base64 import b64encode
from itertools import islice

from IPython.core.formatters import (
    HTMLFormatter, LatexFormatter, MarkdownFormatter, PlainTextFormatter, catch_format_error)
from IPython.core.getipython import get_ipython
from IPython.lib.pretty import RepresentationPrinter, _repr_pprint
from IPython.utils.dir2 import get_real_method

from bounds import MAX_TEXT, Room, TooMuch, Watch, clip
from errors import name_of
from wire import dumps

MAX_MIME = 8 << 20  # characters of one representation
MAX_BUNDLE = 64  # representations of one value
PATIENCE = 10.0  # seconds of processor time for a value's text, and for each of its other texts
MAX_CELLS = MAX_TEXT // 2  # more cells of a table have no room in a text
MAX_BITS = 1 << 25  # of a number whose digits are shown


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
    kind = type(value)
    if kind in PLAIN:  # no other representations
        plain = formatter.formatters["text/plain"]
        if plain.type_printers.get(kind) is PRINTERS.get(kind) and small(value, kind):
            return {"text/plain": clip(repr(value))}
        return encode({"text/plain": plain(value)})
    return encode(formatter.format(value)[0]) or None


def small(value, kind):
    """Whether a value of a plain type can be shown whole at little cost."""
    if kind is int:
        return value.bit_length() <= MAX_BITS
    return kind in (bool, float) or len(value) <= MAX_TEXT  # a cell may take IPython's printer of float away


def long_pprint(obj, p, cycle):
    """Shows the beginning of a text that is long."""
    if len(obj) <= MAX_TEXT:
        return _repr_pprint(obj, p, cycle)
    head = repr(obj[:MAX_TEXT])
    kept = MAX_TEXT - 256
    p.end(f"{head[:kept]}\n[... about {(len(head) - 2) * len(obj) // MAX_TEXT + 2 - kept} characters left out ...]")


def int_pprint(obj, p, cycle):
    if obj.bit_length() > MAX_BITS:
        return p.text(f"<a number of about {int(obj.bit_length() * 0.30103)} digits>")
    _repr_pprint(obj, p, cycle)


def view_pprint(obj, p, cycle):
    """Shows the beginning of a long view of a dict."""
    if not 0 < p.max_seq_length < len(obj):
        return _repr_pprint(obj, p, cycle)
    p.text(f"{type(obj).__name__}([")
    for item in islice(obj, p.max_seq_length):
        p.pretty(item)
        p.text(", ")
    p.text("...])")


def array_pprint(obj, p, cycle):
    """Shows an array as numpy does by itself where more of it is asked for than has room."""
    if obj.size <= MAX_CELLS:
        return _repr_pprint(obj, p, cycle)
    with sys.modules["numpy"].printoptions(threshold=1000):
        _repr_pprint(obj, p, cycle)


def short(frame):
    """Options of pandas under which a table or a column has room."""
    cells = len(frame) * (frame.shape[1] if frame.ndim > 1 else 1)
    if cells <= MAX_CELLS:
        return None
    pandas = sys.modules["pandas"]
    rows, columns = (pandas.get_option(f"display.max_{name}") for name in ("rows", "columns"))
    if 0 < (rows or cells) * (columns or cells) <= MAX_CELLS:
        return None
    return pandas.option_context("display.max_rows", 60, "display.max_columns", 20)


def frame_pprint(obj, p, cycle):
    options = short(obj)
    if options is None:
        return _repr_pprint(obj, p, cycle)
    with options:
        _repr_pprint(obj, p, cycle)


def frame_html(obj):
    options = short(obj)
    if options is None:
        return obj._repr_html_()
    with options:
        return obj._repr_html_()


PLAIN = frozenset((int, float, bool, str, bytes))
# A float has what %precision says, and a bool the printer of int.
PRINTERS = {int: int_pprint, str: long_pprint, bytes: long_pprint}


class Printer(RepresentationPrinter):
    """A printer that writes into a Room."""

    def end(self, text):
        """Writes the last text of all, which says itself that it is not the end."""
        self.flush()
        self.output.write(text)
        raise Ended


class Ended(TooMuch):
    """A text says itself that it is not whole."""


class Plain(PlainTextFormatter):
    """Shows values as text, and of what is large the beginning."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.type_printers.update(PRINTERS)
        self.type_printers[bytearray] = long_pprint
        for view in ({}.keys(), {}.values(), {}.items()):
            self.type_printers[type(view)] = view_pprint
        self.for_type_by_name("numpy", "ndarray", array_pprint)
        for module, name in FRAMES:
            self.for_type_by_name(module, name, frame_pprint)

    def __call__(self, obj):
        room = Room()
        try:
            with Watch(PATIENCE):
                return self.draw(obj, room)
        except Ended:
            return room.text()
        except TooMuch as why:
            if room.parts:
                return room.ended(why)
            return f"<{name_of(obj)} object: its text is left out, since {why}>"

    @catch_format_error
    def draw(self, obj, room):
        if not self.pprint:
            return repr(obj)
        printer = Printer(
            room, self.verbose, self.max_width, self.newline, max_seq_length=self.max_seq_length,
            singleton_pprinters=self.singleton_printers, type_pprinters=self.type_printers,
            deferred_pprinters=self.deferred_printers)
        printer.pretty(obj)
        printer.flush()
        return room.text()


# pandas has told its own name of the module since version 3.
FRAMES = [(module, name) for modules, name in ((("pandas", "pandas.core.frame"), "DataFrame"),
                                               (("pandas", "pandas.core.series"), "Series")) for module in modules]


class Watched:
    """What a formatter of texts other than plain ones has besides."""

    def __call__(self, obj):
        try:
            self.lookup(obj)
        except KeyError:
            if get_real_method(obj, self.print_method) is None:
                return None
        try:
            with Watch(PATIENCE):
                return super().__call__(obj)
        except TooMuch as why:
            get_ipython().kernel.say(f"The value's {self.format_type} is left out: {why}.\n")
            return None


def bound(formatter):
    """Bounds the texts that a formatter makes. Pictures take what time the cell has."""
    for base in (HTMLFormatter, MarkdownFormatter, LatexFormatter):
        ours = type(base.__name__, (Watched, base), {})(parent=formatter)
        formatter.formatters[ours.format_type] = ours
    for module, name in FRAMES:
        if name == "DataFrame":
            formatter.formatters["text/html"].for_type_by_name(module, name, frame_html)
    plain = Plain(parent=formatter)
    formatter.formatters[plain.format_type] = plain
