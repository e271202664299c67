#!/bin/sh
# generate.sh [DIR] makes the manifests of this folder from the chart, into DIR. It
# needs helm 3, whose path may stand in HELM.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here}
helm=${HELM:-helm}
command -v "$helm" >/dev/null || { echo "generate.sh: $helm is missing: name helm 3 in HELM" >&2; exit 2; }

# manifest FILE NAMESPACE POD-SECURITY VALUES... writes one.
manifest() {
	file=$1 namespace=$2 security=$3
	shift 3
	{
		cat <<-EOF
			# Made from deploy/helm/egressaudit by generate.sh. Edit first: the ranges behind
			# --clients (pods, and nodes that pull images) and --nftables-skip. Then:
			#
			#   kubectl create namespace $namespace
			#   kubectl label namespace $namespace pod-security.kubernetes.io/enforce=$security
			#   kubectl -n $namespace create secret generic egressaudit-admin --from-literal=token=\$(openssl rand -hex 32)
			#   kubectl apply -f $file
		EOF
		"$helm" template egressaudit "$here/../helm/egressaudit" --namespace "$namespace" --skip-tests \
			--set admin.existingSecret=egressaudit-admin --set 'clients={10.244.0.0/16,192.168.10.0/24}' "$@" |
			sed -e '/^# Source: /d' -e '/helm.sh\/chart:/d' -e '/managed-by: Helm/d'
	} >"$out/$file.new"
	mv "$out/$file.new" "$out/$file"
}

manifest proxy.yaml egressaudit restricted --set dns.enabled=true --set attribution.enabled=true
manifest gateway.yaml egressaudit-gateway privileged --set proxy.enabled=false --set gateway.enabled=true \
	--set 'gateway.skip={10.96.0.0/12}' --set attribution.enabled=true \
	--set 'gateway.ownPods={egressaudit/app.kubernetes.io/name=egressaudit\,app.kubernetes.io/component=proxy}' # of proxy.yaml
