"""langchain's SessionsPythonREPLTool against a pool: execute, figures, files, deletion."""

import io

from langchain_azure_dynamic_sessions import SessionsPythonREPLTool

import pool


def main():
    tool = SessionsPythonREPLTool(
        pool_management_endpoint=pool.ENDPOINT,
        session_id=pool.new_identifier(),
        access_token_provider=pool.token,
    )
    pool.equal("a number", tool.execute("1 + 1")["result"], 2)
    pool.equal("output", tool.execute("print('hi')")["stdout"], "hi\n")
    tool.execute("kept = 41")
    pool.equal("state", tool.execute("kept + 1")["result"], 42)
    failed = tool.execute("1/0")
    pool.holds("an exception", failed["stderr"], "ZeroDivisionError")
    pool.equal("its status", failed["status"], "Failure")

    figure = tool.execute("import matplotlib.pyplot as plt\nplt.plot([1, 2])")["result"]
    pool.equal("a figure", (figure["type"], figure["format"]), ("image", "png"))
    pool.equal("its base64", figure["base64_data"][:11], "iVBORw0KGgo")

    up = tool.upload_file(data=io.BytesIO(b"a,b\n1,2\n"), remote_file_path="dir/my data ü.csv")
    pool.equal("upload", (up.filename, up.size_in_bytes), ("dir/my data ü.csv", 8))
    pool.equal("list", [f.full_path for f in tool.list_files()], ["/mnt/data/dir/my data ü.csv"])
    pool.equal("the code sees it", tool.execute("open('/mnt/data/dir/my data ü.csv').read()")["result"], "'a,b\\n1,2\\n'")
    tool.execute("open('/mnt/data/out.txt', 'w').write('made inside')")
    pool.equal("download", tool.download_file(remote_file_path="out.txt").read(), b"made inside")

    first = tool.session_id
    tool.delete_session()
    tool.session_id = first
    pool.equal("a fresh session after deletion", tool.execute("'kept' in globals()")["result"], "False")
    tool.delete_session()


main()
