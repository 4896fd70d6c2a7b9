"""LlamaIndex's AzureCodeInterpreterToolSpec against a pool."""

import os
import tempfile

from llama_index.tools.azure_code_interpreter import AzureCodeInterpreterToolSpec

import pool


def main():
    spec = AzureCodeInterpreterToolSpec(
        pool_management_endpoint=pool.ENDPOINT,
        session_id=pool.new_identifier(),
        local_save_path=tempfile.mkdtemp(),
    )
    spec.access_token_provider = pool.token
    pool.equal("a number", spec.code_interpreter("6 * 7")["properties"]["result"], 42)
    spec.code_interpreter("import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()")
    saved = os.listdir(spec.local_save_path)
    pool.equal("a figure is saved", [os.path.splitext(name)[1] for name in saved], [".png"])

    with tempfile.NamedTemporaryFile("w", suffix=".txt") as f:
        f.write("hello")
        f.flush()
        spec.upload_file(local_file_path=f.name)
        name = os.path.basename(f.name)
        pool.equal("list", [x.filename for x in spec.list_files()], [name])
        data = spec.download_file_to_local(remote_file_path=name)
        pool.equal("download", data.read(), b"hello")


main()
