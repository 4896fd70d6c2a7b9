#!/bin/sh
# Runs as root inside the new root filesystem, with the recipe in the directory
# given as $1, and turns Debian with python3 into the Python image. The Go
# builder and the Containerfile both call it, so the two images are alike. A
# line that starts with "step: " on standard error is shown as progress.
set -eu
recipe=$1
site=/usr/local/lib/python3.13/dist-packages
# Only the compile step below writes compiled files, in the form it says.
export PYTHONDONTWRITEBYTECODE=1 PYTHONHASHSEED=0
step() { echo "step: $*" >&2; }

step user
echo 'sandbox:x:1000:1000:sandbox:/home/sandbox:/bin/bash' >>/etc/passwd
echo 'sandbox:x:1000:' >>/etc/group
echo 'sandbox:!:20000:0:99999:7:::' >>/etc/shadow
install -d -o 1000 -g 1000 -m 0755 /home/sandbox /mnt/data
printf '127.0.0.1\tlocalhost\n::1\tlocalhost\n' >/etc/hosts

step wheels
# The first pip is Debian's wheel, run in place; the lock brings the one that stays.
wheel=$(echo /usr/share/python-wheels/pip-*.whl)
python3 "$wheel/pip" install \
	--require-hashes --no-deps --only-binary :all: --no-compile --no-cache-dir \
	--break-system-packages --root-user-action=ignore --progress-bar off \
	--requirement "$recipe/requirements.lock" >&2
dpkg --purge python3-pip-whl >&2
# A sandbox is thrown away after use: nothing here needs protection from pip.
rm -f /usr/lib/python3*/EXTERNALLY-MANAGED
ln -sf /usr/bin/python3 /usr/local/bin/python

step trim
# Test suites of packages, and headers and static parts to build against them.
find "$site" -type d -name tests -prune -exec rm -rf {} +
rm -rf "$site/pyarrow/include" "$site/pyarrow/src"
rm -rf /usr/share/man /usr/share/info /usr/share/locale /usr/share/lintian /usr/share/bug
find /usr/share/doc -type f ! -name copyright -delete
find /usr/share/doc -type l -delete
find /usr/share/doc -type d -empty -delete

step compile
# Checked against nothing, so they are valid whatever time the files get, and
# no process ever has to write into the shared root. What a compiled file holds
# depends on what the same process compiled before, so each package has a process.
find /usr/lib/python3 /usr/lib/python3.13 "$site" -name __pycache__ -prune -exec rm -rf {} +
{ echo /usr/lib/python3.13 && find /usr/lib/python3/dist-packages "$site" -mindepth 1 -maxdepth 1; } |
	xargs -P "$(nproc)" -n 1 python3 -m compileall -q --invalidation-mode unchecked-hash >&2

step fonts
# matplotlib scans fonts for seconds at its first import unless this exists.
chroot --userspec=1000:1000 / /usr/bin/env -i HOME=/home/sandbox PATH=/usr/local/bin:/usr/bin:/bin \
	PYTHONDONTWRITEBYTECODE=1 python3 "$recipe/fonts.py" >&2

step check
chroot --userspec=1000:1000 / /usr/bin/env -i HOME=/home/sandbox PATH=/usr/local/bin:/usr/bin:/bin \
	PYTHONDONTWRITEBYTECODE=1 MPLBACKEND=agg python3 -W ignore "$recipe/check.py" >&2

step clean
python3 "$recipe/packages.py" >/usr/share/sandpool-packages.json
rm -rf /tmp/* /var/tmp/* /var/log/* /var/cache/* /var/lib/apt/lists/* /run/* /root/.cache
rm -f /etc/machine-id /etc/hostname /var/lib/dpkg/*-old /etc/passwd- /etc/group- /etc/shadow- /etc/gshadow- || :
# In a container's build this one is a mount and stays.
rm -f /etc/resolv.conf 2>/dev/null && : >/etc/resolv.conf || :
