#!/bin/sh
# run.sh [GO TEST FLAGS]: installs what the browser's tests need, what is missing
# only, and runs them. It may be run again.
#
#   EGRESSAUDIT_E2E=must (default)  what cannot run is a failure
#   EGRESSAUDIT_E2E=try             what cannot run is skipped, and named
#   EGRESSAUDIT_ARTEFACTS=DIR       where screenshots go (a new folder in TMPDIR)
set -eu
cd "$(dirname "$0")"
export EGRESSAUDIT_E2E="${EGRESSAUDIT_E2E:-must}"
axe=axe-core@4.14.1
cache=${BROWSER_CACHE:-/var/cache/egressaudit-browser}
packages="chromium fonts-dejavu-core fonts-noto-core nodejs npm"

# lacking prints the packages that are not installed. node and npm may come from
# elsewhere.
lacking() {
	for p in $packages; do
		case $p in nodejs) command -v node >/dev/null && continue ;; npm) command -v npm >/dev/null && continue ;; esac
		[ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || printf '%s ' "$p"
	done
}

apt_install() {
	for attempt in old new; do
		[ $attempt = old ] || apt-get -o DPkg::Lock::Timeout=300 update -q || true
		# shellcheck disable=SC2086 # a list of words
		DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -q -y --no-install-recommends $1 && return
	done
	return 1
}

problem=
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
	lack=$(lacking)
	if [ -n "$lack" ]; then
		echo "browser: installing $lack"
		apt_install "$lack" >&2 || echo "browser: apt-get failed"
	fi
fi
command -v chromium >/dev/null || problem="chromium is missing (as root, on Debian 12, this script installs it)"
if [ -z "$problem" ] && ! [ -f "$cache/$axe/node_modules/axe-core/axe.min.js" ]; then
	npm install --prefix "$cache/$axe" --no-save --no-audit --no-fund --ignore-scripts "$axe" >&2 || problem="npm cannot install $axe"
fi
export EGRESSAUDIT_AXE="$cache/$axe/node_modules/axe-core/axe.min.js"
if [ -n "$problem" ]; then
	echo "browser: $problem"
	[ "$EGRESSAUDIT_E2E" = try ] || exit 1
	echo "browser: what needs that is skipped, for EGRESSAUDIT_E2E=try"
fi
go vet ./...
exec go test -count=1 -timeout 15m -v "$@" .
