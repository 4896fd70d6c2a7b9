"""Prints, as JSON, the Debian packages and Python distributions of this system."""

import importlib.metadata
import json
import subprocess

debian = subprocess.run(
    ["dpkg-query", "--show", "--showformat", "${Package}=${Version}\n"],
    check=True, capture_output=True, text=True,
).stdout.split()
python = {f"{d.name}=={d.version}" for d in importlib.metadata.distributions()}
print(json.dumps({"debian": sorted(debian), "python": sorted(python, key=str.lower)}, indent=1))
