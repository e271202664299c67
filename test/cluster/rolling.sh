#!/bin/sh
# rolling.sh [-r RATE] [-t TUNNELS]: a rolling restart under load on a cluster that
# runs: two replicas of egressaudit behind a Service, the load of test/rolling in a pod,
# kubectl rollout restart. Afterwards nothing may have failed, no tunnel been cut before
# its replica's delay and drain were over, and each connection must have its record in
# one of the ledgers, replaced replicas' too. Everything is in the namespace
# "egressaudit-rolling", which is removed at the end.
#
#   KUBECTL   kubectl, with what it needs to find the cluster   (default: kubectl)
#   IMPORT    puts an image archive, its last argument, into the
#             node's containerd                                 (default: ctr -n k8s.io images import)
#   SHARED    a folder that this host and the node both see under this name: the
#             ledgers come here                                 (default: TMPDIR, or /tmp)
#   CLIENTS   the range of the pods                             (default: 10.244.0.0/16)
set -eu
cd "$(dirname "$0")"
rate=500 tunnels=200 delay=5 drain=15
while getopts r:t: o; do
	case $o in
	r) rate=$OPTARG ;;
	t) tunnels=$OPTARG ;;
	*) exit 2 ;;
	esac
done
kubectl=${KUBECTL:-kubectl} import=${IMPORT:-ctr -n k8s.io images import} clients=${CLIENTS:-10.244.0.0/16}
space=egressaudit-rolling
dir=$(mktemp -d "${SHARED:-${TMPDIR:-/tmp}}/egressaudit-rolling.XXXXXX")
trap 'status=$?; [ $status = 0 ] || tell; $kubectl delete namespace $space --ignore-not-found --timeout=60s >/dev/null 2>&1 || true; rm -rf "$dir"; exit $status' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
chmod 711 "$dir"
mkdir -m 777 "$dir/ledgers" # replicas are of another user

# tell says what the cluster looks like, where something went wrong.
tell() {
	{
		k get pods -o wide
		k get events --field-selector type!=Normal
		for p in egressaudit echo; do k logs -l app=$p --prefix --tail=20; done
		k logs load --tail=40
	} >&2 || true
}

k() { $kubectl -n $space "$@"; }

# image NAME PROGRAM: an archive FROM scratch, with the program alone.
image() {
	w=$dir/$1.image
	mkdir -p "$w/root"
	cp "$2" "$w/root/$1"
	chmod 755 "$w/root/$1"
	tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$w/root" -cf "$w/layer.tar" .
	layer=$(sha256sum <"$w/layer.tar" | cut -d' ' -f1)
	config=$(printf '{"architecture":"%s","os":"linux","created":"1970-01-01T00:00:00Z","config":{"Entrypoint":["/%s"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]},"history":[{"created":"1970-01-01T00:00:00Z"}]}' \
		"$(go env GOARCH)" "$1" "$layer")
	id=$(printf %s "$config" | sha256sum | cut -d' ' -f1)
	printf %s "$config" >"$w/$id.json"
	printf '[{"Config":"%s.json","RepoTags":["rolling.invalid/%s:1"],"Layers":["layer.tar"]}]' "$id" "$1" >"$w/manifest.json"
	tar -C "$w" -cf "$w.tar" manifest.json "$id.json" layer.tar
	$import "$w.tar" >/dev/null
	rm -rf "$w" "$w.tar"
}

CGO_ENABLED=0 go build -trimpath -o "$dir/egressaudit" ../../cmd/egressaudit
CGO_ENABLED=0 go build -trimpath -o "$dir/rolling" ../rolling
image egressaudit "$dir/egressaudit"
image rolling "$dir/rolling"

$kubectl create namespace $space >/dev/null
# A Service may refuse for a moment after its pods are ready; the load begins when it
# does not. No name is looked up. Ledgers are on the node, for those of replaced replicas are wanted, too.
k apply -f - >/dev/null <<MANIFESTS
apiVersion: v1
kind: Secret
metadata: {name: token}
stringData: {token: $(od -An -tx1 -N16 /dev/urandom | tr -d ' \n')}
---
apiVersion: v1
kind: Service
metadata: {name: egressaudit}
spec: {selector: {app: egressaudit}, ports: [{port: 3128}]}
---
apiVersion: v1
kind: Service
metadata: {name: echo}
spec: {selector: {app: echo}, ports: [{port: 7000}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: echo}
spec:
  selector: {matchLabels: {app: echo}}
  template:
    metadata: {labels: {app: echo}}
    spec:
      containers: [{name: echo, image: "rolling.invalid/rolling:1", imagePullPolicy: Never, args: [-echo, ":7000"]}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: egressaudit}
spec:
  replicas: 2
  strategy: {rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}
  selector: {matchLabels: {app: egressaudit}}
  template:
    metadata: {labels: {app: egressaudit}}
    spec:
      automountServiceAccountToken: false
      terminationGracePeriodSeconds: $((delay + drain + 15))
      securityContext: {runAsNonRoot: true, runAsUser: 65532, runAsGroup: 65532, fsGroup: 65532}
      containers:
        - name: egressaudit
          image: rolling.invalid/egressaudit:1
          imagePullPolicy: Never
          args: [serve, --proxy, "0.0.0.0:3128", --resolver, 192.0.2.53, --clients, "$clients", --allow-address, "10.0.0.0/8", --admin, "0.0.0.0:3180", --admin-token-file, /token/token,
            --ledger, "/ledgers/\$(POD).jsonl", --trial, rolling, --vantage, pod, --max-client-tunnels, "10000", --max-tunnels, "10000",
            --shutdown-delay, ${delay}s, --drain, ${drain}s]
          env: [{name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
          ports: [{containerPort: 3128}]
          readinessProbe: {httpGet: {path: /readyz, port: 3180}, periodSeconds: 1}
          securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
          volumeMounts: [{name: ledgers, mountPath: /ledgers}, {name: token, mountPath: /token}]
      volumes: [{name: ledgers, hostPath: {path: "$dir/ledgers"}}, {name: token, secret: {secretName: token, defaultMode: 0440}}]
MANIFESTS
k rollout status deployment/echo --timeout=60s >/dev/null
k rollout status deployment/egressaudit --timeout=60s >/dev/null
proxy=$(k get service egressaudit -o 'jsonpath={.spec.clusterIP}')
echo=$(k get service echo -o 'jsonpath={.spec.clusterIP}')

k apply -f - >/dev/null <<LOAD
apiVersion: v1
kind: Pod
metadata: {name: load}
spec:
  restartPolicy: Never
  containers:
    - name: load
      image: rolling.invalid/rolling:1
      imagePullPolicy: Never
      args: [-proxy, "$proxy:3128", -target, "$echo:7000", -rate, "$rate", -tunnels, "$tunnels", -duration, 10m]
LOAD

# until SECONDS COMMAND...: tries it until it works.
until_() {
	left=$(($1 * 5))
	shift
	while ! "$@" >/dev/null 2>&1; do
		left=$((left - 1))
		[ $left -gt 0 ] || { echo "rolling.sh: not in time: $*" >&2; exit 1; }
		sleep 0.2
	done
}
open() { k logs load | grep -q 'all tunnels are open'; }
gone() { [ "$(k get pods -l app=egressaudit --no-headers | wc -l)" = "$1" ]; }
until_ 60 open

begun=$(date +%s)
k rollout restart deployment/egressaudit >/dev/null
k rollout status deployment/egressaudit --timeout=180s >/dev/null
until_ 120 gone 2 # the replaced ones have drained
echo "rolling.sh: both replicas replaced in $(($(date +%s) - begun)) s, under load"

# The load ends by its own signal; then the replicas, which close their ledgers.
k delete pod load --wait=false >/dev/null &
k logs -f load >"$dir/load.log"
wait
sed -n '/^{/,$p' "$dir/load.log" >"$dir/result.json"
k scale deployment/egressaudit --replicas=0 >/dev/null
until_ 120 gone 0
"$dir/rolling" -judge "$dir/result.json" -spared "$(date -u -d "@$((begun + delay + drain))" +%Y-%m-%dT%H:%M:%SZ)" "$dir"/ledgers/*.jsonl
