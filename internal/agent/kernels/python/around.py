"""What surrounds one cell alone: variables of the environment, a working directory, and something to
read from standard input, which is descriptor 0."""

import builtins
import os
import sys
from io import FileIO, BufferedReader, TextIOWrapper

_environ, _getcwd, _chdir = os.environ, os.getcwd, os.chdir


def _line(prompt="", /):
    """Is input() of a cell that has something to read."""
    sys.stdout.write(str(prompt))
    line = sys.stdin.readline()
    if not line:
        raise EOFError("the cell's standard input is at its end")
    return line.removesuffix("\n")


class Around:
    """Changes what a request asks for, until undo()."""

    def __init__(self, request):
        self.steps = []
        for name, value in request.get("env", {}).items():
            self.steps.append((self._put, name, _environ.get(name)))
            _environ[name] = value
        if "dir" in request:
            try:
                self.steps.append((_chdir, _getcwd()))
            except OSError:  # it was removed
                pass
            _chdir(request["dir"])
        if request.get("input"):
            self.steps.append((self._read, sys.stdin, builtins.input))
            stdin = TextIOWrapper(BufferedReader(FileIO(0, closefd=False)), encoding="utf-8")
            self._read(stdin, _line)

    @staticmethod
    def _put(name, value):
        if value is None:
            _environ.pop(name, None)
        else:
            _environ[name] = value

    @staticmethod
    def _read(stdin, line):
        sys.stdin, builtins.input = stdin, line

    def undo(self):
        while self.steps:
            function, *arguments = self.steps.pop()
            try:
                function(*arguments)
            except OSError:  # the directory is gone
                pass
