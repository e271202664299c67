#!/bin/sh
# run.sh [GO TEST FLAGS]: builds the image, renders the chart in every combination of
# its switches, and gives it to a Kubernetes API server. Debian packages that are
# missing are installed; helm and Kubernetes are built once (test/cluster/kube), or
# stand in EGRESSAUDIT_HELM and EGRESSAUDIT_KUBE. It may be run again.
# ../test/suite/suite.sh tells what can be set.
set -eu
cd "$(dirname "$0")"
suite=deploy
packages="buildah git openssl etcd-server iproute2"
command -v kubectl >/dev/null || packages="$packages kubernetes-client"
root="the tests build images, make network namespaces"
. ../test/suite/suite.sh
