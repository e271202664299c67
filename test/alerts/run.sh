#!/bin/sh
# run.sh [GO TEST FLAGS]: tries the alerting rules with promtool, which Debian's
# prometheus brings; it is installed where it is missing, and not started. It may be
# run again. ../suite/suite.sh tells what can be set.
set -eu
cd "$(dirname "$0")"
suite=alerts
packages="prometheus"
root="it installs promtool"
. ../suite/suite.sh
