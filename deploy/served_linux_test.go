package deploy

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/test/suite"
)

// TestServed: the program takes what the chart gives it: arguments, configuration
// file and catalogs. Ports become free ones, and paths those of a folder.
func TestServed(t *testing.T) {
	suite.Need(t)
	set := []string{
		"dns.enabled=true", "resolver=127.0.0.1:5399", "gateway.enabled=true", "attribution.enabled=true", "regions={eastus,westeurope}", "scopes={extension}",
		"parent=http://proxy.example.org:3128", "allowAddresses={10.0.0.0/8}", "trust.configMap=roots", "trial=a b: c", "catalogs.builtin={aml-extension}",
		"extraArgs={--answer-timeout=3s}", `catalogs.own={"mine.yaml": ` + strconv.Quote(own) + `}`,
	}
	list := objects(t, rendered(t, set...))
	program := filepath.Join(t.TempDir(), "egressaudit")
	out, err := exec.Command("go", "build", "-o", program, "../cmd/egressaudit").CombinedOutput()
	require.NoError(t, err, string(out))
	for _, o := range list {
		if o["kind"] != "Deployment" && o["kind"] != "DaemonSet" {
			continue
		}
		t.Run(fmt.Sprint(o["kind"]), func(t *testing.T) { serves(t, program, list, o) })
	}
}

// own is a catalog of one's own.
const own = `{schema: egressaudit/catalog/1, name: mine, title: mine, revision: "1", source: {title: none, url: https://example.org/}, requirements: [{id: a, scope: extension, hosts: [a.example.org], port: 443, protocol: https, purpose: testing}]}`

// serves starts the program as a workload would, until it listens.
func serves(t *testing.T, program string, list []object, o object) {
	dir := t.TempDir()
	mounted(t, dir, list)
	help, err := exec.Command(program, "serve", "--help").Output()
	require.NoError(t, err)
	var args []string
	for _, a := range o.pod().container()["args"].([]any) {
		args = append(args, inside(dir, fmt.Sprint(a), string(help))...)
	}
	c := exec.Command(program, args...)
	c.Env = []string{"HOME=" + dir}
	stderr, err := c.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	late := time.AfterFunc(20*time.Second, func() { c.Process.Kill() })
	defer late.Stop()
	var said bytes.Buffer
	for s := bufio.NewScanner(stderr); s.Scan(); {
		fmt.Fprintln(&said, s.Text())
		if strings.Contains(s.Text(), "listening") {
			c.Process.Signal(os.Interrupt)
		}
	}
	require.NoError(t, c.Wait(), said.String())
	require.Contains(t, said.String(), "listening")
	ledger, err := os.ReadFile(filepath.Join(dir, "pod-1.jsonl"))
	require.NoError(t, err)
	require.Contains(t, string(ledger), `"trial":"a b: c"`)
	require.Contains(t, string(ledger), `"name":"mine"`)
}

// mounted fills a folder with what the pods find in theirs.
func mounted(t *testing.T, dir string, list []object) {
	t.Helper()
	for _, o := range list {
		if o.name() == "ConfigMap/rel-egressaudit" {
			for name, text := range o["data"].(map[string]any) {
				at := strings.ReplaceAll(fmt.Sprint(text), "/etc/egressaudit/", dir+"/")
				require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(at), 0o600))
			}
		}
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "token"), []byte("0123456789abcdef"), 0o600))
	require.NoError(t, exec.Command("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=x", "-keyout", dir+"/key", "-out", dir+"/ca.crt").Run())
}

var ports = regexp.MustCompile(`^(--(?:proxy|dns|admin|redirect|tproxy)=[0-9.]+):\d+$`)

// inside is an argument as it is said outside a cluster.
func inside(dir, arg, help string) []string {
	switch name, _, _ := strings.Cut(arg, "="); name {
	case "--nftables", "--nftables-skip", "--kubernetes", "--own-pods": // test/e2e and test/cluster try them
		return nil
	case "--watch-files", "--shutdown-delay": // which are made at the same time as the chart
		if !strings.Contains(help, name) {
			return nil
		}
	}
	arg = ports.ReplaceAllString(arg, "$1:0")
	for _, of := range []string{"/etc/egressaudit/", "/etc/egressaudit-admin/", "/etc/egressaudit-trust/", "/ledger/"} {
		arg = strings.ReplaceAll(arg, "="+of, "="+dir+"/")
	}
	return []string{strings.ReplaceAll(arg, "$(POD_NAME)", "pod-1")}
}
