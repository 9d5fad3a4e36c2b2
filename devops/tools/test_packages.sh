#!/usr/bin/env bash
# Installs the Debian packages that checks and tests need, only those missing.
set -euo pipefail

has() {
	case $1 in
	libc6-dev) echo '#include <stdlib.h>' | gcc -fsyntax-only -x c - 2>/dev/null ;;
	python3-venv) python3 -c 'import ensurepip, venv' 2>/dev/null ;;
	ca-certificates) [[ -e /etc/ssl/certs/ca-certificates.crt ]] ;;
	graphviz) command -v dot >/dev/null ;;
	fuse3) command -v fusermount3 >/dev/null ;;
	haproxy) PATH=$PATH:/usr/sbin command -v haproxy >/dev/null ;;
	postgresql) compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null ;;
	systemd) command -v systemd-analyze >/dev/null ;;
	*) command -v "$1" >/dev/null ;;
	esac
}

find_missing() {
	missing=()
	for package in bindfs buildah ca-certificates curl docker-registry fuse3 gcc git graphviz haproxy libc6-dev make openssl podman \
		postgresql prometheus python3-venv runc strace systemd; do
		has "$package" || missing+=("$package")
	done
}

find_missing
[[ ${#missing[@]} != 0 ]] || exit 0

as_root=()
[[ $EUID == 0 ]] || as_root=(sudo)
"${as_root[@]}" apt-get update -q
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
	apt-get install -q -y --no-install-recommends "${missing[@]}"

find_missing
if [[ ${#missing[@]} != 0 ]]; then
	echo "still missing after apt-get install: ${missing[*]}" >&2
	exit 1
fi
