#!/bin/sh
# run.sh [GO TEST FLAGS]: installs the Debian packages that the end-to-end tests
# need, those that are missing only, and runs the tests. It may be run again.
# ../suite/suite.sh tells what can be set.
set -eu
cd "$(dirname "$0")"
suite=e2e
packages="curl wget git openssl python3 python3-requests python3-pip skopeo docker-registry strace tinyproxy util-linux
	iproute2 nftables iptables procps libc-bin openssh-client containerd bind9-dnsutils"
root="the tests open the ports 443 and 80, mount a small disk, make network namespaces"
. ../suite/suite.sh
