#!/bin/sh
# build.sh prints the path of a CoreDNS made of this folder. It is built once for
# the same source and Go, and kept outside the checkout, in
# ${XDG_CACHE_HOME:-~/.cache}/egressaudit.
set -eu
cd "$(dirname "$0")"
cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/egressaudit
program=$cache/coredns-$({ cat main.go go.mod go.sum; go env GOVERSION GOOS GOARCH; } | sha256sum | cut -c1-16)
if [ ! -x "$program" ]; then
	echo "coredns: building it, once" >&2
	mkdir -p "$cache"
	new=$(mktemp "$cache/coredns.XXXXXX")
	trap 'rm -f "$new"' EXIT
	CGO_ENABLED=0 GOWORK=off go build -trimpath -o "$new" .
	chmod 755 "$new"
	mv "$new" "$program"
fi
echo "$program"
