"""Loads the modules of the kernel, of which the agent sends the source.

They keep apart from the code that cells run:
  - they are in no sys.modules, so that no cell imports or replaces one;
  - they have builtins of their own, copied before any cell ran. A cell that
    assigns to builtins.len breaks itself, not the kernel;
  - what they use after a cell has run they import by name (from os import
    write), so that a cell that assigns to os.write does not break them either.
"""


def load(sources):
    """Returns an import that knows the modules of sources, a dict from name to text."""
    import builtins
    import types

    private = dict(vars(builtins))
    python_import = builtins.__import__
    loaded = {}

    def find(name, globals=None, locals=None, fromlist=(), level=0):
        if level or name not in sources:
            return python_import(name, globals, locals, fromlist, level)
        if name not in loaded:
            loaded[name] = module = types.ModuleType(name)
            module.__builtins__ = private
            exec(compile(sources[name], "sandpool/" + name + ".py", "exec"), vars(module))
        return loaded[name]

    private["__import__"] = find
    return find
