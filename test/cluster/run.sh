#!/bin/sh
# run.sh proves egressaudit on a real cluster (see README.md): it installs what is
# missing of Debian's packages, builds what has to be built, and plays the trial and
# the rolling restart.
#
#   sudo test/cluster/run.sh            all of it; first, a cluster that is killed midway
#   sudo test/cluster/run.sh up         only the cluster, with egressaudit, until ^C
#   sudo test/cluster/run.sh sh [CMD]   a shell, or a command, on the node of that one
#   sudo test/cluster/run.sh down       as ^C there
#
# Other arguments go to the program: -keep FOLDER keeps report, truth and logs, -play
# rolling plays the rolling restart alone.
set -eu
cd "$(dirname "$0")"

case ${1:-} in
sh | down)
	for d in "${TMPDIR:-/tmp}"/egressaudit-cluster.*/eacluster*-*; do
		[ -e "$d/init.pid" ] || continue
		number=${d##*/eacluster}
		[ "$1" != down ] || exec kill -INT "${number%%-*}"
		shift
		[ $# -gt 0 ] || set -- bash
		exec nsenter -t "$(cat "$d/init.pid")" -m -n -p -C env PATH="$d/bin:$PATH" KUBECONFIG="$d/kubeconfig" "$@"
	done
	echo "cluster: none stands (make cluster-up)" >&2
	exit 1
	;;
up)
	shift
	set -- -hold "$@"
	;;
esac

suite=cluster
root="the cluster needs namespaces, mounts and cgroups of its own"
packages="buildah containerd containernetworking-plugins docker-registry etcd-server iproute2 iptables nftables procps runc skopeo squid util-linux"

# left prints what a cluster of ours has left behind: its names tell the program,
# and one that still runs is somebody else's.
left() {
	{
		ip netns list
		grep eacluster /proc/mounts
		find /sys/fs/cgroup -name 'eacluster*'
		find "$TMPDIR" -maxdepth 1 -name 'eacluster*'
	} | sed -n 's/.*eacluster\([0-9]*\).*/\1 &/p' | while read -r number what; do
		[ -e "/proc/$number" ] || echo "$what"
	done
}

# timed does a step and says how long it took.
timed() {
	what=$1 from=$(date +%s)
	shift
	"$@" || { echo "cluster: $what: failed"; return 1; }
	echo "cluster: $what: $(($(date +%s) - from)) s"
}

tools() {
	kube=$(sh kube/build.sh kube) && helm=$(sh kube/build.sh helm)
}

programs() {
	bin=$TMPDIR/bin image=$TMPDIR/egressaudit.tar
	go build -o "$bin/cluster" . && CGO_ENABLED=0 go build -ldflags "-s -w" -o "$bin/client" ./client && CGO_ENABLED=0 go build -o "$bin/rolling" ../rolling && go build -o "$bin/egressaudit" ../../cmd/egressaudit &&
		IMAGE=lab.invalid/egressaudit:1 sh ../../deploy/image.sh "$image"
}

clean() {
	"$bin/cluster" -sweep
	rest=$(left)
	[ -z "$rest" ] || { echo "cluster: $1 left behind: $rest"; return 1; }
}

run_tests() {
	[ -z "$problem" ] || return 0
	PATH=/usr/sbin:/sbin:$PATH
	timed "Kubernetes and helm, built or cached" tools || return
	timed "programs and image" programs || return
	set -- -kube "$kube" -helm "$helm" -program "$bin/egressaudit" -client "$bin/client" -rolling "$bin/rolling" -image "$image" "$@"
	case " $* " in
	*" -hold "*) ;;
	*)
		echo "cluster: a cluster that is killed"
		"$bin/cluster" "$@" -die || :
		clean "a killed cluster" || return
		echo "cluster: one that plays"
		;;
	esac
	status=0
	"$bin/cluster" "$@" || status=$?
	clean "the cluster" || return
	return $status
}
. ../suite/suite.sh
