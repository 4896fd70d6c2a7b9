#!/bin/sh
# Runs as root inside the new root filesystem, with the recipe in the directory
# given as $1, and turns Debian with python3 into the Python image, full or slim. The Go
# builder and the Containerfile both call it, so the images are alike.
set -eu
recipe=$1
. "$recipe/base.sh"
site=/usr/local/lib/python3.13/dist-packages
# Only the compile step below writes compiled files, in the form it says.
export PYTHONDONTWRITEBYTECODE=1 PYTHONHASHSEED=0
# Debian's pip is a wheel that is run in place; the lock brings the one that stays.
wheel=$(echo /usr/share/python-wheels/pip-*.whl)

step user
add_user
make_locales $(cat "$recipe/locales") &

step wheels
# pip waits for the index, fetches and unpacks one wheel after another. Several of them, each with
# a part of the lock, keep the network and the processors busy.
mkdir /tmp/parts
awk '/^[a-z0-9]/ {n++} {print >("/tmp/parts/" n % 16 ".lock")}' "$recipe/requirements.lock"
ls /tmp/parts/*.lock | xargs -P 6 -n 1 python3 "$wheel/pip" install \
	--require-hashes --no-deps --only-binary :all: --no-compile --no-cache-dir \
	--break-system-packages --root-user-action=ignore --progress-bar off --requirement >&2
if [ -e "$recipe/data.lock" ]; then
	python3 "$wheel/pip" download --require-hashes --no-deps --only-binary :all: --no-cache-dir \
		--progress-bar off --dest /tmp/data --requirement "$recipe/data.lock" >&2
	python3 "$recipe/data.py" /tmp/data "$site"
fi
wait $! # for the locales
dpkg --purge python3-pip-whl locales libc-l10n >&2
# A sandbox is thrown away after use: nothing here needs protection from pip.
rm -f /usr/lib/python3*/EXTERNALLY-MANAGED
ln -sf /usr/bin/python3 /usr/local/bin/python

step trim
# Test suites of packages, and headers to build against them. Two packages import their own.
find "$site" -type d -name tests ! -path "$site/bottleneck/*" ! -path "$site/tables/*" -prune -exec rm -rf {} +
rm -rf "$site/pyarrow/include" "$site/pyarrow/src"
if [ -e "$recipe/trim.sh" ]; then . "$recipe/trim.sh"; fi
trim_debian

step fonts
# matplotlib scans fonts for seconds at its first import unless there is a list. An alias or a
# fallback is nothing that it can be told otherwise.
as_user python3 "$recipe/fonts.py" >>"$site/matplotlib/font_manager.py"
as_user python3 "$recipe/fonts.py" mathtext >>"$site/matplotlib/_mathtext.py"

step compile
# Checked against nothing, so they are valid whatever time the files get, and
# no process ever has to write into the shared root. What a compiled file holds depends on what
# the same process compiled before, so each of them gets the same packages in every build.
find /usr/lib/python3 /usr/lib/python3.13 "$site" -name __pycache__ -prune -exec rm -rf {} +
{ echo /usr/lib/python3.13 && find /usr/lib/python3/dist-packages "$site" -mindepth 1 -maxdepth 1 \
	\( -name '*.py' -o -type d ! -name '*.dist-info' ! -name '*.libs' \) | sort; } |
	xargs -P "$(nproc)" -n 4 python3 -m compileall -q --invalidation-mode unchecked-hash >&2

step check
# The checks stay in the image, so that a session can run them.
install -d /usr/share/sandpool
install -m 0644 "$recipe"/check*.py /usr/share/sandpool/
check=/usr/share/sandpool/check.py
if [ -e "$recipe/check_full.py" ]; then check=/usr/share/sandpool/check_full.py; fi
as_user MPLBACKEND=agg python3 "$check" >&2

step clean
python3 "$recipe/packages.py" >/usr/share/sandpool-packages.json
clean
