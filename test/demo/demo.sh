#!/bin/sh
# The demo: an install behind a corporate proxy that blocks three of the
# endpoints it needs, recorded by egressaudit, and the report of it. It needs
# Go and curl, neither root nor internet: the corporate network is test/lab, on
# loopback. The recording stays in the checkout as egressaudit-demo.jsonl, for the
# commands that the report ends with. Exit status 0 when the report says what
# network.lab did.
#
#   sh test/demo/demo.sh
set -eu

here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
book=egressaudit-demo.jsonl
tmp=$(mktemp -d "${TMPDIR:-/tmp}/egressaudit-demo.XXXXXX")
lab=
tidy() {
	status=$?
	trap - EXIT HUP INT TERM
	exec 9>&- # the lab's leash
	[ -z "$lab" ] || { kill "$lab" 2>/dev/null || :; wait "$lab" 2>/dev/null || :; }
	rm -rf "$tmp"
	exit "$status"
}
trap tidy EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

die() {
	echo "demo: $*" >&2
	exit 1
}
say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
[ -t 1 ] || say() { printf '\n== %s\n' "$*"; }

for tool in go curl; do
	command -v $tool >/dev/null || die "needs $tool"
done

say "Building egressaudit and the lab"
go build -o "$tmp/" ./cmd/egressaudit ./test/lab/cmd/lab

say "Starting a corporate network on loopback (test/demo/network.lab)"
# The lab ends when the pipe on its standard input does, however this script
# ends.
mkfifo "$tmp/leash"
"$tmp/lab" -script "$here/network.lab" -ca "$tmp/ca.pem" -ready "$tmp/ready" <"$tmp/leash" >/dev/null &
lab=$!
exec 9>"$tmp/leash"
waited=0
until [ -e "$tmp/ready" ]; do
	kill -0 "$lab" 2>/dev/null || die "the lab did not start"
	[ "$waited" -lt 100 ] || die "the lab did not start in 10 seconds"
	waited=$((waited + 1))
	sleep 0.1
done
. "$tmp/ready" # PARENT, CA
echo "corporate proxy: $PARENT"

set -- --parent "$PARENT" --trust "$CA" --region eastus --answer-timeout 2s --trial demo --ledger "$book"
say "egressaudit run --parent $PARENT --region eastus ... -- sh test/demo/install.sh"
child=0
[ -w . ] || die "cannot write $book into $PWD: make the checkout writable"
rm -f "$book"
(
	unset HTTPS_PROXY https_proxy HTTP_PROXY http_proxy ALL_PROXY all_proxy NO_PROXY no_proxy
	export CA
	exec "$tmp/egressaudit" run "$@" -- sh "$here/install.sh" 9>&-
) || child=$?

say "Checking the recording against test/demo/network.lab"
[ "$child" -eq 1 ] || die "exit status of run is $child, not the installer's 1"
gaps=0
"$tmp/egressaudit" report --region eastus --format json "$book" >"$tmp/report.json" || gaps=$?
[ "$gaps" -eq 1 ] || die "exit status of report is $gaps, not 1 for gaps"
# One line without blanks, however the JSON was laid out.
tr -d ' \t\n' <"$tmp/report.json" >"$tmp/report.line"

right=0
wrong=0
# expect WHAT PATTERN: the report has it.
expect() {
	if grep -Eq "$2" "$tmp/report.line"; then
		right=$((right + 1))
	else
		echo "    not in the report: $1"
		wrong=$((wrong + 1))
	fi
}
# endpoint HOST STATUS [ERROR]
endpoint() {
	host=$(printf '%s' "$1" | sed 's/[.*]/\\&/g')
	cause=
	[ $# -lt 3 ] || cause="[^{}]*\"cause\":\\{[^{}]*\"error\":\"$3\""
	expect "$1 $2 ${3-}" "\"host\":\"$host\",[^{}]*\"status\":\"$2\"$cause"
}
expect "verdict: gaps" '"verdict":"gaps"'
expect "3 endpoints blocked" '"blocked":3[,}]'
expect "1 destination unlisted" '"unlisted":1[,}]'
endpoint '*.quay.io' blocked connection_terminated
endpoint 'gcr.io' blocked parent_denied
endpoint '*.queue.core.windows.net' blocked tls_intercepted
endpoint 'quay.io' used
endpoint 'management.azure.com' used
endpoint 'archive.ubuntu.com' used
endpoint 'storage.googleapis.com' unused
expect "production.cloudfront.docker.com unlisted" '"unlisted":\[\{"host":"production\.cloudfront\.docker\.com"'
[ "$wrong" -eq 0 ] || die "$wrong facts are missing in: $(cat "$tmp/report.json")"
echo "All $right facts are in the report."

say "The recording stays; to go on"
echo "make build && ./egressaudit report --format html -o report.html $book"
