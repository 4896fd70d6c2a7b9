"""LangChain's SessionsBashTool, and SessionsBashBackend for deepagents, against a Shell pool."""

import io
import json
import warnings

import requests

warnings.simplefilter("ignore")  # both are experimental

from langchain_azure_dynamic_sessions import SessionsBashTool  # noqa: E402
from langchain_azure_dynamic_sessions.backends import SessionsBashBackend  # noqa: E402

import pool  # noqa: E402

SHELL = pool.setting("SANDPOOL_SHELL_ENDPOINT")


def tool_commands(tool):
    ran = tool.execute("echo out; echo err >&2; exit 3")
    pool.equal("a command", (ran["result"]["stdout"], ran["result"]["stderr"], ran["status"]), ("out\n", "err\n", "3"))
    tool.execute("x=41; cd /tmp; f() { echo \"f $x\"; }")
    said = json.loads(tool.invoke("f; pwd"))
    pool.equal("state, as a tool", said, {"stdout": "f 41\n/tmp\n", "stderr": "", "exitCode": 0})
    pool.equal("NUL", tool.execute(r"printf 'a\0b'")["result"]["stdout"], "a\0b")


def tool_files(tool):
    up = tool.upload_file(data=io.BytesIO(b"a,b\n1,2\n"), remote_file_path="my data ü.csv")
    pool.equal("upload", (up.filename, up.size_in_bytes), ("my data ü.csv", 8))
    pool.equal("list", [f.filename for f in tool.list_files()], ["my data ü.csv"])
    pool.equal("a command sees it", tool.execute("cut -d, -f2 '/mnt/data/my data ü.csv'")["result"]["stdout"], "b\n2\n")
    pool.equal("download", tool.download_file(remote_file_path="my data ü.csv").read(), b"a,b\n1,2\n")


def backend_files(backend):
    pool.equal("write", backend.write("/mnt/data/src/app.py", "print('hi')\n# two\n").error, None)
    pool.holds("write again", backend.write("/mnt/data/src/app.py", "x").error, "exist")
    pool.holds("read", backend.read("/mnt/data/src/app.py"), "1\tprint('hi')")
    pool.equal("edit", backend.edit("/mnt/data/src/app.py", "'hi'", "'it''s'").error, None)
    pool.holds("read what was edited", backend.read("/mnt/data/src/app.py"), "print('it''s')")
    pool.equal("list", [(e["path"], e["is_dir"]) for e in backend.ls_info("/mnt/data")], [("src", True)])
    pool.equal("glob", [e["path"] for e in backend.glob_info("*.py", "/mnt/data")], ["src/app.py"])
    large = "".join(f"line {i} ä\n" for i in range(30_000))
    pool.equal("write 390 kB", backend.write("/mnt/data/large.txt", large).error, None)
    pool.equal("all of it is there", backend.execute("sha256sum </mnt/data/large.txt; wc -l </mnt/data/large.txt").output.split()[-1], "30000")
    found = backend.grep("it''s", path="/mnt/data")
    pool.equal("grep", [(m["path"], m["line"]) for m in found.matches or []], [("/mnt/data/src/app.py", 1)])
    up = backend.upload_files([("/mnt/data/up.bin", bytes(range(256)))])
    pool.equal("upload", up[0].error, None)
    down = backend.download_files(["/mnt/data/up.bin", "/mnt/data/absent"])
    pool.equal("download", (down[0].content, down[1].error), (bytes(range(256)), "file_not_found"))


def main():
    identifier = pool.new_identifier()
    tool = SessionsBashTool(pool_management_endpoint=SHELL, session_id=identifier, access_token_provider=pool.token)
    tool_commands(tool)
    tool_files(tool)
    backend = SessionsBashBackend(SHELL, session_id=identifier, access_token_provider=pool.token)
    ran = backend.execute("f; exit 4")
    pool.equal("the backend shares the session", (ran.output, ran.exit_code, ran.truncated), ("f 41\n", 4, False))
    pool.equal("much output", len(backend.execute("yes | head -c 90000").output), 90000)
    backend_files(SessionsBashBackend(SHELL, session_id=pool.new_identifier(), access_token_provider=pool.token))
    absent = SessionsBashTool(pool_management_endpoint=pool.ABSENT, session_id=identifier, access_token_provider=pool.token)
    pool.raises("an unknown pool", requests.HTTPError, lambda: absent.execute("ls"))
    tool.delete_session()
    fresh = SessionsBashTool(pool_management_endpoint=SHELL, session_id=identifier, access_token_provider=pool.token)
    pool.eventually("a fresh session of the same name", lambda: fresh.execute("echo $x")["result"]["stdout"], "\n")


main()
