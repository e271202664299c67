#!/bin/sh
# Runs every fuzz target of the module for the time given, one after the other.
#
#   sh test/fuzz.sh 10s
set -eu
cd "$(dirname "$0")/.."
time=${1:-10s}
found=0
for package in $(go list ./...); do
	for target in $(go test -list '^Fuzz' "$package" | grep '^Fuzz' || :); do
		echo "fuzz $package $target $time"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 1s "$package"
		found=$((found + 1))
	done
done
[ "$found" -gt 0 ] || { echo "fuzz: no target found" >&2; exit 1; }
echo "fuzz: $found targets, $time each"
