"""Runs the examples of the client's pages, as they stand there. The arguments are how many there are, and
the pages."""

import asyncio
import os
import pathlib
import re
import sys
import textwrap

blocks = [
    textwrap.dedent(block)
    for page in sys.argv[2:]
    for block in re.findall(r"(?:^    .*\n|^\n)+", pathlib.Path(page).read_text(), re.M)
]
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
if run != int(sys.argv[1]):
    sys.exit(f"{run} examples were found, of {sys.argv[1]}")
