package deploy

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/test/suite"
)

const chart = "helm/egressaudit"

// kubeBuild prints the paths of helm and Kubernetes, which it builds once.
const kubeBuild = "../test/cluster/kube/build.sh"

var programs sync.Map

// program is the path of helm or kube: EGRESSAUDIT_HELM or EGRESSAUDIT_KUBE, or what
// the build of test/cluster makes.
func program(t *testing.T, name string) string {
	t.Helper()
	if path := os.Getenv("EGRESSAUDIT_" + strings.ToUpper(name)); path != "" {
		return path
	}
	if path, ok := programs.Load(name); ok {
		return path.(string)
	}
	out, err := exec.Command("sh", kubeBuild, name).Output()
	require.NoError(t, err, "%s %s", kubeBuild, name)
	path := strings.TrimSpace(string(out))
	programs.Store(name, path)
	return path
}

// helm runs it without a cluster, and without this user's settings.
func helm(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	c := exec.Command(program(t, "helm"), args...)
	c.Env = append(os.Environ(), "HOME="+t.TempDir(), "KUBECONFIG=/dev/null")
	var out, complaint bytes.Buffer
	c.Stdout, c.Stderr = &out, &complaint
	err = c.Run()
	return out.String(), complaint.String(), err
}

// object is one of Kubernetes.
type object map[string]any

// at walks down the keys; nil where there is nothing.
func (o object) at(keys ...string) any {
	var v any = map[string]any(o)
	for _, k := range keys {
		m, _ := v.(map[string]any)
		v = m[k]
	}
	return v
}

func (o object) name() string { return fmt.Sprint(o["kind"], "/", o.at("metadata", "name")) }

// pod is the specification of the pods of a workload or a pod.
func (o object) pod() object {
	switch o["kind"] {
	case "Deployment", "DaemonSet":
		return o.at("spec", "template", "spec").(map[string]any)
	case "Pod":
		return o.at("spec").(map[string]any)
	}
	return nil
}

func (o object) container() object { return o["containers"].([]any)[0].(map[string]any) }

func objects(t *testing.T, text string) (out []object) {
	t.Helper()
	for d := yaml.NewDecoder(strings.NewReader(text)); ; {
		var o map[string]any
		if err := d.Decode(&o); err != nil {
			require.ErrorContains(t, err, "EOF")
			return out
		}
		if o != nil {
			out = append(out, o)
		}
	}
}

// ranges are what every installation must say.
var ranges = []string{"--set", "clients={10.244.0.0/16,fd00:10:244::/56}", "--set", "gateway.skip={10.96.0.0/12}"}

// setting is the arguments that give values: "KEY=VALUE", or "KEY=JSON" where that
// is an object.
func setting(set ...string) (args []string) {
	for _, s := range set {
		if strings.Contains(s, "={\"") {
			args = append(args, "--set-json", s)
		} else {
			args = append(args, "--set", s)
		}
	}
	return args
}

// rendered is the chart with these values.
func rendered(t *testing.T, set ...string) string {
	t.Helper()
	args := append([]string{"template", "rel", chart, "--namespace", "ns"}, ranges...)
	out, complaint, err := helm(t, append(args, setting(set...)...)...)
	require.NoError(t, err, "%v\n%s", set, complaint)
	return out
}

// switches are the values by which parts are switched.
var switches = []string{"proxy.enabled", "dns.enabled", "gateway.enabled", "attribution.enabled", "ledger.persistence.enabled"}

// combinations are all settings of the switches that the chart takes, each with the
// extras on or off.
func combinations() (out [][]string) {
	for n := range 1 << (len(switches) + 1) {
		on := func(i int) bool { return n>>i&1 == 1 }
		if proxy, dns, gateway, attribution := on(0), on(1), on(2), on(3); gateway && (proxy || dns) && !attribution {
			continue // TestOwnPods
		}
		var set []string
		for i, s := range switches {
			set = append(set, fmt.Sprintf("%s=%t", s, on(i)))
		}
		extras := on(len(switches))
		for _, s := range []string{"networkPolicy.enabled", "metrics.serviceMonitor.enabled", "metrics.prometheusRule.enabled", "metrics.dashboard.enabled"} {
			set = append(set, fmt.Sprintf("%s=%t", s, extras))
		}
		if extras {
			set = append(set, "ledger.persistence.accessModes={ReadWriteMany}", "trust.configMap=roots", "parentSecret.name=corp",
				"regions={eastus}", "set.name=value", "scopes={agent}", "imagePullSecrets[0].name=pull", "podLabels.a=b", "podAnnotations.c=d",
				"priorityClassName=high", "nodeSelector.e=f", "tolerations[0].operator=Exists", "gateway.dns=true")
		} else {
			set = append(set, "proxy.replicas=1", "topologySpreadConstraints=null", "admin.existingSecret=token")
		}
		out = append(out, set)
	}
	return out
}

// TestCombinations: with every combination of switches there is what was switched
// on and nothing else, and each pod has the least rights.
func TestCombinations(t *testing.T) {
	suite.Need(t)
	for _, set := range combinations() {
		list := objects(t, rendered(t, set...))
		on := func(name string) bool { return strings.Contains(strings.Join(set, " ")+" ", name+"=true ") }
		have := map[string]object{}
		for _, o := range list {
			require.NotContains(t, have, o.name())
			have[o.name()] = o
			if o.pod() != nil {
				checkPod(t, o, on("attribution.enabled"))
			}
		}
		pods := on("proxy.enabled") || on("dns.enabled")
		for name, want := range map[string]bool{
			"Deployment/rel-egressaudit": pods, "Service/rel-egressaudit": on("proxy.enabled"), "Service/rel-egressaudit-dns": on("dns.enabled"),
			"Service/rel-egressaudit-admin": pods, "DaemonSet/rel-egressaudit-gateway": on("gateway.enabled"),
			"ClusterRole/ns-rel-egressaudit": on("attribution.enabled"), "ClusterRoleBinding/ns-rel-egressaudit": on("attribution.enabled"),
			"PersistentVolumeClaim/rel-egressaudit-ledger": pods && on("ledger.persistence.enabled"), "NetworkPolicy/rel-egressaudit": pods && on("networkPolicy.enabled"),
			"PodDisruptionBudget/rel-egressaudit": pods && on("networkPolicy.enabled"), "ServiceMonitor/rel-egressaudit": pods && on("metrics.serviceMonitor.enabled"),
			"PrometheusRule/rel-egressaudit": on("metrics.prometheusRule.enabled"), "ConfigMap/rel-egressaudit-dashboard": on("metrics.dashboard.enabled"),
			"ConfigMap/rel-egressaudit": true, "ServiceAccount/rel-egressaudit": true, "Secret/rel-egressaudit-admin": on("networkPolicy.enabled"), "Pod/rel-egressaudit-test": pods,
		} {
			require.Equal(t, want, have[name] != nil, "%s with %v", name, set)
			delete(have, name)
		}
		require.Empty(t, have, "%v", set)
	}
}

// TestOwnPods: the gateway is told of the pods that the chart's own Deployment makes,
// and of others where values name them; without the cluster's word nothing is made.
func TestOwnPods(t *testing.T) {
	suite.Need(t)
	const flag, other = "--own-pods=", "audit/app=proxy,tier in (a, b)"
	own := func(set ...string) (flags []string, labels map[string]any) {
		for _, o := range objects(t, rendered(t, append(set, "gateway.enabled=true")...)) {
			switch o["kind"] {
			case "DaemonSet":
				for _, a := range o.pod().container()["args"].([]any) {
					if at, ok := strings.CutPrefix(a.(string), flag); ok {
						flags = append(flags, at)
					}
				}
			case "Deployment":
				labels = o.at("spec", "selector", "matchLabels").(map[string]any)
			}
		}
		return flags, labels
	}
	for _, part := range []string{"proxy.enabled=true", "dns.enabled=true"} {
		flags, labels := own("proxy.enabled=false", "attribution.enabled=true", "nameOverride=our-name", part)
		require.Len(t, flags, 1, part)
		selector, ok := strings.CutPrefix(flags[0], "ns/")
		require.True(t, ok, flags[0])
		said := map[string]any{}
		for _, l := range strings.Split(selector, ",") {
			k, v, _ := strings.Cut(l, "=")
			said[k] = v
		}
		require.Equal(t, labels, said)
		flags, _ = own("attribution.enabled=true", `gateway.ownPods[0]=audit/app=proxy\,tier in (a\, b)`, part)
		require.Len(t, flags, 2)
		require.Equal(t, other, flags[1])
		_, complaint, err := helm(t, append([]string{"template", "rel", chart}, append(ranges, setting("proxy.enabled=false", "gateway.enabled=true", part)...)...)...)
		require.Error(t, err)
		require.Contains(t, complaint, "attribution.enabled: the gateway would take")
	}
	flags, _ := own("proxy.enabled=false")
	require.Empty(t, flags)
}

// checkPod holds a pod against Pod Security "restricted", the gateway's against what
// it must have beyond that.
func checkPod(t *testing.T, o object, token bool) {
	t.Helper()
	spec, c := o.pod(), o.pod().container()
	gateway := o["kind"] == "DaemonSet"
	require.Len(t, spec["containers"], 1)
	require.Equal(t, false, c.at("securityContext", "allowPrivilegeEscalation"))
	require.Equal(t, true, c.at("securityContext", "readOnlyRootFilesystem"))
	require.Equal(t, []any{"ALL"}, c.at("securityContext", "capabilities", "drop"))
	require.Equal(t, "RuntimeDefault", spec.at("securityContext", "seccompProfile", "type"))
	require.Equal(t, token && o["kind"] != "Pod", spec["automountServiceAccountToken"])
	if gateway {
		require.Equal(t, []any{"NET_ADMIN"}, c.at("securityContext", "capabilities", "add"))
		require.Equal(t, true, spec["hostNetwork"])
		require.Nil(t, c["ports"], "nothing of the node is opened")
		return
	}
	require.Nil(t, c.at("securityContext", "capabilities", "add"))
	require.Nil(t, spec["hostNetwork"])
	require.Equal(t, true, spec.at("securityContext", "runAsNonRoot"))
	require.EqualValues(t, 64042, spec.at("securityContext", "runAsUser"))
}

// TestRole: attribution reads pods and events, and nothing else.
func TestRole(t *testing.T) {
	suite.Need(t)
	for _, o := range objects(t, rendered(t, "attribution.enabled=true")) {
		if o["kind"] == "ClusterRole" {
			require.Equal(t, []any{map[string]any{"apiGroups": []any{""}, "resources": []any{"pods", "events"}, "verbs": []any{"get", "list", "watch"}}}, o["rules"])
			return
		}
	}
	t.Fatal("no role")
}

// TestWrongValues: what is misspelt or cannot work fails at once, by its name.
func TestWrongValues(t *testing.T) {
	suite.Need(t)
	good := []string{"clients={10.244.0.0/16}", "gateway.skip={10.96.0.0/12}"}
	for _, c := range []struct {
		set  string // commas separate values
		want string
	}{
		{"proxy.replcas=3", "replcas"},
		{"Proxy.enabled=true", "Proxy"},
		{"image.pullpolicy=Always", "pullpolicy"},
		{"image.pullPolicy=always", "/image/pullPolicy"},
		{"image.repository=me/x:1.0", "/image/repository"},
		{"image.digest=sha256:12", "/image/digest"},
		{"metrics.servicemonitor.enabled=true", "servicemonitor"},
		{"metrics.serviceMonitor.enable=true", "enable"},
		{"attribution=true", "/attribution"},
		{"attribution.enabled=yes", "/attribution/enabled"},
		{"clients=10.0.0.0/8", "/clients"},
		{"clients[0]=10.0.0.0", "/clients/0"},
		{"clients[0]=10.0.0.0/33", "/clients/0"},
		{"clients=null", "clients: say who may use egressaudit"},
		{"clients[0]=0.0.0.0/0", "clients: 0.0.0.0/0 is everybody"},
		{"clients[0]=::/0", "clients: ::/0 is everybody"},
		{"proxy.port=53", "/proxy/port"},
		{"proxy.replicas=two", "/proxy/replicas"},
		{"proxy.service.type=Loadbalancer", "/proxy/service/type"},
		{"gateway.transport=tproxy", "transport"},
		{"gateway.skip=null,gateway.enabled=true", "gateway.skip: say what the gateway leaves alone"},
		{"gateway.ownPods={app=proxy}", "/gateway/ownPods/0"},
		{"gateway.ownPods={audit/app=proxy},proxy.enabled=false,gateway.enabled=true", "attribution.enabled: only the cluster tells which pods gateway.ownPods names"},
		{"gateway.enabled=true", "attribution.enabled: the gateway would take"},
		{"gateway.ledgerPath=relative", "/gateway/ledgerPath"},
		{"ledger.persistence.enabled=true", "ledger.persistence: 2 replicas"},
		{"ledger.persistence.accessModes={ReadWriteSome}", "/ledger/persistence/accessModes/0"},
		{"ledger.size=1Gi", "size"},
		{"ledger.sizeLimit=lots", "/ledger/sizeLimit"},
		{"parent=squid:3128", "/parent"},
		{"parent=http://squid:3128,parentSecret.name=corp", "parentSecret.name: parent names"},
		{"parent=http://me:s3cret@squid:3128", "parent: whoever may read pods"},
		{"mode=enforced", "/mode"},
		{"dns.enabled=true,dnsPolicy=ClusterFirst", "resolver: with dnsPolicy ClusterFirst"},
		{"catalogs.own.config\\.yaml=x", "config.yaml"},
		{"catalogs.own.mine=x", "'mine'"},
		{"catalogs={azure-arc}", "/catalogs"},
		{"admin.token=short", "/admin/token"},
		{"extraArgs={verbose}", "/extraArgs/0"},
		{"tolerations[0].effekt=x", "effekt"},
		{"resources.limit.memory=1Gi", "limit"},
		{"drainSeconds=30s", "/drainSeconds"},
		{"networkPolicy.adminFrom[0].podselector.a=b", "podselector"},
	} {
		out, complaint, err := helm(t, append([]string{"template", "rel", chart}, setting(append(good, c.set)...)...)...)
		require.Error(t, err, "%s was taken\n%s", c.set, out)
		require.Contains(t, complaint, c.want, c.set)
	}
}

// TestLint: helm finds nothing.
func TestLint(t *testing.T) {
	suite.Need(t)
	out, complaint, err := helm(t, append([]string{"lint", "--strict", chart}, ranges...)...)
	require.NoError(t, err, out+complaint)
	require.NotContains(t, out, "[WARNING]")
}

// TestManifests: those that were made are those that the chart makes.
func TestManifests(t *testing.T) {
	suite.Need(t)
	dir := t.TempDir()
	c := exec.Command("sh", "kubernetes/generate.sh", dir)
	c.Env = append(os.Environ(), "HELM="+program(t, "helm"), "KUBECONFIG=/dev/null")
	out, err := c.CombinedOutput()
	require.NoError(t, err, string(out))
	made, err := filepath.Glob(dir + "/*.yaml")
	require.NoError(t, err)
	require.Len(t, made, 2)
	for _, file := range made {
		want, err := os.ReadFile(file)
		require.NoError(t, err)
		got, err := os.ReadFile(filepath.Join("kubernetes", filepath.Base(file)))
		require.NoError(t, err)
		require.Equal(t, string(want), string(got), "run make manifests")
	}
}
