#!/bin/sh
# Runs every fuzz target of the module for the time given, one after the other.
#
#   sh test/fuzz.sh 10s
set -eu
cd "$(dirname "$0")/.."
time=${1:-10s}
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# fuzz runs one target. go test takes the end of its own time for a failure now
# and then ("context deadline exceeded", with no failing input); then the target
# runs again. A failing input fails at once.
fuzz() {
	for try in 1 2 3; do
		if go test -run '^$' -fuzz "^$2\$" -fuzztime "$time" -fuzzminimizetime 1s "$1" >"$log" 2>&1; then
			tail -n 1 "$log"
			return 0
		fi
		if grep -q 'Failing input' "$log" || ! grep -q 'context deadline exceeded' "$log"; then
			break
		fi
		echo "fuzz: $2: go test tripped over its own deadline, once more ($try)"
	done
	cat "$log"
	return 1
}

found=0
for package in $(go list ./...); do
	for target in $(go test -list '^Fuzz' "$package" | grep '^Fuzz' || :); do
		echo "fuzz $package $target $time"
		fuzz "$package" "$target"
		found=$((found + 1))
	done
done
[ "$found" -gt 0 ] || { echo "fuzz: no target found" >&2; exit 1; }
echo "fuzz: $found targets, $time each"
