"""Semantic Kernel's SessionsPythonTool against a pool. It takes https endpoints
only; SSL_CERT_FILE names the certificate authority if it is a private one."""

import asyncio
import os
import tempfile

from semantic_kernel.core_plugins import SessionsPythonTool

import pool


async def auth():
    return pool.TOKEN


async def main():
    with tempfile.TemporaryDirectory() as work:
        tool = SessionsPythonTool(
            pool_management_endpoint=pool.ENDPOINT,
            auth_callback=auth,
            allowed_upload_directories=[work],
            allowed_download_directories=[work],
            enable_dangerous_file_uploads=True,
        )
        answer = await tool.execute_code("print('hi')\n6*7")
        pool.holds("output", answer, "hi")
        pool.holds("result", answer, "42")
        pool.holds("an exception is text", await tool.execute_code("1/0"), "ZeroDivisionError")

        local = os.path.join(work, "x.txt")
        with open(local, "w", encoding="utf-8") as f:
            f.write("hello")
        up = await tool.upload_file(local_file_path=local, remote_file_path="x.txt")
        pool.equal("upload", up.full_path, "/mnt/data/x.txt")
        pool.equal("list", [f.full_path for f in await tool.list_files()], ["/mnt/data/x.txt"])
        data = await tool.download_file(remote_file_name="x.txt")
        pool.equal("download", data.read(), b"hello")


asyncio.run(main())
