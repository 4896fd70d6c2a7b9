# What the setups of all images share. setup.sh sources it; $recipe is the directory of the recipe.

# A line that starts with "step: " on standard error is shown as progress.
step() { echo "step: $*" >&2; }

# add_user makes the user that code runs as, and the places that belong to it.
add_user() {
	echo 'sandbox:x:1000:1000:sandbox:/home/sandbox:/bin/bash' >>/etc/passwd
	echo 'sandbox:x:1000:' >>/etc/group
	echo 'sandbox:!:20000:0:99999:7:::' >>/etc/shadow
	install -d -o 1000 -g 1000 -m 0755 /home/sandbox /mnt/data
	printf '127.0.0.1\tlocalhost\n::1\tlocalhost\n' >/etc/hosts
	# A sandbox is named after itself when it starts. libnss-myhostname answers for that name.
	sed -i 's/^hosts:.*/hosts: files myhostname dns/' /etc/nsswitch.conf
}

# make_locales compiles the named UTF-8 locales, one after another: they share files. localedef
# ends with 1 for a warning about its sources; whether a locale works is for a check to say.
make_locales() {
	for name in "$@"; do
		localedef --no-archive --inputfile "$name" --charmap UTF-8 "$name.UTF-8" >&2 || [ $? = 1 ]
	done
}

# as_user runs a command in the environment of a sandbox's code.
as_user() {
	chroot --userspec=1000:1000 / /usr/bin/env -i HOME=/home/sandbox LANG=C.UTF-8 \
		PATH=/usr/local/bin:/usr/bin:/bin PYTHONDONTWRITEBYTECODE=1 "$@"
}

# trim_debian removes what only people at a terminal read.
trim_debian() {
	rm -rf /usr/share/man /usr/share/info /usr/share/locale /usr/share/lintian /usr/share/bug
	find /usr/share/doc -type f ! -name copyright -delete
	find /usr/share/doc -type l -delete
	find /usr/share/doc -type d -empty -delete
}

# cache_fonts makes fontconfig's cache, without which each program that draws text looks at every
# font for a second. A cache is valid for one time of the folder, and all files of an image have
# the time of erofs.Stamp.
cache_fonts() {
	find /usr/share/fonts /usr/local/share/fonts -type d -exec touch --date=@1767225600 {} +
	fc-cache --force --system-only >&2
}

# clean removes logs, caches and what names this build.
clean() {
	find /var/cache -mindepth 1 -maxdepth 1 ! -name fontconfig -exec rm -rf {} +
	rm -rf /tmp/* /var/tmp/* /var/log/* /var/lib/apt/lists/* /run/* /root/.cache /home/sandbox/.cache/pip
	rm -f /etc/machine-id /etc/hostname /var/lib/dpkg/*-old
	rm -f /etc/passwd- /etc/group- /etc/shadow- /etc/gshadow- || :
	# In a container's build this one is a mount and stays.
	rm -f /etc/resolv.conf 2>/dev/null && : >/etc/resolv.conf || :
}
