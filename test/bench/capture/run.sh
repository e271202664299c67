#!/bin/sh
# Captured connections through egressaudit beside haproxy and plain forwarding, in
# one run: root, Debian 12. ../README.md says what is measured. Flags go to the
# program:
#
#   sh test/bench/capture/run.sh [-rounds N] [-scale FACTOR] [-o FILE]
#
# EGRESSAUDIT_SHARED/bench (../shared/bench) is the generator's source.
set -eu

cd "$(dirname "$0")/../../.."
PATH=$PATH:/usr/sbin:/usr/bin
tmp=
trap '[ -z "$tmp" ] || rm -rf "$tmp"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

die() {
	echo "bench: $*" >&2
	exit 2
}
[ "$(id -u)" = 0 ] || die "needs root, for apt-get and for network namespaces"
command -v go >/dev/null || die "needs go"
generator=${EGRESSAUDIT_SHARED:-../shared}/bench
[ -f "$generator/main.go" ] || die "no generator in $generator (name its parent folder with EGRESSAUDIT_SHARED)"
missing=
for pair in haproxy:haproxy ip:iproute2 nft:nftables sysctl:procps unshare:util-linux; do
	command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair#*:}"
done
if [ -n "$missing" ]; then
	# A peer that is installed for this must not begin to serve.
	apt-get update -qq
	# shellcheck disable=SC2086 # a list of words
	RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing >/dev/null || die "apt-get install$missing failed"
fi

tmp=$(mktemp -d "${TMPDIR:-/tmp}/egressaudit-capture.XXXXXX")
ulimit -n "$(ulimit -H -n)"
go build -o "$tmp/egressaudit" ./cmd/egressaudit
go build -o "$tmp/capture" ./test/bench/capture
go build -o "$tmp/relay" ./test/bench/relay
(cd "$generator" && go build -o "$tmp/proxybench" .)
"$tmp/capture" -dir "$tmp" "$@"
