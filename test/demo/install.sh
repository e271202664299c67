#!/bin/sh
# An install as a vendor ships it: registers a Kubernetes cluster with Azure
# Arc, then deploys the machine learning extension. The names are real; with
# the lab behind the proxy, nothing leaves this machine. It knows nothing of
# egressaudit: it has the proxy from HTTPS_PROXY and the like, as any client.
#
#   CA=FILE sh install.sh
#
# Exit status 1 when a step failed after its retries.
set -u

: "${CA:?the file with the CA certificates to trust}"
unset CURL_CA_BUNDLE SSL_CERT_FILE SSL_CERT_DIR # they would beat --cacert, or add to it
region=eastus
storage=arcpleusws3240447895
tries=2
failed=0

# fetch URL WHAT FOR [CURL OPTION...]
fetch() {
	url=$1 what=$2
	shift 2
	try=1
	while :; do
		if message=$(curl -q -sS -f -L -o /dev/null --cacert "$CA" --connect-timeout 3 --max-time 3 "$@" "$url" 2>&1); then
			printf '    ok      %s\n' "$what"
			return
		fi
		[ "$try" -lt "$tries" ] || break
		printf '    retry   %s\n' "$what"
		try=$((try + 1))
	done
	failed=$((failed + 1))
	printf '    FAILED  %s\n            %s\n' "$what" "$(echo "$message" | head -n 1)"
}

echo "[1/4] Registering the cluster with Azure Arc"
fetch https://login.microsoftonline.com/organizations/oauth2/v2.0/token "sign in" -d grant_type=device_code
fetch https://management.azure.com/subscriptions "cluster resource" -X PUT -d location=$region
fetch https://gbl.his.arc.azure.com/discovery "identity service"
fetch https://$region.dp.kubernetesconfiguration.azure.com/azure-arc-k8s "configuration service"

echo "[2/4] Starting the agents"
fetch https://mcr.microsoft.com/v2/azurearck8s/agent/blobs "agent image"
fetch https://guestnotificationservice.azure.com/notifications "notifications"
fetch https://azgnrelay-$region-l1.servicebus.windows.net/hybridconnection "relay"

echo "[3/4] Deploying the machine learning extension"
fetch https://quay.io/v2/prometheus/blobs "image prometheus (quay.io)"
fetch https://gcr.io/v2/kubeflow/training-operator/manifests "image training-operator (gcr.io)"
fetch https://auth.docker.io/token "token for Docker Hub"
fetch https://registry-1.docker.io/v2/library/fluent-bit/manifests "image fluent-bit (Docker Hub)"
fetch https://production.cloudfront.docker.com/registry-v2/blobs "layers of fluent-bit"
fetch https://$storage.table.core.windows.net/logs "log table"
fetch https://$storage.queue.core.windows.net/logs "log queue" -d ready

echo "[4/4] Running the first training job"
fetch https://$region.api.azureml.ms/jobs "job" -d name=smoke-test
fetch https://researchdeveusamlacr01.azurecr.io/v2/train/manifests "image of the job"
fetch https://$storage.blob.core.windows.net/scripts/train.py "project files"
fetch https://pypi.org/simple/azureml-core/ "Python packages"
fetch http://archive.ubuntu.com/ubuntu/dists/jammy/InRelease "security updates"

[ "$failed" -eq 0 ] && echo "Installed." && exit 0
echo "Installation failed: $failed of the downloads did not work."
exit 1
