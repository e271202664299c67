#!/bin/sh
# image.sh builds the image of deploy/Dockerfile with buildah, without a daemon:
#
#   deploy/image.sh FILE            an archive for 'docker load', 'podman load' and
#                                   'ctr -n k8s.io images import'; prints its digest
#   deploy/image.sh --context DIR   only what Dockerfile copies, for another builder
#
# The same source gives the same digest, wherever it lies. From the environment:
# GOARCH (default this machine's), IMAGE (the name, default ghcr.io/...:VERSION),
# VERSION (default what git says).
set -eu
[ $# -gt 0 ] || { echo "image.sh: name the archive to write, such as egressaudit.tar" >&2; exit 2; }
from=$(pwd)
cd "$(dirname "$0")/.."
arch=${GOARCH:-$(go env GOARCH)}
version=${VERSION:-$(git describe --tags --always --abbrev=12 --dirty 2>/dev/null || echo devel)}
image=${IMAGE:-ghcr.io/egressaudit/egressaudit:$version}

absolute() { case $1 in /*) echo "$1" ;; *) echo "$from/$1" ;; esac; }

# fill makes what Dockerfile copies.
fill() {
	mkdir -p "$1/owned/ledger" "$1/owned/tmp" "$1/owned/run/egressaudit"
	chmod 755 "$1" "$1/owned" "$1/owned/run" "$1/owned/run/egressaudit"
	chmod 700 "$1/owned/ledger"
	chmod 1777 "$1/owned/tmp"
	CGO_ENABLED=0 GOOS=linux GOARCH=$arch go build -trimpath -buildvcs=false \
		-ldflags "-s -w -buildid= -X main.release=$version" -o "$1/egressaudit" ./cmd/egressaudit
	chmod 755 "$1/egressaudit"
}

if [ "$1" = --context ]; then
	fill "$(absolute "${2:?--context needs a folder}")"
	exit
fi
if ! command -v buildah >/dev/null; then
	[ "$(id -u)" = 0 ] || { echo "image.sh: needs buildah: apt-get install buildah" >&2; exit 2; }
	apt-get install -y --no-install-recommends buildah >&2
fi
out=$(absolute "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fill "$work/context"
# Storage of its own: nothing of this host's images is seen or left.
b() { TMPDIR=$work buildah --root "$work/storage" --runroot "$work/run" --storage-driver vfs "$@"; }
b bud --quiet --isolation chroot --arch "$arch" --os linux --timestamp 0 --layers=false --format oci --identity-label=false \
	--build-arg "VERSION=$version" --tag "$image" --file deploy/Dockerfile "$work/context" >/dev/null
rm -f "$out"
b push --quiet --digestfile "$work/digest" "$image" "docker-archive:$out:$image" >&2
echo "$image $(cat "$work/digest")"
