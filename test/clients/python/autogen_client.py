"""AutoGen's ACADynamicSessionsCodeExecutor against a pool."""

import asyncio
import os
import tempfile
from types import SimpleNamespace

from autogen_core import CancellationToken
from autogen_core.code_executor import CodeBlock
from autogen_ext.code_executors.azure import ACADynamicSessionsCodeExecutor

import pool


def double(x: int) -> int:
    """Returns twice x."""
    return 2 * x


def new_executor(work, endpoint=pool.ENDPOINT):
    return ACADynamicSessionsCodeExecutor(
        pool_management_endpoint=endpoint,
        credential=SimpleNamespace(get_token=lambda *scopes, **_: SimpleNamespace(token=pool.TOKEN)),
        work_dir=work,
        functions=[double],
        session_id=pool.new_identifier(),
    )


async def run(executor, *code, cancel=None):
    blocks = [CodeBlock(code=c, language="python") for c in code]
    return await executor.execute_code_blocks(blocks, cancel or CancellationToken())


async def code(executor):
    good = await run(executor, "print('hi')")
    pool.equal("success", good.exit_code, 0)
    pool.holds("its output", good.output, "hi")
    packages = await executor.get_available_packages(CancellationToken())
    pool.equal("packages are listed", {"numpy", "pandas"} <= packages, True)
    pool.equal("state, from block to block", (await run(executor, "kept = 41", "kept + 1")).output, "42")
    pool.equal("state, from call to call", (await run(executor, "kept")).output, "41")
    pool.equal("a function of the caller", (await run(executor, "double(21)")).output, "42")

    bad = await run(executor, "print('before')", "1/0", "print('after')")
    pool.equal("failure", bad.exit_code, 1)
    pool.holds("its traceback", bad.output, "ZeroDivisionError")
    pool.equal("state after it", (await run(executor, "kept")).output, "41")


async def files(executor, work):
    none = CancellationToken()
    with open(os.path.join(work, "my data.csv"), "w", encoding="utf-8") as f:
        f.write("a,b")
    await executor.upload_files(["my data.csv"], none)
    pool.equal("upload and list", await executor.get_file_list(none), ["my data.csv"])
    pool.holds("the code sees it", (await run(executor, "print(open('my data.csv').read())")).output, "a,b")
    await run(executor, "n = open('out.txt', 'w').write('made inside')")
    paths = await executor.download_files(["out.txt"], none)
    with open(paths[0], encoding="utf-8") as f:
        pool.equal("download", f.read(), "made inside")
    await pool.raises_async("a file that is not there", FileNotFoundError, executor.download_files(["absent.txt"], none))


async def cancelled(executor, work):
    """The caller gives up an execution that has begun. The code goes on, and the session is there for the next one."""
    none, cancel = CancellationToken(), CancellationToken()
    waits = "import os, time\nopen('begun', 'w').close()\nwhile not os.path.exists('go'): time.sleep(0.05)"
    long = asyncio.create_task(run(executor, waits, cancel=cancel))
    async with asyncio.timeout(60):
        while "begun" not in await executor.get_file_list(none):
            await asyncio.sleep(0.05)
    cancel.cancel()
    await pool.raises_async("a cancelled execution", asyncio.CancelledError, long)
    with open(os.path.join(work, "go"), "w", encoding="utf-8"):
        pass
    await executor.upload_files(["go"], none)
    pool.equal("state after it", (await run(executor, "kept")).output, "41")


async def refused(what, work, endpoint):
    """Is a ConnectionError, which hides the answer's code and keeps its status."""
    error = await pool.raises_async(what, ConnectionError, run(new_executor(work, endpoint), "1"))
    pool.equal("its status", error.__cause__.status, 404)


async def main():
    with tempfile.TemporaryDirectory() as work:
        executor = new_executor(work)
        await executor.start()
        await code(executor)
        await files(executor, work)
        await cancelled(executor, work)
        await executor.restart()
        pool.equal("a fresh session after a restart", (await run(executor, "'kept' in globals()")).output, "False")
        await executor.stop()
        await refused("a full pool", work, pool.FULL)
        await refused("an unknown pool", work, pool.ABSENT)


asyncio.run(main())
