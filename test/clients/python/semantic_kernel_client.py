"""Semantic Kernel's SessionsPythonTool against a pool. It takes https endpoints
only; SSL_CERT_FILE names the certificate authority if it is a private one."""

import asyncio
import os
import tempfile

from httpx import AsyncClient
from semantic_kernel import Kernel
from semantic_kernel.core_plugins import SessionsPythonTool
from semantic_kernel.core_plugins.sessions_python_tool.sessions_python_settings import SessionsPythonSettings
from semantic_kernel.exceptions import FunctionExecutionException

import pool


async def auth():
    return pool.TOKEN


def new_tool(work, endpoint=pool.ENDPOINT, timeout=100):
    return SessionsPythonTool(
        pool_management_endpoint=endpoint,
        auth_callback=auth,
        settings=SessionsPythonSettings(timeoutInSeconds=timeout),
        # Its own client gives up after 5 seconds, which a machine that is busy with other tests may take.
        http_client=AsyncClient(timeout=60),
        allowed_upload_directories=[work],
        allowed_download_directories=[work],
        enable_dangerous_file_uploads=True,
    )


def answer(status, result="", stdout=""):
    """Is the text that the tool makes of an answer without stderr."""
    return f"Status:\n{status}\nResult:\n{result}\nStdout:\n{stdout}\nStderr:\n"


async def code(tool):
    pool.equal("output and result", await tool.execute_code("print('hi')\n6*7"), answer("Success", 42, "hi\n"))
    pool.equal("no result", await tool.execute_code("kept = 41"), answer("Success"))
    pool.equal("state", await tool.execute_code("kept + 1"), answer("Success", 42))
    failed = await tool.execute_code("1/0")
    pool.holds("an exception is text", failed, "ZeroDivisionError")
    pool.holds("its status", failed, "Status:\nFailure\n")

    kernel = Kernel()
    kernel.add_plugin(tool, "python")
    result = await kernel.invoke(plugin_name="python", function_name="execute_code", code="kept")
    pool.equal("as a plugin", str(result), answer("Success", 41))


async def files(tool, work):
    local = os.path.join(work, "x.txt")
    with open(local, "w", encoding="utf-8") as f:
        f.write("hello")
    up = await tool.upload_file(local_file_path=local, remote_file_path="x.txt")
    pool.equal("upload", (up.full_path, up.size_in_bytes), ("/mnt/data/x.txt", 5))
    pool.equal("list", [f.full_path for f in await tool.list_files()], ["/mnt/data/x.txt"])
    seen = await tool.execute_code("open('/mnt/data/x.txt').read()")
    pool.equal("the code sees it", seen, answer("Success", "'hello'"))
    data = await tool.download_file(remote_file_name="x.txt")
    pool.equal("download", data.read(), b"hello")
    await refused("a file that is not there", tool.download_file(remote_file_name="absent.txt"), "Download failed with status code 404")


async def refused(what, awaitable, *parts):
    """Is a FunctionExecutionException, whose text has the status and the body of the answer."""
    error = await pool.raises_async(what, FunctionExecutionException, awaitable)
    for part in parts:
        pool.holds("its text", str(error), part)


async def main():
    with tempfile.TemporaryDirectory() as work:
        tool = new_tool(work)
        await code(tool)
        await files(tool, work)
        slow = await new_tool(work, timeout=1).execute_code("while True: pass")
        pool.holds("code without end is text", slow, "Request timed out waiting for code execution to complete")
        for what, endpoint, code_ in ("a full pool", pool.FULL, pool.FULL_CODE), ("an unknown pool", pool.ABSENT, pool.ABSENT_CODE):
            await refused(what, new_tool(work, endpoint).execute_code("1"), "Code execution failed with status code 404", code_)


asyncio.run(main())
