#!/bin/sh
# Runs as root in a new Debian: an image with Jupyter kernels that are not ours.
set -eu
recipe=$1
. "$recipe/base.sh"

step user
add_user

step kernels
wheel=$(echo /usr/share/python-wheels/pip-*.whl)
python3 "$wheel/pip" install --only-binary :all: --no-cache-dir --break-system-packages \
	--root-user-action=ignore --progress-bar off --requirement "$recipe/requirements.txt" >&2
python3 -m bash_kernel.install --sys-prefix >&2
find /usr/share/jupyter /usr/local/share/jupyter -name kernel.json -exec sh -c 'echo "$1"; cat "$1"' - {} \; >&2

step clean
trim_debian
clean
