package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// server answers the paths of answers with their JSON, and every other path as an
// API server answers for what it does not have. A number is a status.
func server(t *testing.T, answers map[string]string) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch a, ok := answers[r.URL.Path]; {
		case !ok:
			refuse(w, http.StatusNotFound, "NotFound")
		case a == "403":
			refuse(w, http.StatusForbidden, "Forbidden")
		case a == "401":
			refuse(w, http.StatusUnauthorized, "Unauthorized")
		default:
			fmt.Fprint(w, a)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func refuse(w http.ResponseWriter, code int, reason string) {
	w.WriteHeader(code)
	json.NewEncoder(w).Encode(map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": "a text\nof two lines"})
}

// config is a kubeconfig file for a server.
func config(t *testing.T, url string) string {
	path := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, os.WriteFile(path, fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: %q}}, {name: bad, cluster: {server: "https://"}}]
users: [{name: u, user: {token: x}}]
contexts:
  - {name: here, context: {cluster: c, user: u}}
  - {name: broken, context: {cluster: none, user: u}}
  - {name: hostless, context: {cluster: bad, user: u}}
current-context: here
`, url), 0o600))
	return path
}

func opened(t *testing.T, answers map[string]string) *Cluster {
	c, err := Open(config(t, server(t, answers)), "")
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1", c.Server())
	return c
}

func ranges(texts ...string) []netip.Prefix {
	out := []netip.Prefix{}
	for _, s := range texts {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

const nodes = `{"kind":"NodeList","apiVersion":"v1","items":[
 {"metadata":{"name":"b"},"spec":{"podCIDR":"10.244.1.0/24","podCIDRs":["10.244.1.0/24","fd00:1::/64"]},
  "status":{"addresses":[{"type":"InternalIP","address":"10.0.0.5"},{"type":"InternalIP","address":"fd00::5"},{"type":"Hostname","address":"10.9.9.9"}]}},
 {"metadata":{"name":"a"},"spec":{"podCIDR":"10.244.0.0/24"},
  "status":{"addresses":[{"type":"ExternalIP","address":"203.0.113.4"},{"type":"InternalIP","address":"10.0.0.4"},{"type":"InternalIP","address":"no address"}]}}]}`

func TestNodes(t *testing.T) {
	n, err := opened(t, map[string]string{"/api/v1/nodes": nodes}).Nodes(context.Background())
	require.NoError(t, err)
	require.Equal(t, 2, n.Count)
	require.Equal(t, ranges("10.244.0.0/23", "fd00:1::/64"), n.Pods)
	require.Equal(t, "[10.0.0.4 10.0.0.5 203.0.113.4 fd00::5]", fmt.Sprint(n.Addresses))
}

// A server may be a part of another one (Rancher, an API gateway).
func TestServerBelowAPath(t *testing.T) {
	url := server(t, map[string]string{"/k8s/clusters/c-1/api/v1/nodes": nodes, "/k8s/clusters/c-1/api/v1/pods": `{"kind":"PodList","items":[]}`})
	for _, end := range []string{"", "/"} {
		c, err := Open(config(t, url+"/k8s/clusters/c-1"+end), "")
		require.NoError(t, err)
		n, err := c.Nodes(context.Background())
		require.NoError(t, err)
		require.Equal(t, 2, n.Count)
		_, found, err := c.Stray(context.Background(), n.Pods)
		require.NoError(t, err)
		require.False(t, found)
	}
}

func TestServices(t *testing.T) {
	const path = "/apis/networking.k8s.io/v1/servicecidrs"
	s, err := opened(t, map[string]string{path: `{"kind":"ServiceCIDRList","apiVersion":"networking.k8s.io/v1","items":[{"spec":{"cidrs":["10.96.0.0/16","fd00:2::/112"]}},{"spec":{"cidrs":["10.97.0.0/16"]}}]}`}).Services(context.Background())
	require.NoError(t, err)
	require.Equal(t, ranges("10.96.0.0/15", "fd00:2::/112"), s)

	_, err = opened(t, nil).Services(context.Background())
	require.ErrorIs(t, err, ErrUnknown, "before 1.33")
	_, err = opened(t, map[string]string{path: `{"kind":"ServiceCIDRList","apiVersion":"networking.k8s.io/v1","items":[]}`}).Services(context.Background())
	require.ErrorIs(t, err, ErrUnknown)
	_, err = opened(t, map[string]string{path: "403"}).Services(context.Background())
	require.ErrorIs(t, err, ErrForbidden)
	require.EqualError(t, err, "this user may not list servicecidrs")
}

func TestStray(t *testing.T) {
	pods := func(list string) *Cluster {
		return opened(t, map[string]string{"/api/v1/pods": `{"kind":"PodList","apiVersion":"v1","items":[` + list + `]}`})
	}
	const inside = `{"metadata":{"name":"in","namespace":"x"},"status":{"podIPs":[{"ip":"10.244.0.7"}]}}`
	for name, tc := range map[string]struct{ list, stray string }{
		"all are inside":              {inside, ""},
		"the node's own address":      {`{"metadata":{"name":"host"},"spec":{"hostNetwork":true},"status":{"podIPs":[{"ip":"10.0.0.4"}]}}`, ""},
		"one that ended has no place": {`{"metadata":{"name":"job"},"status":{"phase":"Succeeded","podIPs":[{"ip":"10.9.0.4"}]}}`, ""},
		"no address yet":              {`{"metadata":{"name":"new"},"status":{}}`, ""},
		"the plugin's own range":      {inside + `,{"metadata":{"name":"out","namespace":"y"},"status":{"podIPs":[{"ip":"10.244.0.8"},{"ip":"fd00:7::1"}]}}`, "y/out fd00:7::1"},
	} {
		p, found, err := pods(tc.list).Stray(context.Background(), ranges("10.244.0.0/24"))
		require.NoError(t, err)
		require.Equal(t, tc.stray != "", found, name)
		if found {
			require.Equal(t, tc.stray, p.Name+" "+p.Address.String(), name)
		}
	}
}

func TestRefusals(t *testing.T) {
	_, err := opened(t, map[string]string{"/api/v1/nodes": "401"}).Nodes(context.Background())
	require.ErrorContains(t, err, "does not know this user")

	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	url := "http://" + l.Addr().String()
	l.Close() // nobody listens there now
	c, err := Open(config(t, url), "")
	require.NoError(t, err)
	_, err = c.Nodes(context.Background())
	require.ErrorContains(t, err, "list nodes: the API server at "+l.Addr().String()+" is not reached: dial tcp")

	for name, want := range map[string]string{
		"there":    `no context "there": it has "broken", "here", "hostless"`,
		"broken":   `context "broken": `,
		"hostless": `server "https://": not a URL`,
	} {
		_, err := Open(config(t, url), name)
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "\n")
	}
}

func TestNoKubeconfig(t *testing.T) {
	dir := t.TempDir()
	_, err := Open(filepath.Join(dir, "none"), "")
	require.EqualError(t, err, "no such file or directory")
	for text, want := range map[string]string{
		"\x00\x01":                  "not a kubeconfig file: no YAML or JSON with apiVersion: v1 and kind: Config",
		"a: [":                      "not a kubeconfig file: no YAML or JSON with apiVersion: v1 and kind: Config (line 1: ",
		"some words":                "not a kubeconfig file: no YAML or JSON with apiVersion: v1 and kind: Config",
		"kind: Pod\napiVersion: v1": "not a kubeconfig file: no YAML or JSON with apiVersion: v1 and kind: Config",
		"":                          "not a kubeconfig file: it has no context",
		"contexts: []":              "not a kubeconfig file: it has no context",
		"contexts: [{name: a, context: {cluster: c}}]": `it has no current context: name one of "a"`,
	} {
		path := filepath.Join(dir, "file")
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		_, err := Open(path, "")
		require.ErrorContains(t, err, want, "%q", text)
		require.NotRegexp(t, `unmarshal|scheme|struct`, err.Error(), "words of a Go program")
	}
	_, err = Open(dir, "")
	require.EqualError(t, err, "is a directory")
}
