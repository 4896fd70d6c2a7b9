"""Frames on the socket between kernel and agent.

A frame, in both directions, is a 4 byte big-endian length and a JSON object.

A signal handler that a cell installed runs between any two steps of ours that
call something, and may raise. So a system call and the record of what it did
are one step, map() within extend(), and both directions can be resumed.
"""

from errno import EBADF, ECONNRESET, EPIPE
from json.decoder import JSONDecoder
from json.encoder import c_make_encoder, encode_basestring_ascii
from os import read, write

# Encoder and scanner of our own: a cell may change what json's functions use.
_scan = JSONDecoder().scan_once


def _refuse(value):
    raise TypeError(f"{type(value).__name__} is no part of a frame")


_encode = c_make_encoder(None, _refuse, encode_basestring_ascii, None, ":", ",", False, False, False)


def dumps(value):
    """JSON of what consists of the types that JSON has."""
    return "".join(_encode(value, 0))


class Reader:
    """Reads frames, usually with one system call each."""

    def __init__(self, fd):
        self.fd = fd
        self.data = bytearray()
        self.chunks = []

    def next(self):
        """Returns the next frame. If a signal handler raises, nothing is lost: call it again."""
        data, chunks = self.data, self.chunks
        while True:
            while chunks:
                chunk = chunks[0]
                if not chunk:
                    raise EOFError
                data += chunk
                del chunks[0]
            end = 4 + int.from_bytes(data[:4], "big")
            if 4 <= end <= len(data):
                frame = _scan(data[4:end].decode(), 0)[0]
                del data[:end]
                return frame
            chunks.extend(map(read, (self.fd,), (1 << 20,)))


class Writer:
    """Writes frames whole."""

    def __init__(self, fd):
        self.fd = fd
        self.frame = memoryview(b"")
        self.sent = 0
        self.counts = []

    def send(self, message):
        """Sends a frame. What a signal handler raises meanwhile comes after it was sent."""
        body = dumps(message).encode()
        self.sent, self.frame = 0, memoryview(len(body).to_bytes(4, "big") + body)
        stray = None
        while True:
            try:
                self._push()
                break
            except OSError as e:
                if e.errno in (EBADF, EPIPE, ECONNRESET):
                    raise
                stray = e
            except BaseException as e:
                stray = e
        if stray is not None:
            raise stray

    def _push(self):
        counts = self.counts
        while True:
            while counts:
                self.sent += counts[0]
                del counts[0]
            if self.sent >= len(self.frame):
                return
            counts.extend(map(write, (self.fd,), (self.frame[self.sent:],)))
