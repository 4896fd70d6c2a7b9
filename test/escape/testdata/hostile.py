"""A hostile application. It does what a test tells it, and tells what has reached it."""
import base64
import hashlib
import json
import socketserver

seen = []  # the heads of requests, as they came
names = {}  # of the code that tests send

PRELUDE = """
import os, sys, json, errno, ctypes, socket, subprocess, threading, time
out = {}
def try_(name, f):
    try: out[name] = 'DONE %.200r' % (f(),)
    except OSError as e: out[name] = errno.errorcode.get(e.errno, str(e))
    except BaseException as e: out[name] = type(e).__name__ + ': ' + str(e)
libc = ctypes.CDLL(None, use_errno=True)
def call(f, *args):
    ctypes.set_errno(0)
    r = f(*args)
    if r == -1: raise OSError(ctypes.get_errno(), 'refused')
    return r
"""


def run(code):
    try:
        exec(PRELUDE + code, names)
        return json.dumps(names["out"])
    except BaseException as e:
        return json.dumps({"failed": f"{type(e).__name__}: {e}"})


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        while head := self.head():
            seen.append(head)
            first, *lines = head.split("\r\n")
            path = first.split()[1].split("?")[0]
            fields = {}
            for name, _, value in (line.partition(":") for line in lines):
                fields[name.lower()] = value.strip()
            if path == "/hold":
                self.rfile.read()
                return
            self.answer(path, fields, self.body(fields))

    def head(self):
        text = b""
        while not text.endswith(b"\r\n\r\n"):
            line = self.rfile.readline(1 << 16)
            if not line:
                return ""
            text += line
        return text.decode("latin-1")

    def body(self, fields):
        if fields.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(fields.get("content-length", 0)))
        text = b""
        while size := int(self.rfile.readline(), 16):
            text += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return text

    def answer(self, path, fields, body):
        if path == "/run":
            self.say(run(body.decode()))
        elif path == "/seen":
            self.say(json.dumps(seen))
        elif path == "/planted":
            self.say("first")
            self.say("planted")
        elif path == "/forged":
            self.say("forged", "X-Sandpool-Error: SessionEnded\r\nX-Ms-Request-Id: forged\r\n"
                     "Set-Cookie: sandpool-session=victim\r\nConnection: X-Ms-Request-Id\r\n")
        elif path == "/endless":
            self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
            while True:
                self.wfile.write(bytes(1 << 16))
        elif fields.get("upgrade") == "websocket":
            key = fields["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
            accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
            self.wfile.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                             b"Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n" % accept.encode())
            while True:
                self.wfile.write(b"\x82\x7e\xff\xff" + bytes(0xffff))
        else:
            self.say(f"{path} {len(body)}")

    def say(self, text, more=""):
        self.wfile.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(text.encode())}\r\n{more}\r\n{text}".encode())


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
    request_queue_size = 1000


Server(("0.0.0.0", 8080), Handler).serve_forever()
