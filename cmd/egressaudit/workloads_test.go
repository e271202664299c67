package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/policy/ledger"
)

// kubeAPI has one pod of a DaemonSet at 10.1.0.7, since an hour, which cannot pull
// an image; its watches tell nothing.
func kubeAPI(t *testing.T) (kubeconfig string) {
	now := time.Now().UTC()
	pods := fmt.Sprintf(`{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":[{"metadata":{"namespace":"logs","name":"agent-x","uid":"u",
		"ownerReferences":[{"apiVersion":"apps/v1","kind":"DaemonSet","name":"agent","uid":"o","controller":true}]},"spec":{"nodeName":"n1","serviceAccountName":"shipper"},
		"status":{"phase":"Running","startTime":%q,"podIP":"10.1.0.7","podIPs":[{"ip":"10.1.0.7"}],"hostIP":"192.0.2.1","hostIPs":[{"ip":"192.0.2.1"}]}}]}`, now.Add(-time.Hour).Format(time.RFC3339))
	events := fmt.Sprintf(`{"kind":"EventList","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":[{"metadata":{"namespace":"logs","name":"e","uid":"e"},
		"involvedObject":{"kind":"Pod","namespace":"logs","name":"agent-x"},"reason":"Failed","message":"Failed to pull image \"mcr.microsoft.com/a\": EOF","count":3,"firstTimestamp":%q,"lastTimestamp":%[1]q}]}`,
		now.Add(2*time.Second).Format(time.RFC3339))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case r.URL.Query().Get("watch") != "":
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		case r.URL.Path == "/api/v1/events":
			io.WriteString(w, events)
		default:
			io.WriteString(w, pods)
		}
	}))
	t.Cleanup(server.Close)
	path := filepath.Join(t.TempDir(), "config")
	require.NoError(t, os.WriteFile(path, fmt.Appendf(nil, "apiVersion: v1\nkind: Config\ncurrent-context: c\n"+
		"contexts: [{name: c, context: {cluster: c, user: u}}]\nclusters: [{name: c, cluster: {server: %q}}]\nusers: [{name: u, user: {token: x}}]\n", server.URL), 0o600))
	return path
}

// TestWorkloadsInTheLedger: what sensors observe is recorded with who it was, what
// waits is in the ledger before its end, and events of pods are.
func TestWorkloadsInTheLedger(t *testing.T) {
	api, err := (&workloadFlags{kubernetes: true, kubeconfig: kubeAPI(t)}).connect()
	require.NoError(t, err)
	_, d := serveFlags()
	d.ledger = filepath.Join(t.TempDir(), "t.jsonl")
	env := environ{stdin: nil, stdout: io.Discard, stderr: io.Discard}
	tr, err := begin(env, &d.required, &d.path, settings{listen: "127.0.0.1:0", api: api, log: zerolog.Nop()})
	require.NoError(t, err)
	require.Eventually(t, tr.cluster.Known, 10*time.Second, time.Millisecond)
	for i, client := range []string{"10.1.0.7:40000", "192.0.2.1:40000", "10.1.0.99:40000", "127.0.0.1:40000"} {
		require.NoError(t, tr.sink(&policy.Observation{
			Kind: policy.KindConnection, ID: fmt.Sprint("t", i), Origin: policy.OriginClient, Begun: time.Now(), Client: netip.MustParseAddrPort(client),
			Asked: "quay.io", Name: "quay.io", Port: 443, Verdict: policy.Verdict{Outcome: policy.OK},
		}))
	}
	require.NoError(t, tr.end(t.Context(), nil))

	who, told := map[string]*policy.Record{}, 0
	last := policy.Kind("")
	for r, err := range ledger.Read(d.ledger) {
		require.NoError(t, err)
		last = r.Kind
		switch r.Kind {
		case policy.KindEvent:
			told++
			require.Equal(t, []any{"logs/agent-x", "Failed", `Failed to pull image "mcr.microsoft.com/a": EOF`, 3}, []any{r.Workload, r.Reason, r.Text, r.Count})
		case policy.KindConnection:
			if r.Origin == policy.OriginCanary {
				require.Empty(t, r.Workload)
				continue
			}
			who[r.ID] = r
		}
	}
	require.Equal(t, policy.KindStop, last)
	require.Equal(t, 1, told)
	require.Equal(t, "logs/agent-x", who["t0"].Workload)
	require.Equal(t, map[string]any{"owner": "DaemonSet/agent", "service_account": "shipper"}, who["t0"].Detail)
	require.Equal(t, "node:n1", who["t1"].Workload)
	require.Empty(t, who["t2"].Workload, "nobody knows it, and it is not lost")
	require.Empty(t, who["t3"].Workload)
}
