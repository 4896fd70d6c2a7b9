"""Executes a notebook that uses our own client, and checks what its reader sees. The variables are
those of check.py."""

import base64
from typing import Any

import nbclient
import nbformat.v4

BEGIN = "import os\nfrom sandpool import AsyncPool, Pool\nwhere = os.environ['SANDPOOL_ENDPOINT'], os.environ['SANDPOOL_TOKEN']"
FIGURE = "s.run('import matplotlib.pyplot as plt; _ = plt.plot([1, 2])')"
AWAIT = "async with AsyncPool(*where) as pool, pool.session() as a:\n    r = await a.run('6 * 7')\nr"
CELLS = [BEGIN, "s = Pool(*where).session()\ns.run('x = 20\\nx + 1')", FIGURE, f"{FIGURE}.images[0]", "s.run('1/0')", AWAIT, "s.end()"]


def shown(cell: Any) -> dict[str, Any]:
    """What stands below a cell, by MIME type."""
    data = {}
    for output in cell.outputs:
        assert output.output_type == "execute_result", output
        data |= output.data
    return data


notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in CELLS])
nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
begin, value, figure, image, failed, awaited, end = map(shown, notebook.cells)
assert (begin, end) == ({}, {}), (begin, end)
assert value == {"text/plain": "21"}, value
for data in figure, image:
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG"), data
assert "ZeroDivisionError" in failed["text/plain"], failed
assert awaited == {"text/plain": "42"}, awaited
print("ok   a notebook shows values, figures and exceptions")
