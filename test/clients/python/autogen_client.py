"""AutoGen's ACADynamicSessionsCodeExecutor against a pool."""

import asyncio
import os
import tempfile
from types import SimpleNamespace

from autogen_core import CancellationToken
from autogen_core.code_executor import CodeBlock
from autogen_ext.code_executors.azure import ACADynamicSessionsCodeExecutor

import pool


async def main():
    with tempfile.TemporaryDirectory() as work:
        executor = ACADynamicSessionsCodeExecutor(
            pool_management_endpoint=pool.ENDPOINT,
            credential=SimpleNamespace(get_token=lambda *scopes, **_: SimpleNamespace(token=pool.TOKEN)),
            work_dir=work,
            session_id=pool.new_identifier(),
        )
        await executor.start()
        none = CancellationToken()

        async def run(code):
            return await executor.execute_code_blocks([CodeBlock(code=code, language="python")], none)

        good = await run("print('hi')")
        pool.equal("success", good.exit_code, 0)
        pool.holds("its output", good.output, "hi")
        packages = await executor.get_available_packages(none)
        pool.equal("packages are listed", "numpy" in packages, True)
        bad = await run("1/0")
        pool.equal("failure", bad.exit_code, 1)
        pool.holds("its traceback", bad.output, "ZeroDivisionError")

        with open(os.path.join(work, "my data.csv"), "w", encoding="utf-8") as f:
            f.write("a,b")
        await executor.upload_files(["my data.csv"], none)
        pool.equal("upload and list", await executor.get_file_list(none), ["my data.csv"])
        pool.holds("the code sees it", (await run("print(open('my data.csv').read())")).output, "a,b")
        await run("open('out.txt', 'w').write('made inside')")
        paths = await executor.download_files(["out.txt"], none)
        with open(paths[0], encoding="utf-8") as f:
            pool.equal("download", f.read(), "made inside")
        await executor.stop()


asyncio.run(main())
