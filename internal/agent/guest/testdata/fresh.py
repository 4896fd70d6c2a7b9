# Compares the interpreter of a session, before anything was run in it, with one that is started
# now and imports the same: every attribute of what code looks at. It prints what differs and is
# not wanted.

# What differs, and why. A name stands for all that begin with it.
wanted = {
    # IPython's names, which cells expect.
    '__main__.In': '', '__main__.Out': '', '__main__._': 'names of outputs', '__main__.__builtin__': '',
    '__main__.get_ipython': '',
    'builtins.__IPYTHON__': '', 'builtins.display': '', 'builtins.get_ipython': '',
    # Shows pictures of Pillow once it can show any.
    'sys.meta_path': '',
    # Nobody can type.
    'builtins.exit': 'closes no stdin', 'builtins.quit': '', 'builtins.input': '', 'getpass.getpass': '', 'pydoc.Helper.in': '', 'sys.breakpointhook': '',
    # The streams, what else writes to their descriptors, and what starts who may print meanwhile.
    'sys.stdout': '', 'sys.stderr': '', 'sys.__stdout__': '', 'sys.__stderr__': '',
    'os.write': '', 'os.writev': '', 'os.sendfile': '', 'os.dup': '', 'os.system': '', 'os.posix_spawn': '',
    'os.execv': '', 'os.supports_': 'hold the above', '_posixsubprocess.fork_exec': '', 'subprocess._fork_exec': '', 'ctypes.CDLL.__getitem__': '', 'CDLL.__getitem__': '',
    '_thread.start': '', '_thread._start': '', 'threading._start': '',
    'fds': 'the socket of the kernel, and the fonts that matplotlib keeps open',
    # Interrupts end cells, not the kernel.
    'handler of 2': '',
    # The event loop that cells share.
    'asyncio.create_task': '', 'asyncio.tasks.create_task': '', 'asyncio.run': '', 'asyncio.runners.run': '', 'asyncio.Runner.run': '',
    'asyncio.BaseEventLoop.run_': '', 'asyncio.events._event_loop_policy': 'made early', 'policy vars': '', 'get_event_loop()': '',
    # No command line.
    'sys.argv': '', 'sys.orig_argv': '',
    # Figures are shown.
    'pyplot._REPL_DISPLAYHOOK': '', 'pyplot._backend_mod': '', 'pyplot.draw_if_interactive': '', 'pyplot.install_repl_displayhook': '',
    'pyplot.show': '', 'rcParams interactive': '', 'rcParamsDefault backend': '', 'rcParams backend': '', 'rcParamsOrig backend': '', 'interactive': '',
    # Caches, addresses, orders of sets, and what IPython itself needs.
    'atexit': '', 'copyreg.dispatch_table': '', 'pickle.dispatch_table': '', 'ctypes._': '', 'ctypes.pythonapi': '', 'gc.get_freeze_count': '',
    'inspect.modulesbyfile': '', 'inspect._filesbymodname': '', # made anew they cost the first traceback 0.3 s
    'linecache': '', 'logger': '', 'random._sha512': '', 'random._inst': '', 'registry': '', 'context': '',
    'sys.path_importer_cache': '', 'sys._': 'private', 'uuid._': '', 'platform._': '', 'multiprocessing._': '',
    # PIP_NO_INDEX, where there is no network, is in both: the new interpreter has the session's environment.
}


def state():
    import sys, re, types
    out = {}
    def text(v, depth=0):
        if isinstance(v, types.ModuleType): return 'module ' + v.__name__
        if isinstance(v, type): return 'class %s.%s' % (v.__module__, v.__qualname__)
        if callable(v): return 'callable %s.%s of %s' % (getattr(v, '__module__', None), getattr(v, '__qualname__', type(v).__qualname__), type(v).__qualname__)
        if isinstance(v, dict): return '{%s}' % ', '.join('%s: %s' % (text(k), text(v[k])) for k in v) if depth < 3 else '{...}'
        if isinstance(v, (set, frozenset)): return '{%s}' % ', '.join(sorted(text(x, depth + 1) for x in v))
        if isinstance(v, (list, tuple)): return '%s(%s)' % (type(v).__name__, ', '.join(text(x, depth + 1) for x in v))
        return re.sub(r'0x[0-9a-f]+', '0x', '%s %r' % (type(v).__name__, v))[:2000]
    def note(name, f):
        try: v = f()
        except BaseException as e: v = 'raises %r' % e
        out[name] = text(v)
    def every(prefix, module, skip=()):
        for k, v in list(vars(module).items()):
            if k not in skip and k not in ('__builtins__', '__cached__'): note(prefix + '.' + k, lambda: v)
    note('sys.flags', lambda: sys.flags)
    for k, v in sorted(vars(sys).items()):
        if k != 'modules': note('sys.' + k, lambda: v)
    for k in ('getrecursionlimit', 'getswitchinterval', 'get_int_max_str_digits', 'gettrace', 'getprofile', 'getdlopenflags', 'get_asyncgen_hooks', 'get_coroutine_origin_tracking_depth', 'getfilesystemencoding', 'getfilesystemencodeerrors', 'getdefaultencoding'):
        note('sys.%s()' % k, getattr(sys, k))
    for s in ('stdin', 'stdout', 'stderr'):
        for a in ('encoding', 'errors', 'name', 'mode', 'newlines', 'line_buffering', 'write_through', 'closed'):
            note('sys.%s.%s' % (s, a), lambda: getattr(getattr(sys, s), a))
        note('sys.%s.isatty' % s, lambda: getattr(sys, s).isatty()); note('sys.%s.fileno' % s, lambda: getattr(sys, s).fileno())
    main = sys.modules['__main__']
    for k, v in vars(main).items():
        if k not in ('state', 'wanted', 'source', 'differences') and not re.fullmatch(r'_i?\d+', k): note('__main__.' + k, lambda: v)
    note('__main__ is', lambda: type(main))
    import builtins; every('builtins', builtins)
    import os; every('os', os, ('environ', 'environb'))
    note('os.environ', lambda: dict(sorted(os.environ.items())))
    for k in os.environ: note('os.environ ' + k, lambda: os.environ[k])
    note('umask', lambda: os.umask(os.umask(0o22)) and 0); note('cwd', os.getcwd)
    note('groups', os.getgroups); note('nice', lambda: os.nice(0)); note('fds', lambda: sorted(int(f) for f in os.listdir('/proc/self/fd'))[:-1])
    import signal
    every('signal', signal)
    for s in sorted(signal.valid_signals()): note('handler of %d' % s, lambda: signal.getsignal(s))
    note('sigmask', lambda: signal.pthread_sigmask(signal.SIG_BLOCK, [])); note('wakeup', lambda: (signal.set_wakeup_fd(-1)))
    for t in (0, 1, 2): note('itimer %d' % t, lambda: signal.getitimer(t))
    import threading
    every('threading', threading, ('_active', '_main_thread', '_active_limbo_lock', '_shutdown_locks'))
    note('threads', lambda: [t.name for t in threading.enumerate()]); note('stack', threading.stack_size); note('main', lambda: threading.current_thread().name)
    import warnings; every('warnings', warnings, ('_filters_version',))
    import gc
    for k in ('isenabled', 'get_threshold', 'get_debug', 'get_freeze_count'): note('gc.' + k, getattr(gc, k))
    note('gc.callbacks', lambda: gc.callbacks); note('gc.garbage', lambda: gc.garbage)
    import locale
    for c in ('LC_ALL', 'LC_CTYPE', 'LC_NUMERIC', 'LC_TIME', 'LC_COLLATE'): note('locale ' + c, lambda: locale.setlocale(getattr(locale, c), None))
    note('encoding', locale.getpreferredencoding)
    import resource
    for k in dir(resource):
        if k.startswith('RLIMIT'): note(k, lambda: resource.getrlimit(getattr(resource, k)))
    import contextvars; note('context', lambda: [v.name for v in contextvars.copy_context()])
    import asyncio, asyncio.events, asyncio.tasks, asyncio.runners, asyncio.base_events
    every('asyncio', asyncio); every('asyncio.events', asyncio.events, ('_running_loop',)); every('asyncio.tasks', asyncio.tasks); every('asyncio.runners', asyncio.runners)
    every('asyncio.BaseEventLoop', asyncio.BaseEventLoop); every('asyncio.Runner', asyncio.Runner)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        note('policy', lambda: asyncio.get_event_loop_policy()); note('policy vars', lambda: {k: (vars(x) if k == '_local' else x) for k, x in vars(asyncio.get_event_loop_policy()).items()})
        note('running', lambda: asyncio._get_running_loop()); note('get_running_loop()', lambda: asyncio.get_running_loop()); note('get_event_loop()', lambda: asyncio.get_event_loop())
    import logging
    every('logging', logging, ('_startTime', '_handlers', '_handlerList', 'time', 're'))
    note('logging.root', lambda: (logging.root.level, logging.root.handlers, logging.root.disabled, logging.root.manager.disable))
    note('loggers', lambda: sorted(logging.root.manager.loggerDict))
    note('logger levels', lambda: {k: (l.level, l.handlers, l.propagate) for k, l in sorted(logging.root.manager.loggerDict.items()) if isinstance(l, logging.Logger)})
    import atexit, random, decimal, socket, tempfile, copyreg, multiprocessing, multiprocessing.process, subprocess, linecache, faulthandler, tracemalloc, time, pickle, json, io, mimetypes, traceback, inspect, pydoc, getpass, ctypes, _posixsubprocess, codecs, site, platform, uuid
    note('atexit', atexit._ncallbacks)
    for m in (atexit, random, decimal, socket, tempfile, copyreg, multiprocessing, subprocess, linecache, faulthandler, time, pickle, json, io, mimetypes, traceback, inspect, pydoc, getpass, ctypes, _posixsubprocess, codecs, site, platform, uuid): every(m.__name__, m)
    note('decimal', decimal.getcontext); note('socket timeout', socket.getdefaulttimeout)
    note('linecache', lambda: sorted(linecache.cache)[:5]); note('start method', lambda: multiprocessing.get_start_method(allow_none=True)); note('process', lambda: multiprocessing.current_process().name)
    note('faulthandler', faulthandler.is_enabled); note('tracemalloc', tracemalloc.is_tracing); note('tz', lambda: time.tzname)
    note('children', lambda: multiprocessing.active_children()); note('registry', lambda: getattr(main, '__warningregistry__', None))
    every('CDLL', ctypes.CDLL); every('pydoc.Helper', pydoc.Helper)
    import numpy, pandas, matplotlib, matplotlib.pyplot as plt
    note('numpy errstate', numpy.geterr); note('numpy print', numpy.get_printoptions); note('numpy warnings', lambda: getattr(numpy, '__warningregistry__', None))
    note('numpy random', lambda: type(numpy.random.get_state()))
    every('pyplot', plt, ('rcParams', 'rcParamsDefault', 'rcParamsOrig')); every('matplotlib', matplotlib, ('rcParams', 'rcParamsDefault', 'rcParamsOrig'))
    for n in ('rcParams', 'rcParamsDefault', 'rcParamsOrig'):
        for k in matplotlib.rcParams: note('%s %s' % (n, k), lambda: getattr(matplotlib, n)._get(k))
    note('fignums', plt.get_fignums); note('interactive', plt.isinteractive)
    note('pandas options', lambda: {k: pandas.get_option(k) for k in ('display.max_rows', 'display.width')})
    return out


def differences(source):
    import json, subprocess, sys
    mine = state()
    start = source + """
import json, sys, numpy, pandas, matplotlib.pyplot, matplotlib_inline.backend_inline
del json, numpy, pandas, matplotlib, matplotlib_inline
json = sys.modules['json']; text = json.dumps(state()); sys.stdout.write(text)
"""
    run = subprocess.run([sys.executable, '-c', start], capture_output=True, text=True)
    if run.returncode:
        print(run.stderr)
    fresh = json.loads(run.stdout)
    # What the program that asks has made itself.
    for name in ('sys', 'json', 'text'):
        fresh.pop('__main__.' + name, None)
    assert len(fresh) > 1500, len(fresh)
    for name in sorted(set(mine) | set(fresh)):
        if mine.get(name) != fresh.get(name) and not any(name.startswith(w) for w in wanted):
            print(name, '| fresh:', str(fresh.get(name))[:300], '| here:', str(mine.get(name))[:300])
