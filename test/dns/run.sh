#!/bin/sh
# run.sh [GO TEST FLAGS]: installs the Debian packages that the tests of the DNS
# forwarder need, those that are missing only, and runs the tests. It may be run
# again. ../suite/suite.sh tells what can be set.
set -eu
cd "$(dirname "$0")"
suite=dns
packages="unbound knot knot-dnsutils bind9-dnsutils dnsperf"
root="the tests open port 53 of loopback addresses"
. ../suite/suite.sh
