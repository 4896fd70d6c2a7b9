"""LangChain's SessionsPythonREPLTool against a pool."""

import io
import json

import requests
from langchain_azure_dynamic_sessions import SessionsPythonREPLTool

import pool


def new_tool(endpoint=pool.ENDPOINT, token=pool.token):
    return SessionsPythonREPLTool(
        pool_management_endpoint=endpoint,
        session_id=pool.new_identifier(),
        access_token_provider=token,
    )


def code(tool):
    pool.equal("a number", tool.execute("1 + 1")["result"], 2)
    pool.equal("output", tool.execute("print('hi')")["stdout"], "hi\n")
    tool.execute("kept = 41")
    pool.equal("state", tool.execute("kept + 1")["result"], 42)
    pool.equal("as a tool", json.loads(tool.invoke("6 * 7")), {"result": 42, "stdout": "", "stderr": ""})
    pool.equal("as a model writes it", tool.execute("```python\n6 * 7\n```")["result"], 42)

    failed = tool.execute("1/0")
    pool.holds("an exception", failed["stderr"], "ZeroDivisionError")
    pool.equal("its status", failed["status"], "Failure")
    pool.equal("state after it", tool.execute("kept")["result"], 41)

    figure = tool.execute("import matplotlib.pyplot as plt\nplt.plot([1, 2])")["result"]
    pool.equal("a figure", (figure["type"], figure["format"]), ("image", "png"))
    pool.equal("its base64", figure["base64_data"][:11], "iVBORw0KGgo")


def files(tool):
    up = tool.upload_file(data=io.BytesIO(b"a,b\n1,2\n"), remote_file_path="dir/my data ü.csv")
    pool.equal("upload", (up.filename, up.size_in_bytes), ("dir/my data ü.csv", 8))
    pool.equal("list", [f.full_path for f in tool.list_files()], ["/mnt/data/dir/my data ü.csv"])
    pool.equal("the code sees it", tool.execute("open('/mnt/data/dir/my data ü.csv').read()")["result"], "'a,b\\n1,2\\n'")
    pool.equal("download", tool.download_file(remote_file_path="dir/my data ü.csv").read(), b"a,b\n1,2\n")
    tool.execute("open('/mnt/data/out.txt', 'w').write('made inside')")
    pool.equal("download what code made", tool.download_file(remote_file_path="out.txt").read(), b"made inside")
    refused("a file that is not there", lambda: tool.download_file(remote_file_path="absent.txt"), 404)


def refused(what, call, status, code=None):
    """Is an HTTPError, which is what every method of the tool raises for an answer without success."""
    response = pool.raises(what, requests.HTTPError, call).response
    pool.equal("its status", response.status_code, status)
    if code:
        pool.equal("its code", response.json()["error"]["code"], code)
    return response


def main():
    tool = new_tool()
    code(tool)
    files(tool)

    full = refused("a full pool", lambda: new_tool(pool.FULL).execute("1"), 404, pool.FULL_CODE)
    pool.equal("when to try again", int(full.headers["Retry-After"]) > 0, True)
    refused("files in a full pool", lambda: new_tool(pool.FULL).list_files(), 404, pool.FULL_CODE)
    refused("an unknown pool", lambda: new_tool(pool.ABSENT).execute("1"), 404, pool.ABSENT_CODE)
    refused("a wrong token", lambda: new_tool(token=lambda: "wrong").execute("1"), 401)

    # The tool deletes in a thread and goes on under another identifier.
    first = tool.session_id
    tool.delete_session()
    pool.equal("another session after deletion", tool.execute("'kept' in globals()")["result"], "False")
    tool.delete_session()
    tool.session_id = first
    pool.eventually("a fresh session of the same name", lambda: tool.execute("'kept' in globals()")["result"], "False")
    pool.equal("without files", tool.list_files(), [])


main()
