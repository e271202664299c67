#!/bin/sh
# egressaudit beside tinyproxy, squid and a bare goproxy, or with -dns beside
# unbound, dnsmasq and CoreDNS, in one run: root, Debian 12. README.md says what is
# measured. Flags go to the program:
#
#   sh test/bench/run.sh [-dns] [-rounds N] [-scale FACTOR] [-generator DIR] [-questions FILE] [-o FILE] [-strict]
set -eu

cd "$(dirname "$0")/../.."
PATH=$PATH:/usr/sbin:/usr/bin
bench=
tmp=
tidy() {
	status=$?
	trap - EXIT HUP INT TERM
	# The program leads a process group of its own with all it starts.
	[ -z "$bench" ] || { kill -TERM "$bench" 2>/dev/null && wait "$bench" || :; kill -KILL -- "-$bench" 2>/dev/null || :; }
	[ -z "$tmp" ] || rm -rf "$tmp"
	exit "$status"
}
trap tidy EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

die() {
	echo "bench: $*" >&2
	exit 2
}
[ "$(id -u)" = 0 ] || die "needs root, for apt-get and for squid"
command -v go >/dev/null || die "needs go"
need="tinyproxy:tinyproxy squid:squid"
case " $* " in *" -dns "*) need="unbound:unbound dnsmasq:dnsmasq-base knotd:knot dnsperf:dnsperf" ;; esac
missing=
for peer in $need; do
	command -v "${peer%%:*}" >/dev/null || missing="$missing ${peer#*:}"
done
if [ -n "$missing" ]; then
	# A peer that is installed for this must not begin to serve.
	apt-get update -qq
	RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing >/dev/null || die "apt-get install$missing failed"
fi

tmp=$(mktemp -d "${TMPDIR:-/tmp}/egressaudit-bench.XXXXXX")
chmod 755 "$tmp" # squid and tinyproxy give up root
ulimit -n "$(ulimit -H -n)"
go build -o "$tmp/bench" ./test/bench
setsid "$tmp/bench" -dir "$tmp" "$@" &
bench=$!
status=0
wait "$bench" || status=$?
exit "$status"
