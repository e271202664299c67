package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http/httpproxy"
)

// printed is what env prints on stdout and stderr, and its exit status.
func printed(t *testing.T, args ...string) (out, said string, status int) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	status = run(context.Background(), append([]string{"env"}, args...), environ{stdout: &stdout, stderr: &stderr})
	return stdout.String(), stderr.String(), status
}

// pasted is what env prints where it must work.
func pasted(t *testing.T, args ...string) string {
	t.Helper()
	out, said, status := printed(t, args...)
	require.Zero(t, status, said)
	require.Empty(t, said)
	return out
}

var clusterFlags = []string{"--proxy", "10.0.0.5:3128", "--pods", "10.244.0.0/16", "--pods", "fd00:1::/56", "--services", "10.96.0.0/12", "--nodes", "10.0.0.4", "--api-server", "api.corp.example"}

// needProgram skips a test that wants a program which is not here, aloud.
func needProgram(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		fmt.Fprintf(os.Stderr, "SKIPPED %s: needs %s\n", t.Name(), name)
		t.Skip("needs " + name)
	}
}

// output is what a command prints, which must succeed.
func output(t *testing.T, stdin, name string, args ...string) string {
	t.Helper()
	c := exec.Command(name, args...)
	c.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}
	c.Stdin = strings.NewReader(stdin)
	var stderr strings.Builder
	c.Stderr = &stderr
	out, err := c.Output()
	require.NoError(t, err, "%s %v: %s", name, args, stderr.String())
	return string(out)
}

// Go's own reading of NO_PROXY is what is meant: what lies inside goes around the
// proxy, everything else through it.
func TestNoProxyAsGoReadsIt(t *testing.T) {
	noProxy := ""
	for line := range strings.Lines(pasted(t, clusterFlags...)) {
		if v, ok := strings.CutPrefix(line, "export NO_PROXY="); ok {
			noProxy = strings.TrimSpace(v)
		}
	}
	require.NotEmpty(t, noProxy)
	way := (&httpproxy.Config{HTTPProxy: "http://10.0.0.5:3128", HTTPSProxy: "http://10.0.0.5:3128", NoProxy: noProxy}).ProxyFunc()
	for to, around := range map[string]bool{
		"https://10.244.3.7:8443":                         true, // a pod
		"https://[fd00:1:0:5::9]:8443":                    true,
		"https://10.96.0.1":                               true, // the service of the API server
		"https://kubernetes.default.svc":                  true,
		"https://relay.azureml.svc:5001":                  true,
		"https://relay.azureml.svc.cluster.local":         true,
		"https://api.corp.example:6443":                   true,
		"https://10.0.0.4:10250":                          true, // a node's kubelet
		"http://169.254.169.254/metadata/identity":        true,
		"http://168.63.129.16/machine":                    true,
		"http://localhost:12342":                          true,
		"http://127.0.0.1:12342":                          true,
		"http://[::1]:80":                                 true,
		"https://mcr.microsoft.com":                       false,
		"https://eastus.dp.kubernetesconfiguration.azure": false,
		"https://corp.example":                            false,
		"https://evilsvc":                                 false,
		"https://10.112.0.1":                              false, // just behind the services
		"https://10.0.0.5":                                false,
		"https://203.0.113.7":                             false,
		"https://[2001:db8::1]":                           false,
	} {
		u, err := url.Parse(to)
		require.NoError(t, err)
		proxy, err := way(u)
		require.NoError(t, err)
		require.Equal(t, around, proxy == nil, to)
	}
}

// A shell takes the lines, quoted or not, and the notes do not get in the way.
func TestPastedIntoShell(t *testing.T) {
	needProgram(t, "sh")
	text := pasted(t, clusterFlags...)
	output(t, text, "sh", "-n")
	const show = `printf '%s|' "$HTTPS_PROXY" "$https_proxy" "$HTTP_PROXY" "$http_proxy" "$NO_PROXY" "$no_proxy"`
	quoted := output(t, "", "sh", "-euc", `eval "$1"; `+show, "sh", text)
	bare := output(t, "", "sh", "-euc", `eval $1; `+show, "sh", text)
	require.Equal(t, quoted, bare)
	f := strings.Split(quoted, "|")
	require.Equal(t, []string{"http://10.0.0.5:3128", "http://10.0.0.5:3128", "http://10.0.0.5:3128", "http://10.0.0.5:3128"}, f[:4])
	require.Equal(t, f[4], f[5])
	require.Contains(t, f[4], ",.svc,.cluster.local,10.244.0.0/16,fd00:1::/56,10.96.0.0/12,10.0.0.4,api.corp.example")
}

// The command of az is one command of a shell, with each list in one word.
func TestPastedAz(t *testing.T) {
	needProgram(t, "sh")
	require.Contains(t, pasted(t, "--format", "az", "--proxy", "[fd00::5]:3128"), " --proxy-https 'http://[fd00::5]:3128' ", "no pattern")
	words := output(t, "", "sh", "-euc", `az() { for w; do echo "$w"; done; }; eval "$1"`, "sh", pasted(t, append(clusterFlags, "--format", "az")...))
	require.Regexp(t, `^connectedk8s\nconnect\n--proxy-https\nhttp://10\.0\.0\.5:3128\n--proxy-http\nhttp://10\.0\.0\.5:3128\n--proxy-skip-range\nlocalhost,\S+,api\.corp\.example\n$`, words)
}

// systemd takes the drop-ins without a word, and reads them: it complains of one
// that is wrong.
func TestPastedDropIns(t *testing.T) {
	needProgram(t, "systemd-analyze")
	for _, format := range []string{"containerd", "systemd"} {
		dir := t.TempDir()
		unit := filepath.Join(dir, "some.service")
		require.NoError(t, os.WriteFile(unit, []byte("[Service]\nExecStart=/bin/true\n"), 0o644))
		require.NoError(t, os.Mkdir(unit+".d", 0o755))
		drop := filepath.Join(unit+".d", "egressaudit.conf")
		verify := func(text string) string {
			require.NoError(t, os.WriteFile(drop, []byte(text), 0o644))
			c := exec.Command("systemd-analyze", "verify", "--man=no", unit)
			c.Env = append(os.Environ(), "SYSTEMD_LOG_LEVEL=warning", "SYSTEMD_UNIT_PATH="+dir+":")
			said, err := c.CombinedOutput()
			require.NoError(t, err, string(said))
			return string(said)
		}
		text := pasted(t, append(clusterFlags, "--format", format)...)
		require.NotContains(t, verify(text), "egressaudit.conf", format)
		require.Contains(t, verify(strings.ReplaceAll(text, `="HTTPS_PROXY`, `=HTTPS PROXY"`)), "egressaudit.conf", format)
	}
}

// kubectl reads from the env of a pod what a shell gets.
func TestPastedPod(t *testing.T) {
	needProgram(t, "kubectl")
	env := strings.ReplaceAll(strings.TrimSpace(pasted(t, append(clusterFlags, "--format", "pod")...)), "\n", "\n      ")
	pod := "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n    - name: c\n      image: i\n      " + env + "\n"
	file := filepath.Join(t.TempDir(), "pod.yaml")
	require.NoError(t, os.WriteFile(file, []byte(pod), 0o600))
	list := []string{"set", "env", "--local", "--list", "-f", file}
	require.Equal(t, exported(t), assignments(output(t, "", "kubectl", list...)))
	// What the format kubernetes says of workloads that run.
	require.NoError(t, os.WriteFile(file, []byte(strings.ReplaceAll(pod, env, "")), 0o600))
	lines := output(t, pasted(t, clusterFlags...), "sed", "-n", "s/^export //p")
	changed := output(t, lines, "kubectl", "set", "env", "--local", "-f", file, "--env", "-", "-o", "yaml")
	require.NoError(t, os.WriteFile(file, []byte(changed), 0o600))
	require.Equal(t, exported(t), assignments(output(t, "", "kubectl", list...)))
}

// kubectl reads the ConfigMap, and its data is what a shell gets.
func TestPastedConfigMap(t *testing.T) {
	needProgram(t, "kubectl")
	file := filepath.Join(t.TempDir(), "map.yaml")
	require.NoError(t, os.WriteFile(file, []byte(pasted(t, append(clusterFlags, "--format", "kubernetes")...)), 0o600))
	out := output(t, "", "kubectl", "label", "--local", "-f", file, "a=b",
		"-o", `go-template={{.apiVersion}} {{.kind}} {{.metadata.name}}{{"\n"}}{{range $k, $v := .data}}{{$k}}={{$v}}{{"\n"}}{{end}}`)
	head, data, _ := strings.Cut(out, "\n")
	require.Equal(t, "v1 ConfigMap egressaudit-proxy", head)
	require.Equal(t, exported(t), assignments(data))
}

// exported are the settings as the format shell has them.
func exported(t *testing.T) map[string]string {
	return assignments(strings.ReplaceAll(pasted(t, clusterFlags...), "export ", ""))
}

// assignments are the lines NAME=VALUE of a text.
func assignments(text string) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(name, "#") {
			out[name] = value
		}
	}
	return out
}

const (
	nodesPath    = "/api/v1/nodes"
	podsPath     = "/api/v1/pods"
	servicesPath = "/apis/networking.k8s.io/v1/servicecidrs"
	twoNodes     = `{"kind":"NodeList","items":[
 {"spec":{"podCIDRs":["10.244.0.0/24"]},"status":{"addresses":[{"type":"InternalIP","address":"10.0.0.4"}]}},
 {"spec":{"podCIDRs":["10.244.1.0/24"]},"status":{"addresses":[{"type":"InternalIP","address":"10.0.0.5"}]}}]}`
	onePod     = `{"kind":"PodList","items":[{"metadata":{"name":"p","namespace":"ns"},"status":{"podIPs":[{"ip":"10.244.1.9"}]}}]}`
	oneService = `{"kind":"ServiceCIDRList","items":[{"spec":{"cidrs":["10.96.0.0/12"]}}]}`
)

// aCluster answers the three lists, and is a kubeconfig file. What answers lacks is
// forbidden.
func aCluster(t *testing.T, answers map[string]string) (kubeconfig string) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a, ok := answers[r.URL.Path]
		if a == "none" {
			w.WriteHeader(http.StatusNotFound)
		} else if !ok {
			w.WriteHeader(http.StatusForbidden)
		}
		io.WriteString(w, a)
	}))
	t.Cleanup(s.Close)
	path := filepath.Join(t.TempDir(), "config")
	require.NoError(t, os.WriteFile(path, fmt.Appendf(nil, "apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: %q}}]\nusers: [{name: u, user: {token: x}}]\n"+
		"contexts: [{name: lab, context: {cluster: c, user: u}}]\ncurrent-context: lab\n", s.URL), 0o600))
	return path
}

func TestEnvOfCluster(t *testing.T) {
	config := aCluster(t, map[string]string{nodesPath: twoNodes, podsPath: onePod, servicesPath: oneService})
	const here = "localhost,127.0.0.0/8,127.0.0.1,::1,169.254.169.254,168.63.129.16,.svc,.cluster.local"
	out := pasted(t, "--kubeconfig", config)
	require.Contains(t, out, "export NO_PROXY="+here+",10.244.0.0/23,10.96.0.0/12,10.0.0.4,10.0.0.5\n")
	require.Contains(t, out, "those of the nodes that there are now (2)")

	out = pasted(t, "--kubeconfig", config, "--context", "lab", "--pods", "10.244.0.0/16", "--nodes", "10.0.0.0/24", "--services", "10.0.0.0/16", "--api-server", "api.example")
	require.Contains(t, out, "export NO_PROXY="+here+",10.244.0.0/16,10.0.0.0/16,10.0.0.0/24,api.example\n", "a flag wins")
	require.NotContains(t, out, "there are now", "and nothing was read")

	out = pasted(t, "--format", "nftables", "--redirect", "3129", "--kubeconfig", config)
	require.Contains(t, out, "10.244.0.0/23")
	require.Contains(t, out, "10.96.0.0/12")
	require.Contains(t, out, "# The ranges of pods are those of the nodes that there are now (2)")
}

// Pods that may not be listed are no reason to fail, and it is said.
func TestEnvOfClusterUnchecked(t *testing.T) {
	out := pasted(t, "--kubeconfig", aCluster(t, map[string]string{nodesPath: twoNodes, servicesPath: oneService}))
	require.Contains(t, strings.Join(strings.Fields(strings.ReplaceAll(out, "#", "")), " "), "was not checked, since this user may not list pods")
}

// What a cluster does not tell is one line that says what to type instead.
func TestEnvOfClusterRefused(t *testing.T) {
	for _, tc := range []struct {
		why     string
		answers map[string]string
		args    []string
		want    string
	}{
		{"no right to list nodes", nil, nil, `: this user may not list nodes (give --pods and --nodes, or the --context of a user who may)`},
		{"no right to list services", map[string]string{nodesPath: twoNodes, podsPath: onePod}, nil, `: this user may not list servicecidrs (give --services, or the --context of a user who may)`},
		{"an older cluster", map[string]string{nodesPath: twoNodes, podsPath: onePod, servicesPath: "none"}, nil, `: the cluster does not tell the range of services: the ServiceCIDR API came with Kubernetes 1.33 (give --services CIDR; `},
		{"a network plugin of its own", map[string]string{nodesPath: `{"kind":"NodeList","items":[{}]}`}, nil, `: no node has a range of pods (spec.podCIDRs): the network plugin gives addresses itself (give --pods CIDR)`},
		{"and one that leaves the ranges aside", map[string]string{nodesPath: twoNodes, podsPath: strings.ReplaceAll(onePod, "10.244.1.9", "10.12.1.9")}, nil,
			`: pod "ns/p" has the address 10.12.1.9, and the nodes' ranges (spec.podCIDRs) are 10.244.0.0/23: the network plugin gives addresses itself (give --pods CIDR)`},
		{"no context of that name", nil, []string{"--context", "prod"}, `: no context "prod": it has "lab" (give --kubeconfig a file, and --context a name, with which kubectl get nodes works)`},
		{"no API server", map[string]string{nodesPath: "<html>"}, nil, `is no API server (give --pods and --nodes instead, or leave --kubeconfig out and give all ranges)`},
	} {
		config := aCluster(t, tc.answers)
		out, said, status := printed(t, append(tc.args, "--kubeconfig", config)...)
		require.Equal(t, exitTrouble, status, tc.why)
		require.Empty(t, out, tc.why)
		require.True(t, strings.HasPrefix(said, fmt.Sprintf("egressaudit: --kubeconfig %q: ", config)), said)
		require.Contains(t, said, tc.want, tc.why)
		require.Equal(t, 1, strings.Count(said, "\n"), said)
	}
}
