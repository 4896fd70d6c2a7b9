#!/bin/sh
# Runs as root inside the new root filesystem, with the recipe in the directory given as $1, and
# turns Debian into the Node image. The Go builder and the Containerfile both call it.
set -eu
recipe=$1
. "$recipe/base.sh"
. "$recipe/node.sh"
lib=/usr/local/lib

step user
add_user
make_locales $(cat "$recipe/locales")

step node
install_node

step packages
cp "$recipe/package.json" "$recipe/package-lock.json" "$lib"
# Nothing that comes with a package runs here.
NODE_EXTRA_CA_CERTS="${PIP_CERT:-}" npm ci --prefix "$lib" --ignore-scripts --no-audit --no-fund \
	--no-update-notifier --omit dev --cache /tmp/npm >&2
# Programs find the packages from wherever they run.
ln -s "$lib/node_modules" /node_modules

step trim
# lib.*.d.ts are the types of the language itself, which tsc needs.
find "$lib/node_modules" -type f ! -path '*/typescript/lib/lib.*' \( -name '*.map' -o -name '*.ts' -o -name '*.mts' -o -name '*.cts' \
	-o -name '*.md' -o -name '*.markdown' -o -name '*.flow' \) ! -iname 'license*' -delete
find "$lib/node_modules" -type d \( -name test -o -name tests -o -name __tests__ -o -name .github \) \
	-prune -exec rm -rf {} +
# What the packages bring for browsers.
rm -rf "$lib"/node_modules/echarts/dist/*.min.js "$lib/node_modules/pdf-lib/dist" \
	"$lib/node_modules/exceljs/dist" "$lib/node_modules/@types"
# What TypeScript brings for editors, and its messages in other languages.
find "$lib/node_modules/typescript/lib" -mindepth 1 -type d -prune -exec rm -rf {} +
rm -rf "$lib"/node_modules/typescript/lib/*tsserver* "$lib"/node_modules/typescript/*/tsserver \
	"$lib/node_modules/.bin/tsserver"
dpkg --purge locales libc-l10n >&2
trim_debian
cache_fonts

step check
install -d /usr/share/sandpool
install -m 0644 "$recipe/check.mjs" /usr/share/sandpool/
as_user node /usr/share/sandpool/check.mjs >&2

step clean
{
	echo '{"debian": ['
	dpkg-query --show --showformat '"${Package}=${Version}",\n' | sed '$ s/,$//'
	echo '], "node":'
	node -p 'JSON.stringify(Object.entries(require("/usr/local/lib/package.json").dependencies).map(p => p.join("==")))'
	echo '}'
} >/usr/share/sandpool-packages.json
clean
