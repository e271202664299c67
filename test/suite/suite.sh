# suite.sh: what the run.sh of each root suite does, for it to read with ".", from
# its own folder and with the go test flags as "$@". It installs the Debian packages
# that are missing, and runs the tests. Before, the caller sets
#
#   suite     its name
#   packages  Debian packages
#   root      what the tests need root for
#
# and EGRESSAUDIT_E2E says what happens where something cannot run:
#
#   must (default)  a failure
#   try             it is skipped, and named
#
# EGRESSAUDIT_E2E_PROGRAM=FILE tests this program instead of building one. A caller
# with tests of another kind defines run_tests; $problem says why they cannot run.
# shellcheck shell=sh
export EGRESSAUDIT_E2E="${EGRESSAUDIT_E2E:-must}"

# lacking prints the packages that are not installed.
lacking() {
	for p in $packages; do
		[ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || printf '%s ' "$p"
	done
}

# apt_install makes one attempt, with fresh lists where the old ones do not do.
apt_install() {
	for attempt in old new; do
		[ $attempt = old ] || apt-get -o DPkg::Lock::Timeout=300 update -q || true
		# shellcheck disable=SC2086 # a list of words
		DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -q -y --no-install-recommends $1 && return
	done
	return 1
}

# Until the end no package may start its service.
policy=/usr/sbin/policy-rc.d ours='' dir=''
trap '[ -z "$ours" ] || rm -f $policy; [ -z "$dir" ] || rm -rf "$dir"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

problem=
if [ "$(id -u)" != 0 ]; then
	problem="this is not root: $root, and install packages"
elif ! command -v apt-get >/dev/null; then
	problem="there is no apt-get: the tests are written for Debian 12"
else
	lack=$(lacking)
	if [ -n "$lack" ]; then
		echo "$suite: installing $lack"
		if [ ! -e $policy ]; then
			ours=1
			printf '#!/bin/sh\nexit 101\n' >$policy
			chmod 755 $policy
		fi
		apt_install "$lack" >&2 || echo "$suite: apt-get failed"
		lack=$(lacking)
	fi
	[ -z "$lack" ] || problem="these packages are missing: $lack"
fi
if [ -n "$problem" ]; then
	echo "$suite: $problem"
	[ "$EGRESSAUDIT_E2E" = try ] || exit 1
	echo "$suite: what needs that is skipped, for EGRESSAUDIT_E2E=try"
fi

command -v run_tests >/dev/null || run_tests() { go test -count=1 -timeout 10m -v "$@" .; }

# What a test leaves behind when it is cut short goes with this folder.
dir=$(mktemp -d "${TMPDIR:-/tmp}/egressaudit-$suite.XXXXXX")
chmod 711 "$dir" # for tests as another user
begun=$(date +%s)
{
	status=0
	export TMPDIR="$dir"
	run_tests "$@" 2>&1 || status=$?
	echo $status >"$dir/status"
} | grep --line-buffered -Ev '^=== (RUN|PAUSE|CONT|NAME)' || true
echo "$suite: $(($(date +%s) - begun)) s"
exit "$(cat "$dir/status")"
