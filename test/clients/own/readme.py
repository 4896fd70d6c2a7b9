"""Runs the examples of the client's README, whose path is the argument, as they stand there."""

import asyncio
import os
import pathlib
import re
import sys
import textwrap

blocks = [textwrap.dedent(b) for b in re.findall(r"(?:^    .*\n|^\n)+", pathlib.Path(sys.argv[1]).read_text(), re.M)]
run = 0
for block in blocks:
    if "from sandpool import" not in block:
        continue
    where = {"ENDPOINT": os.environ["SANDPOOL_ENDPOINT"], "TOKEN": os.environ["SANDPOOL_TOKEN"]}
    if "async with" in block:
        block = "async def main():\n" + textwrap.indent(block, "    ")
    print(block)
    exec(block, where)
    if "main" in where:
        asyncio.run(where["main"]())
    run += 1
if run != 2:
    sys.exit(f"{run} examples were found, of 2")
