#!/bin/sh
# Runs the matrix as root: installs what is missing of Debian's packages, builds
# egressaudit and the matrix, and plays all cells. Arguments go to the matrix
# (-world NAME, -only TEXT, -seed N, -jobs N, -keep, -v). Exit status: 0 all
# right, 1 a cell is wrong, 2 the lab could not be built. EGRESSAUDIT names a
# program to try instead of building one. See README.md.
#
#   sudo test/matrix/run.sh
set -eu

here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
cache=${MATRIX_CACHE:-/var/cache/egressaudit-matrix}

die() {
	echo "matrix: $*" >&2
	exit 2
}
[ "$(id -u)" -eq 0 ] || die "network namespaces need root (sudo test/matrix/run.sh)"
command -v go >/dev/null || die "needs go"

# PROGRAM:PACKAGE. squid and squid-openssl exclude each other, so squid is
# installed and the other one's files are unpacked beside it.
wanted=
for pair in ip:iproute2 nft:nftables iptables:iptables nsenter:util-linux squid:squid tinyproxy:tinyproxy-bin unbound:unbound \
	dnsmasq:dnsmasq-base curl:curl openssl:openssl /usr/bin/python3:python3-minimal sysctl:procps; do
	PATH=$PATH:/usr/sbin:/sbin command -v "${pair%%:*}" >/dev/null || wanted="$wanted ${pair#*:}"
done
updated=
update() {
	[ -n "$updated" ] || apt-get update -qq || die "apt-get update failed"
	updated=yes
}
if [ -n "$wanted" ]; then
	update
	# Nothing is to start by itself.
	# shellcheck disable=SC2086
	RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $wanted >&2 || die "apt-get install$wanted failed"
fi
if [ ! -x "$cache/squid-openssl/usr/lib/squid/security_file_certgen" ]; then
	update
	tmp=$(mktemp -d)
	trap 'rm -rf "$tmp"' EXIT
	chmod 755 "$tmp"
	(cd "$tmp" && apt-get download -qq squid-openssl >&2) || die "apt-get download squid-openssl failed"
	mkdir -p "$cache"
	dpkg-deb -x "$tmp"/squid-openssl_*.deb "$tmp/unpacked"
	chmod -R a+rX "$tmp/unpacked"
	rm -rf "$cache/squid-openssl"
	mv "$tmp/unpacked" "$cache/squid-openssl"
	rm -rf "$tmp"
	trap - EXIT
fi
missing=$(ldd "$cache/squid-openssl/usr/sbin/squid" | grep 'not found' || :)
[ -z "$missing" ] || die "squid-openssl lacks libraries: $missing"

bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
chmod 755 "$bin"
program=${EGRESSAUDIT:-}
if [ -z "$program" ]; then
	program=$bin/egressaudit
	go build -o "$program" ./cmd/egressaudit || die "go build ./cmd/egressaudit failed"
fi
go build -o "$bin/matrix" ./test/matrix || die "go build ./test/matrix failed"
status=0
PATH=$PATH:/usr/sbin:/sbin "$bin/matrix" -program "$program" -squid-openssl "$cache/squid-openssl" "$@" || status=$?
exit "$status"
