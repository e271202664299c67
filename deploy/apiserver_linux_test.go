package deploy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/test/lab/netns"
	"github.com/egressaudit/egressaudit/test/suite"
)

// apiserver is an API server with its etcd, in a network namespace where nothing
// else is: no scheduler and no node, so nothing runs.
type apiserver struct {
	*testing.T
	space  *netns.Space
	dir    string
	config string // a kubeconfig of the cluster's administrator
}

// kubeconfig is of one who may do everything.
const kubeconfig = `apiVersion: v1
kind: Config
current-context: x
contexts: [{name: x, context: {cluster: c, user: u, namespace: ns}}]
clusters: [{name: c, cluster: {server: "https://127.0.0.1:6443", insecure-skip-tls-verify: true}}]
users: [{name: u, user: {token: admin-of-a-test}}]
`

// prepared are a namespace that demands restricted pods, one that does not, and the
// kinds of Prometheus' operator, of which we need that they are known.
const prepared = `apiVersion: v1
kind: Namespace
metadata: {name: ns}
---
apiVersion: v1
kind: Namespace
metadata: {name: strict, labels: {pod-security.kubernetes.io/enforce: restricted}}
---
apiVersion: v1
kind: Namespace
metadata: {name: egressaudit, labels: {pod-security.kubernetes.io/enforce: restricted}}
---
apiVersion: v1
kind: Namespace
metadata: {name: egressaudit-gateway, labels: {pod-security.kubernetes.io/enforce: privileged}}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: servicemonitors.monitoring.coreos.com}
spec:
  group: monitoring.coreos.com
  names: {kind: ServiceMonitor, plural: servicemonitors}
  scope: Namespaced
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: prometheusrules.monitoring.coreos.com}
spec:
  group: monitoring.coreos.com
  names: {kind: PrometheusRule, plural: prometheusrules}
  scope: Namespaced
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]
---
apiVersion: scheduling.k8s.io/v1
kind: PriorityClass
metadata: {name: high}
value: 1
`

// newAPI starts one.
func newAPI(t *testing.T) *apiserver {
	t.Helper()
	suite.Need(t, "etcd", "kubectl", "openssl", "ip")
	require.NoError(t, netns.Sweep("eachart"))
	n := netns.New("eachart", "api")
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	space, err := n.Add("api")
	require.NoError(t, err)
	dir := t.TempDir()
	a := &apiserver{T: t, space: space, dir: dir, config: dir + "/kubeconfig"}
	require.NoError(t, os.WriteFile(a.config, []byte(kubeconfig), 0o600))
	require.NoError(t, os.WriteFile(dir+"/tokens", []byte("admin-of-a-test,admin,1,system:masters\n"), 0o600))
	require.NoError(t, exec.Command("openssl", "genrsa", "-out", dir+"/accounts.key", "2048").Run())
	a.start("etcd", "--data-dir", dir+"/etcd", "--unsafe-no-fsync")
	a.start(program(t, "kube"), "apiserver", "--etcd-servers=http://127.0.0.1:2379", "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1",
		"--cert-dir="+dir+"/certs", "--token-auth-file="+dir+"/tokens", "--authorization-mode=RBAC", "--allow-privileged=true", "--endpoint-reconciler-type=none",
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file="+dir+"/accounts.key", "--service-account-signing-key-file="+dir+"/accounts.key",
		"--service-cluster-ip-range=10.96.0.0/16")
	require.Eventually(t, func() bool { _, err := a.kubectl("", "get", "--raw=/readyz"); return err == nil }, 2*time.Minute, 300*time.Millisecond)
	_, err = a.kubectl(prepared, "apply", "-f", "-")
	require.NoError(t, err)
	for _, account := range []string{"ns/default", "strict/default", "strict/rel-egressaudit"} { // no controller makes them
		namespace, name, _ := strings.Cut(account, "/")
		_, err := a.kubectl("", "create", "serviceaccount", "-n", namespace, name)
		require.NoError(t, err)
	}
	_, err = a.kubectl("", "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
	require.NoError(t, err)
	return a
}

// start starts a program in the namespace, which ends it.
func (a *apiserver) start(name string, args ...string) {
	a.Helper()
	c := exec.Command(name, args...)
	log, err := os.Create(filepath.Join(a.dir, filepath.Base(name)+".log"))
	require.NoError(a, err)
	c.Dir, c.Stdout, c.Stderr = a.dir, log, log
	require.NoError(a, a.space.Start(c))
	a.Cleanup(func() {
		c.Process.Kill()
		c.Wait()
		log.Close()
		if text, err := os.ReadFile(log.Name()); a.Failed() && err == nil {
			a.Logf("%s: %s", name, text[max(0, len(text)-2000):])
		}
	})
}

// run runs a program in the namespace as the cluster's administrator.
func (a *apiserver) run(stdin, name string, args ...string) (string, error) {
	c := exec.Command(name, args...)
	c.Env = append(os.Environ(), "KUBECONFIG="+a.config, "HOME="+a.dir)
	c.Stdin = strings.NewReader(stdin)
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := a.space.Start(c); err != nil {
		return "", err
	}
	if err := c.Wait(); err != nil {
		return out.String(), fmt.Errorf("%s %v: %w: %s", name, args, err, out.String())
	}
	return out.String(), nil
}

func (a *apiserver) kubectl(stdin string, args ...string) (string, error) {
	return a.run(stdin, "kubectl", args...)
}

// TestAPIServer: a real API server takes what the chart makes, in every combination
// of switches, and the manifests; it finds the proxy's pods restricted.
func TestAPIServer(t *testing.T) {
	a := newAPI(t)
	dry := []string{"apply", "--dry-run=server", "--validate=strict"}
	t.Run("combinations", func(t *testing.T) {
		dir := t.TempDir()
		for i, set := range combinations() {
			require.NoError(t, os.WriteFile(fmt.Sprintf("%s/%02d.yaml", dir, i), []byte(rendered(t, set...)), 0o600))
		}
		out, err := a.kubectl("", append(dry, "-f", dir)...)
		require.NoError(t, err)
		require.Equal(t, 20, strings.Count(out, "daemonset.apps/rel-egressaudit-gateway created"))
		require.Equal(t, 36, strings.Count(out, "deployment.apps/rel-egressaudit created"))
	})
	t.Run("typo", func(t *testing.T) {
		_, err := a.kubectl(strings.Replace(rendered(t), "readOnlyRootFilesystem:", "readOnlyRootFs:", 1), append(dry, "-f", "-")...)
		require.ErrorContains(t, err, "readOnlyRootFs")
	})
	t.Run("manifests", func(t *testing.T) {
		_, err := a.kubectl("", append(dry, "-f", "kubernetes/proxy.yaml", "-f", "kubernetes/gateway.yaml")...)
		require.NoError(t, err)
	})
	t.Run("restricted", func(t *testing.T) {
		kinds := 0
		for _, o := range objects(t, rendered(t, "dns.enabled=true", "gateway.enabled=true", "attribution.enabled=true", "trust.configMap=roots")) {
			if o.pod() == nil {
				continue
			}
			kinds++
			pod, err := json.Marshal(object{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "p", "namespace": "strict"}, "spec": o.pod()})
			require.NoError(t, err)
			_, err = a.kubectl(string(pod), append(dry, "-f", "-")...)
			if o["kind"] == "DaemonSet" {
				require.ErrorContains(t, err, "violates PodSecurity")
			} else {
				require.NoError(t, err)
			}
		}
		require.Equal(t, 3, kinds)
	})
	t.Run("notes", a.notes)
	t.Run("token", a.token)
}

// notes: the commands that are printed stand on what was installed.
func (a *apiserver) notes(t *testing.T) {
	args := append([]string{"install", "rel", chart, "--namespace", "ns", "--dry-run=server", "--set", "dns.enabled=true,gateway.enabled=true,attribution.enabled=true,parentSecret.name=corp,noProxy=.corp.example"}, ranges...)
	out, err := a.run("", program(t, "helm"), args...)
	require.NoError(t, err)
	_, notes, found := strings.Cut(out, "NOTES:")
	require.True(t, found, out)
	for _, want := range []string{
		"kubectl -n ns get service rel-egressaudit -o", "egressaudit env --format az --proxy $PROXY", "egressaudit env --format containerd",
		"forward . $(kubectl -n ns get service rel-egressaudit-dns", "kubectl -n ns port-forward deployment/rel-egressaudit 3180",
		"/egressaudit ledger show --format json /ledger/$p.jsonl >$p.jsonl", "BEFORE you uninstall", "helm test rel -n ns",
		"get secret rel-egressaudit-admin", "rollout status daemonset/rel-egressaudit-gateway", "Give ranges: .corp.example",
	} {
		require.Contains(t, notes, want)
	}
}

// token: an upgrade keeps the one that was made, and uninstalling leaves nothing.
func (a *apiserver) token(t *testing.T) {
	secret := func() string {
		out, err := a.kubectl("", "get", "secret", "-n", "ns", "rel-egressaudit-admin", "-o", "jsonpath={.data.token}")
		require.NoError(t, err)
		return out
	}
	install := append([]string{"upgrade", "--install", "rel", chart, "--namespace", "ns", "--set", "gateway.enabled=true,attribution.enabled=true"}, ranges...)
	_, err := a.run("", program(t, "helm"), install...)
	require.NoError(t, err)
	made := secret()
	require.NotEmpty(t, made)
	_, err = a.run("", program(t, "helm"), append(install, "--set", "proxy.replicas=3")...)
	require.NoError(t, err)
	require.Equal(t, made, secret())
	_, err = a.run("", program(t, "helm"), "uninstall", "rel", "--namespace", "ns")
	require.NoError(t, err)
	left, err := a.kubectl("", "get", "all,configmap,secret,networkpolicy,pdb,clusterrole", "-A", "-l", "app.kubernetes.io/instance=rel", "-o", "name")
	require.NoError(t, err)
	require.NotContains(t, left, "egressaudit")
}
