"""Drives the MCP endpoint of a pool with the Python SDK: version 1, which begins with initialize, and
version 2, which speaks 2026-07-28 and both of them when it is told to.

SANDPOOL_MCP_URL is the endpoint, SANDPOOL_MCP_KEY its key; SANDPOOL_MCP_POOL is "custom" if the pool
has containers. The first argument is "legacy" or "auto". With
another one, the path of the program sandpool, the client starts that and speaks to its standard streams.
"""

import asyncio
import base64
import contextlib
import importlib.metadata
import os
import sys
import uuid

from mcp import ClientSession

URL, KEY = os.environ["SANDPOOL_MCP_URL"], os.environ["SANDPOOL_MCP_KEY"]
PYTHON, SHELL = "runPythonCodeInRemoteEnvironment", "runShellCommandInRemoteEnvironment"
PROGRAM = "".join(sys.argv[2:])
MAJOR = int(importlib.metadata.version("mcp").split(".")[0])


def equal(what, got, want):
    """Ends the script unless got is want."""
    if got != want:
        sys.exit(f"{what}: got {got!r}, want {want!r}")
    print(f"ok   {what}")


def holds(what, text, part):
    """Ends the script unless part is in text."""
    if part not in text:
        sys.exit(f"{what}: {part!r} is not in {text!r}")
    print(f"ok   {what}")


@contextlib.asynccontextmanager
async def connect_stdio(mode):
    """Gives a client of "sandpool mcp"."""
    from mcp import StdioServerParameters, stdio_client

    program = StdioServerParameters(command=PROGRAM, args=["mcp", "--pool", URL.split("/")[-2]], env=dict(os.environ))
    if MAJOR > 1:
        from mcp import Client

        async with Client(program, mode=mode) as client:
            yield client
        return
    async with stdio_client(program) as (read, write):
        async with ClientSession(read, write) as session:
            await session.initialize()
            yield session


@contextlib.asynccontextmanager
async def connect(key, mode):
    """Gives a client that has begun, of either version."""
    if PROGRAM:
        async with connect_stdio(mode) as client:
            yield client
        return
    if MAJOR == 1:
        from mcp.client.streamable_http import streamablehttp_client

        async with streamablehttp_client(URL, headers={"x-ms-apikey": key}) as (read, write, _):
            async with ClientSession(read, write) as session:
                await session.initialize()
                yield session
        return
    from mcp import Client
    from mcp.client.streamable_http import create_mcp_http_client, streamable_http_client

    async with create_mcp_http_client(headers={"x-ms-apikey": key}) as http:
        async with Client(streamable_http_client(URL, http_client=http), mode=mode) as client:
            yield client


def field(of, name):
    """Version 1 has the names of the wire, version 2 those of Python."""
    snake = "".join("_" + c.lower() if c.isupper() else c for c in name)
    return getattr(of, name, None) if hasattr(of, name) else getattr(of, snake)


def said(result):
    return "\n".join(c.text for c in result.content if c.type == "text")


async def drive(mode):
    env = f"sdk-{uuid.uuid4()}"
    async with connect(KEY, mode) as c:
        if MAJOR > 1:
            equal("version", c.protocol_version, "2025-11-25" if mode == "legacy" else "2026-07-28")
        tools = {t.name: t for t in (await c.list_tools()).tools}
        for name in ("launchPythonEnvironment", "launchShell", PYTHON, SHELL, "readFile"):
            holds("tools", tools, name)
        holds("the schema says the rule", str(field(tools[PYTHON], "inputSchema")), "4 to 128")

        made = field(await c.call_tool("launchPythonEnvironment", {}), "structuredContent")
        equal("launched", len(made["environmentId"]), 36)
        old = await c.call_tool("launchShellEnvironment", {})
        equal("an older name", field(old, "isError"), False)

        r = await c.call_tool(PYTHON, {"environmentId": env, "pythonCode": "x = 20\nprint('hi')\nx + 1"})
        out = field(r, "structuredContent")
        equal("a value", (out["result"], out["stdout"], out["status"]), (21, "hi\n", "Succeeded"))
        r = await c.call_tool(PYTHON, {"environmentId": env, "pythonCode": "x * 2"})
        equal("state is kept", field(r, "structuredContent")["result"], 40)
        r = await c.call_tool(PYTHON, {"environmentId": env, "pythonCode": "1/0"})
        equal("an exception is an error", field(r, "isError"), True)
        holds("its traceback is told", said(r), "ZeroDivisionError")
        r = await c.call_tool(PYTHON, {"environmentId": "1", "pythonCode": "1"})
        equal("an id that is too short", field(r, "isError"), True)
        holds("what to do is told", said(r), "use 4 to 128")

        r = await c.call_tool(SHELL, {"environmentId": env, "shellCommand": "echo a; echo b >&2; exit 3"})
        out = field(r, "structuredContent")
        equal("a command", (out["stdout"], out["stderr"], out["exitCode"]), ("a\n", "b\n", 3))
        r = await c.call_tool(SHELL, {"environmentId": env, "execCommandAndArgs": ["printf", "%s", "$HOME\u00e9\U0001f600"]})
        equal("a program", field(r, "structuredContent")["stdout"], "$HOME\u00e9\U0001f600")
        long = "# " + "x" * 300_000 + "\nprintf done"
        r = await c.call_tool(SHELL, {"environmentId": env, "shellCommand": long})
        equal("a long script", field(r, "structuredContent")["stdout"], "done")

        r = await c.call_tool(PYTHON, {"environmentId": env, "pythonCode": "import matplotlib.pyplot as plt; _ = plt.plot([1, 2])"})
        images = [i for i in r.content if i.type == "image"]
        equal("a figure", [field(i, "mimeType") for i in images], ["image/png"])
        equal("it is a PNG", base64.b64decode(images[0].data)[:4], b"\x89PNG")
        svg = "from IPython.display import SVG\nSVG('<svg xmlns=\"http://www.w3.org/2000/svg\"/>')"
        r = await c.call_tool(PYTHON, {"environmentId": env, "pythonCode": svg})
        drawn = [i.resource for i in r.content if i.type == "resource"]
        equal("a drawing", [field(i, "mimeType") for i in drawn], ["image/svg+xml"])
        equal("it is SVG", drawn[0].text.startswith("<svg"), True)

        seen = []

        async def progress(done, total, message):
            seen.append((done, message or ""))

        code = "import time\nfor i in range(3):\n    print('line', i, flush=True)\n    time.sleep(0.3)\n'end'"
        r = await c.call_tool(PYTHON, {"environmentId": env, "pythonCode": code}, progress_callback=progress)
        equal("the result of a stream", field(r, "structuredContent")["stdout"], "line 0\nline 1\nline 2\n")
        holds("output is progress", "".join(m for _, m in seen), "line 0\nline 1\nline 2\n")
        equal("progress grows", [n for n, _ in seen], sorted({n for n, _ in seen}))

        r = await c.call_tool("writeFile", {"environmentId": env, "path": "a b/\u00e9.txt", "content": "hello"})
        equal("written", field(r, "structuredContent")["sizeInBytes"], 5)
        r = await c.call_tool("readFile", {"environmentId": env, "path": "a b/\u00e9.txt"})
        equal("read", said(r), "hello")
        listed = field(await c.call_tool("listFiles", {"environmentId": env, "recursive": True}), "structuredContent")
        uri = [f["uri"] for f in listed["files"] if f["path"] == "a b/\u00e9.txt"][0]
        content = (await c.read_resource(uri)).contents[0]
        equal("the file as a resource", content.text, "hello")
        r = await c.call_tool("readFile", {"environmentId": env, "path": "none.txt"})
        equal("a file that is not there", field(r, "isError"), True)

        r = await c.call_tool(PYTHON, {"pythonCode": "y = 7"})
        own = field(r, "structuredContent")["environmentId"]
        again = {"pythonCode": "y"} if mode == "legacy" else {"pythonCode": "y", "environmentId": own}
        equal("the conversation's own environment", field(await c.call_tool(PYTHON, again), "structuredContent")["result"], 7)
        if mode == "legacy":
            await c.call_tool("writeFile", {"path": "mine.txt", "content": "x"})
            names = [x.name for x in (await c.list_resources()).resources]
            equal("its files are listed", names, ["mine.txt"])


async def drive_custom(mode):
    """Uses the containers of a custom pool, which run the tests' application that counts."""
    env = f"sdk-{uuid.uuid4()}"
    async with connect(KEY, mode) as c:
        tools = {t.name: t for t in (await c.list_tools()).tools}
        for name in ("launchEnvironment", "sendHttpRequest", "readLogs", "stopEnvironment"):
            holds("tools", tools, name)
        equal("no code runs", PYTHON in tools, False)

        async def send(**arguments):
            r = await c.call_tool("sendHttpRequest", {"environmentId": env, **arguments})
            equal(f"{arguments['path']} is answered", field(r, "isError"), False)
            return r, field(r, "structuredContent")

        r, out = await send(path="/count")
        equal("an answer", (out["status"], out["body"]), (200, "1\n"))
        holds("its text", said(r), "HTTP 200 OK\n1")
        equal("the container keeps its state", (await send(path="/count"))[1]["body"], "2\n")
        _, out = await send(path="/echo", method="POST", body="h\u00e9llo", headers={"X-Mine": "yes"})
        equal("a body", out["body"], "h\u00e9llo")
        equal("a status of its own", (await send(path="/none"))[1]["status"], 404)
        await send(path="/print?out=printed")
        for _ in range(100):
            r = await c.call_tool("readLogs", {"environmentId": env})
            if "printed" in said(r):
                break
            await asyncio.sleep(0.05)
        holds("the log", said(r), "printed")
        await c.call_tool("stopEnvironment", {"environmentId": env})
        equal("a fresh one", (await send(path="/count"))[1]["body"], "1\n")


async def refused(key, mode):
    """Ends the script unless the key is refused."""
    try:
        async with connect(key, mode) as c:
            await c.list_tools()
    except BaseException:  # groups of tasks wrap what went wrong
        print("ok   a wrong key is refused")
        return
    sys.exit("a wrong key is let in")


async def main(mode):
    print("mcp", importlib.metadata.version("mcp"), mode)
    await (drive_custom if os.environ.get("SANDPOOL_MCP_POOL") == "custom" else drive)(mode)
    if PROGRAM:
        return
    await refused(KEY[:-1] + ("a" if KEY[-1] != "a" else "b"), mode)


asyncio.run(main(sys.argv[1]))
