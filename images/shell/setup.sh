#!/bin/sh
# Runs as root inside the new root filesystem, with the recipe in the directory given as $1, and
# turns Debian into the Shell image. The Go builder and the Containerfile both call it.
set -eu
recipe=$1
. "$recipe/base.sh"
. "$recipe/node.sh"
export PYTHONDONTWRITEBYTECODE=1

step user
add_user
make_locales $(cat "$recipe/locales")

step node
install_node
pip=$(echo /usr/share/python-wheels/pip-*.whl)
python3 "$pip/pip" install --no-index --no-compile --break-system-packages --root-user-action=ignore "$pip" >&2
dpkg --purge python3-pip-whl locales libc-l10n >&2
# A sandbox is thrown away after use: nothing here needs protection from pip.
rm -f /usr/lib/python3*/EXTERNALLY-MANAGED
ln -sf /usr/bin/python3 /usr/local/bin/python
ln -sf /usr/bin/vim.tiny /usr/local/bin/vim

step trim
trim_debian

step check
install -d /usr/share/sandpool
install -m 0755 "$recipe/check.sh" /usr/share/sandpool/
as_user bash /usr/share/sandpool/check.sh >&2

step clean
{
	echo '{"debian": ['
	dpkg-query --show --showformat '"${Package}=${Version}",\n' | sed '$ s/,$//'
	echo '], "python": []}'
} >/usr/share/sandpool-packages.json
clean
