#!/bin/sh
# build.sh kube|helm prints the path of Kubernetes 1.35.4 in one binary (see main.go),
# or of helm 3.20.2. Each is built once for the same source and Go, and kept outside
# the checkout, in ${XDG_CACHE_HOME:-~/.cache}/egressaudit. Cold, on two cores, kube
# takes some six minutes and 2 GB; helm half a minute after it.
set -eu
cd "$(dirname "$0")"
what=${1:?kube or helm}
cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/egressaudit
digest=$({ cat build.sh main.go go.mod go.sum; go env GOVERSION GOOS GOARCH; } | sha256sum | cut -c1-16)
program=$cache/$what-$digest

version() { GOWORK=off go list -m -f '{{.Version}}' "$1"; }

build() {
	k8s=$(version k8s.io/kubernetes) flags="-s -w"
	minor=${k8s#v1.} minor=${minor%%.*}
	case $what in
	kube)
		package=.
		for p in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
			flags="$flags -X $p.gitVersion=$k8s -X $p.gitMajor=1 -X $p.gitMinor=$minor -X $p.gitTreeState=clean -X $p.buildDate=1970-01-01T00:00:00Z"
		done
		;;
	helm)
		package=helm.sh/helm/v3/cmd/helm
		flags="$flags -X helm.sh/helm/v3/internal/version.version=$(version helm.sh/helm/v3)"
		for p in pkg/lint/rules pkg/chartutil; do
			flags="$flags -X helm.sh/helm/v3/$p.k8sVersionMajor=1 -X helm.sh/helm/v3/$p.k8sVersionMinor=$minor"
		done
		;;
	*)
		echo "build.sh: \"$what\" is neither kube nor helm" >&2
		exit 2
		;;
	esac
	CGO_ENABLED=0 GOWORK=off nice go build -p 2 -trimpath -ldflags "$flags" -o "$new" $package
}

if [ ! -x "$program" ]; then
	mkdir -p "$cache"
	exec 9>"$cache/kube.lock" # both share the build cache: one after the other, once
	flock 9
fi
if [ ! -x "$program" ]; then
	echo "$what: building it, once" >&2
	new=$(mktemp "$cache/$what.XXXXXX")
	trap 'rm -f "$new"' EXIT
	build
	chmod 755 "$new"
	mv "$new" "$program"
fi
echo "$program"
