//go:build linux

package dns

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/test/suite"
)

// podCatalog lists what the pod needs. All of it resolves to one site.
const podCatalog = `schema: egressaudit/catalog/1
name: pod
title: What the pod requires
revision: "1"
source: {title: test/dns, url: https://lab.example/}
requirements:
  - {id: www, scope: pod, hosts: [site.lab.example], port: 80, protocol: http, purpose: pages}
  - {id: more, scope: pod, hosts: ["*.sites.lab.example"], port: 80, protocol: http, purpose: more pages}
`

// coredns is CoreDNS as in a cluster, but without the cluster: it answers itself
// for cluster.local, and forwards all else, by the stanza that env prints. Where it does not know cluster.local,
// the search suffixes reach us.
func coredns(t *testing.T, upstream string, authority bool) string {
	t.Helper()
	build := exec.Command("sh", "../coredns/build.sh")
	build.Stderr = os.Stderr
	out, err := build.Output()
	require.NoError(t, err)
	host, zone := address(), ""
	if authority {
		zone = "cluster.local:53 {\n\tbind " + host + "\n\ttemplate IN ANY cluster.local {\n\t\trcode NXDOMAIN\n\t\tauthority \"cluster.local. 60 IN SOA ns.cluster.local. admin.cluster.local. 1 60 60 60 60\"\n\t}\n}\n"
	}
	conf := filepath.Join(t.TempDir(), "Corefile")
	stanza, err := exec.Command(suite.Program(t), "env", "--format", "coredns", "--dns", upstream).Output()
	require.NoError(t, err)
	text := fmt.Sprintf("%s.:53 {\n\tbind %s\n%s\n\terrors\n}\n", zone, host, stanza)
	require.NoError(t, os.WriteFile(conf, []byte(text), 0o600))
	d, err := spawn(strings.TrimSpace(string(out)), "-conf", conf)
	require.NoError(t, err)
	t.Cleanup(func() { d.stop(syscall.SIGKILL) })
	require.Eventually(t, func() bool {
		c, err := net.Dial("tcp", host+":53")
		if err == nil {
			c.Close()
		}
		return err == nil
	}, patience, tick, "CoreDNS listens")
	return host
}

// serveSite serves one page where the names of the pod's catalog are, until the
// test ends, and counts the visits.
func (s *servers) serveSite(t *testing.T) *atomic.Int32 {
	t.Helper()
	visits := new(atomic.Int32)
	l, err := net.Listen("tcp", s.site+":80")
	require.NoError(t, err)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		visits.Add(1)
		io.WriteString(w, "here\n")
	})}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() { srv.Close(); <-done })
	return visits
}

// pod runs a command with the resolv.conf that the kubelet gives a pod.
func pod(t *testing.T, nameserver string, env []string, args ...string) string {
	t.Helper()
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	text := "search ns.svc.cluster.local svc.cluster.local cluster.local corp.lab.example\nnameserver " + nameserver + "\noptions ndots:5\n"
	require.NoError(t, os.WriteFile(conf, []byte(text), 0o644))
	c := exec.Command("/usr/bin/unshare", append([]string{"--mount", "sh", "-c", `mount --bind "$0" /etc/resolv.conf && exec "$@"`, conf}, args...)...)
	c.Env = append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}, env...)
	out, err := c.CombinedOutput()
	require.NoError(t, err, "%v: %s", args, out)
	return string(out)
}

// TestPodBehindCoreDNS has a pod look names up as pods do, every search suffix
// first, and then fetch from them through the proxy. All of it works: the report
// must not make a gap of any suffix.
func TestPodBehindCoreDNS(t *testing.T) {
	need(t, "/usr/bin/unshare", "/usr/bin/curl", "/usr/bin/getent")
	for _, row := range []struct {
		name      string
		authority bool
		suffixes  []string // that reach us
	}{
		{"CoreDNS knows cluster.local", true, []string{"corp.lab.example"}},
		{"nobody knows cluster.local", false, []string{"ns.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp.lab.example"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			n := network(t)
			visits := n.serveSite(t)
			catalog := filepath.Join(t.TempDir(), "pod.yaml")
			require.NoError(t, os.WriteFile(catalog, []byte(podCatalog), 0o600))
			f := serve(t, n.resolver, "--catalog", catalog, "--allow-address", "127.0.0.0/8")
			nameserver := coredns(t, f.at, row.authority)
			hosts := []string{"site.lab.example", "a.sites.lab.example", "b.sites.lab.example"}
			for _, h := range hosts {
				require.Contains(t, pod(t, nameserver, nil, "getent", "ahostsv4", h), n.site)
				require.Equal(t, "here\n", pod(t, nameserver, []string{"http_proxy=http://" + hostOf(f.at) + ":3128"}, "curl", "-sS", "http://"+h+"/"))
			}
			asked := map[string]bool{}
			for _, r := range f.queries(t) {
				asked[r.Name] = true
			}
			for _, h := range hosts {
				require.True(t, asked[h], h)
				for _, s := range row.suffixes {
					require.True(t, asked[h+"."+s], "%s.%s is asked of us, or this test proves nothing: %v", h, s, asked)
				}
			}
			require.EqualValues(t, len(hosts), visits.Load())
			noGap(t, f, catalog)
		})
	}
}

// noGap makes the report: everything required is used, nothing else was tried.
func noGap(t *testing.T, f *forwarder, catalog string) {
	t.Helper()
	out, err := exec.Command(suite.Program(t), "report", "--catalog", catalog, "--format", "json", f.ledger).Output()
	var r struct {
		Verdict   string
		Endpoints []struct{ Host, Status string }
		Unlisted  []any
		Findings  []struct{ Kind, Text string }
	}
	require.NoError(t, json.Unmarshal(out, &r), "%s", out)
	require.Empty(t, r.Unlisted)
	for _, e := range r.Endpoints {
		require.Equal(t, "used", e.Status, e.Host)
	}
	require.Len(t, r.Endpoints, 2)
	for _, x := range r.Findings {
		require.NotContains(t, []string{"bypass", "flapping", "search_suffix_answered"}, x.Kind, x.Text)
	}
	require.NoError(t, err, "exit status 0")
	require.Equal(t, "clear", r.Verdict)
}
