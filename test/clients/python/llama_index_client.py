"""LlamaIndex's AzureCodeInterpreterToolSpec against a pool."""

import os
import tempfile

import requests
from llama_index.tools.azure_code_interpreter import AzureCodeInterpreterToolSpec

import pool


def new_spec(endpoint=pool.ENDPOINT, save=None):
    spec = AzureCodeInterpreterToolSpec(
        pool_management_endpoint=endpoint,
        session_id=pool.new_identifier(),
        local_save_path=save,
    )
    spec.access_token_provider = pool.token
    return spec


def code(spec):
    def run(text):
        return spec.code_interpreter(text)["properties"]

    pool.equal("a number", run("6 * 7")["result"], 42)
    pool.equal("output", run("print('hi')")["stdout"], "hi\n")
    run("kept = 41")
    pool.equal("state", run("kept + 1")["result"], 42)
    as_tool = next(t for t in spec.to_tool_list() if t.metadata.name == "code_interpreter")
    pool.equal("as a tool", as_tool.call(python_code="kept").raw_output["properties"]["result"], 41)
    failed = run("1/0")
    pool.equal("an exception", failed["status"], "Failure")
    pool.holds("its traceback", failed["stderr"], "ZeroDivisionError")

    figure = run("import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()")["result"]
    pool.equal("a figure is saved", figure["saved_to_local_path"], True)
    (saved,) = os.listdir(spec.local_save_path)
    with open(os.path.join(spec.local_save_path, saved), "rb") as f:
        pool.equal("as a picture", (os.path.splitext(saved)[1], f.read(8)), (".png", b"\x89PNG\r\n\x1a\n"))


def files(spec, work):
    with open(os.path.join(work, "notes.txt"), "w", encoding="utf-8") as f:
        f.write("hello")
    (up,) = spec.upload_file(local_file_path=f.name)
    pool.equal("upload", (up.file_full_path, up.size_in_bytes), ("/mnt/data/notes.txt", 5))
    pool.equal("list", [x.filename for x in spec.list_files()], ["notes.txt"])
    seen = spec.code_interpreter("open('/mnt/data/notes.txt').read()")
    pool.equal("the code sees it", seen["properties"]["result"], "'hello'")
    pool.equal("download", spec.download_file_to_local(remote_file_path="/mnt/data/notes.txt").read(), b"hello")
    refused("a file that is not there", lambda: spec.download_file_to_local(remote_file_path="absent.txt"))


def refused(what, call, code=None):
    """Is an HTTPError, which is what every method raises for an answer without success."""
    response = pool.raises(what, requests.HTTPError, call).response
    pool.equal("its status", response.status_code, 404)
    if code:
        pool.equal("its code", response.json()["error"]["code"], code)


def main():
    with tempfile.TemporaryDirectory() as save, tempfile.TemporaryDirectory() as work:
        spec = new_spec(save=save)
        code(spec)
        files(spec, work)
    refused("a full pool", lambda: new_spec(pool.FULL).code_interpreter("1"), pool.FULL_CODE)
    refused("an unknown pool", lambda: new_spec(pool.ABSENT).code_interpreter("1"), pool.ABSENT_CODE)


main()
