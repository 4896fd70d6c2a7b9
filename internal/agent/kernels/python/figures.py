"""Shows the figures of matplotlib, and the pictures of Pillow.

With the inline backend, the default, IPython's own package does it. Cells
choose others, most of all "agg", which draws and shows nothing. So whatever
backend draws without a screen shows its figures here: at plt.show(), and at the
end of a cell those that are open. Pillow's show() prefers a program with a window
to IPython where it finds one, and is told otherwise.
"""

import sys
from functools import wraps
from importlib.machinery import PathFinder

from IPython.core.getipython import get_ipython

BASES = "matplotlib.backend_bases"
HELPERS = "matplotlib._pylab_helpers"
INLINE = "matplotlib_inline.backend_inline"
WEB = "matplotlib.backends.backend_webagg"
_traceback = BaseException.__dict__["__traceback__"]
WIDGETS = ("widget", "ipympl")  # matplotlib knows these names where ipympl is installed


def show_open(shell):
    """Shows and closes the open figures."""
    helpers = sys.modules.get(HELPERS)
    managers = helpers.Gcf.get_all_fig_managers() if helpers else ()
    if not managers:
        return
    from IPython.core.pylabtools import select_figure_formats
    from IPython.display import display
    from matplotlib.figure import Figure
    from matplotlib_inline.config import InlineBackend

    pictures = [f for mime, f in shell.display_formatter.formatters.items() if mime.startswith(("image/", "application/pdf"))]
    if not any(Figure in f.type_printers for f in pictures):
        cfg = InlineBackend.instance(parent=shell)
        select_figure_formats(shell, cfg.figure_formats, **cfg.print_figure_kwargs)
    try:
        for manager in managers:
            display(manager.canvas.figure)
    finally:
        helpers.Gcf.destroy_all()


def at_end(shell):
    """Shows what figures a cell has left open, unless the inline backend sees to them."""
    helpers = sys.modules.get(HELPERS)
    if helpers is None or not helpers.Gcf.figs:
        return
    backend = sys.modules["matplotlib"].rcParams._get("backend")
    if backend not in ("inline", "module://" + INLINE):
        show_open(shell)


def patch(bases):
    """Makes plt.show() show figures, whichever backend draws them without a screen."""
    base, backend = bases.FigureManagerBase, bases._Backend

    def without_screen(manager):
        return manager.start_main_loop.__func__ is base.start_main_loop.__func__

    replace(base, "pyplot_show", without_screen)
    replace(backend, "show", lambda cls: cls.mainloop is None)
    sys.modules.setdefault(WEB, None)  # a server for a browser, at which plt.show() would wait for ever


def replace(owner, name, ours):
    """Replaces a class method that shows all figures, for the classes that are ours to show."""
    general = vars(owner)[name].__func__

    @wraps(general)
    def show(cls, *, block=None):
        shell = get_ipython()
        if shell is None or not ours(cls):
            return general(cls, block=block)
        return show_open(shell)

    setattr(owner, name, classmethod(show))


def prefer_ipython(show):
    """Lets Pillow's Image.show() show the picture in the answer."""
    getattr(show, "_viewers", []).sort(key=lambda viewer: type(viewer).__name__ != "IPythonViewer")


class Watcher:
    """Patches a module once it is imported. It is in sys.meta_path until then."""

    def __init__(self, name, patch):
        self.name, self.patch = name, patch

    def find_spec(self, name, path=None, target=None):
        if name != self.name:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module):
                execute(module)
                self.patch(module)

            spec.loader.exec_module = exec_module
        return spec


def watch():
    sys.meta_path[:0] = Watcher(BASES, patch), Watcher("PIL.ImageShow", prefer_ipython)


def saying(e):
    """Says in one line that a backend needs a screen."""
    kind = type(e)
    if not issubclass(kind, (ImportError, RuntimeError, ValueError)):
        return None
    tb = _traceback.__get__(e)
    while tb is not None:
        code, names = tb.tb_frame.f_code, tb.tb_frame.f_locals
        name = None
        if issubclass(kind, ImportError):
            if code.co_name == "switch_backend" and code.co_filename.endswith("matplotlib/pyplot.py"):
                name = names.get("newbackend")
        elif code.co_name in ("resolve_gui_or_backend", "validate_backend") and "matplotlib" in code.co_filename:
            name = names.get("gui_or_backend", names.get("s"))
            name = name if name in WIDGETS else None
        if name is not None:
            return (f"The backend {name!r} of matplotlib cannot be used: it needs a screen or a browser, and this session has "
                    "none. Figures are shown without choosing a backend, and with 'agg'.")
        tb = tb.tb_next
    return None
