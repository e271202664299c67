package report

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
)

// owned is an observation of a pod with an owner.
func owned(pod, owner string) mod {
	return func(r *policy.Record) { from1(pod)(r); detail("owner", owner)(r) }
}

// listening makes the trial announce listeners.
func (t *tape) listening(list ...string) *tape {
	t.records[0].Listeners = list
	return t
}

// crowded has more workloads at the proxy than are told apart.
func crowded(t *tape) *tape {
	for i := range maxOwners + 1 {
		t.conn("quay.io", ok, from1(fmt.Sprintf("ml/pod-%d", i)))
	}
	return t
}

// captured is a connection that the firewall's rules brought.
var captured = via("redirect")

// What is said of settings, and only where it can be known.
func TestSettingsNotes(t *testing.T) {
	const (
		pulledNothing = "no connection from a node came to the proxy: containerd's setting did not take effect, or it pulled nothing"
		cannotTell    = "no connection is known to be from a node, and whose 1 connection was is not known: whether containerd's setting took effect cannot be told"
		whatNodesAre  = "node:NAME is a node's own address: its image pulls, pods on its network, or pods whose addresses are translated there; which, cannot be told"
	)
	const ignores = "captured, and never seen at the proxy as others were: ml/DaemonSet/agent; the proxy settings did not take effect there"
	pod, node, agent := from1("ml/job-x"), from1("node:n1"), owned("ml/agent-1", "DaemonSet/agent")
	for _, tc := range []struct {
		why  string
		tape *tape
		want []string
	}{
		{"a pod came, and no node", quiet().conn("quay.io", ok, pod), []string{pulledNothing}},
		{"attribution is off", quiet().conn("quay.io", ok), nil},
		{"one connection could be a node's", quiet().conn("quay.io", ok, pod).conn("quay.io", ok), []string{cannotTell}},
		{"a node came", quiet().conn("quay.io", ok, pod).conn("quay.io", ok, node), []string{whatNodesAre}},
		{"a node came for plain HTTP", quiet().conn("quay.io", ok, pod).request("quay.io", ok, node, via("http")), []string{whatNodesAre}},
		{"a node came, though not by the proxy", quiet().conn("quay.io", ok, pod).conn("quay.io", ok, node, captured),
			[]string{whatNodesAre, pulledNothing + "; what nodes sent was captured all the same"}},
		{"what is lost may have been a node's", quiet().conn("quay.io", ok, pod).lost(1, "disk full"), nil},
		{"a look-up is no pull", quiet().conn("quay.io", ok, pod).query("quay.io", answers("203.0.113.9"), node), []string{pulledNothing}},
		{"no pod by the proxy: nothing to compare with", quiet().listening("redirect 10.0.0.5:3129").conn("quay.io", ok, pod, captured), nil},
		{"one listener was for nothing", quiet().listening("connect 10.0.0.5:3128", "redirect 10.0.0.5:3129", "dns 10.0.0.5:53/udp", "dns 10.0.0.5:53/tcp").conn("quay.io", ok),
			[]string{"nobody came by redirect, which listened", "nobody came by dns, which listened"}},
		{"a request is by the same listener as CONNECT", quiet().request("quay.io", ok, via("http")), nil},
		{"a workload that ignores its settings", quiet().conn("quay.io", ok, pod).conn("quay.io", ok, pod, captured).conn("quay.io", ok, agent, captured),
			[]string{pulledNothing, ignores}},
		{"or whose address is a node's at the proxy", quiet().conn("quay.io", ok, pod).conn("quay.io", ok, node).conn("quay.io", ok, agent, captured),
			[]string{whatNodesAre, ignores + ", or their addresses are translated to a node's on the way to it"}},
		{"or whom nobody could name there", quiet().conn("quay.io", ok, pod).conn("quay.io", ok).conn("quay.io", ok, agent, captured), []string{cannotTell}},
		{"or who may be folded", crowded(quiet()).conn("quay.io", ok, agent, captured), []string{pulledNothing}},
		{"nobody uses a proxy here", quiet().listening("redirect 10.0.0.5:3129").conn("quay.io", ok, agent, captured), nil},
	} {
		r := tc.tape.report(Options{Catalogs: []*policy.Catalog{small}})
		require.Equal(t, some(tc.want), r.Settings.Notes, tc.why)
	}
}

// Each way has its first by the time it began, whatever the order of records, and
// pods count with their owner.
func TestSettingsSeen(t *testing.T) {
	tp := started() // records 1, 2
	tp.conn("quay.io", ok, owned("ml/relay-7d-a", "Deployment/relay"))
	tp.conn("quay.io", ok, owned("ml/relay-7d-b", "Deployment/relay"), lasted(2*time.Second)) // began before the last
	tp.conn("quay.io", ok, from1("ml/alone")).conn("quay.io", dropped)
	tp.conn("quay.io", ok, origin(policy.OriginProbe)).conn("quay.io", ok, origin(policy.OriginCheck))
	tp.query("quay.io", answers("203.0.113.9"), from1("node:n1"))
	tp.stop()
	r := tp.report(Options{Catalogs: []*policy.Catalog{small}})
	after := func(seconds int) time.Time { return epoch.Add(time.Duration(seconds) * time.Second) }
	require.Equal(t, []Way{
		{Vantage: "pod", Listener: "connect", First: after(1), Seq: 4, Count: 4, Unnamed: 1, Workloads: []Workload{
			{"ml/Deployment/relay", after(1), 4, 2}, {"ml/alone", after(4), 5, 1},
		}},
		{Vantage: "pod", Listener: "dns", First: after(8), Seq: 9, Count: 1, Workloads: []Workload{{"node:n1", after(8), 9, 1}}},
	}, r.Settings.Seen)
	require.Equal(t, "first 2026-01-02 10:00:01 UTC (record 4), 4 connections, from ml/Deployment/relay, ml/alone; 1 of unknown workloads", r.Settings.Seen[0].Line())
	require.Equal(t, "first 2026-01-02 10:00:08 UTC (record 9), 1 look-up, from node:n1", r.Settings.Seen[1].Line())
}

// A connection that is open counts once, in a report made meanwhile and in the end.
func TestSettingsOfOpenConnections(t *testing.T) {
	e := New(Options{Catalogs: []*policy.Catalog{small}})
	count := func() int { return e.Report().Settings.Seen[0].Count }
	for _, r := range started().conn("quay.io", ok, open("1"), from1("ml/a")).records {
		e.Add(r)
	}
	require.Equal(t, 1, count())
	require.Equal(t, 1, count(), "a report leaves no trace")
	for _, r := range quiet().conn("quay.io", ok, closes("1"), from1("ml/a")).records[1:] {
		e.Add(r)
	}
	require.Equal(t, 1, count())
}

// Vantages stand beside each other.
func TestSettingsByVantage(t *testing.T) {
	tp := started().conn("quay.io", ok)
	tp.vantage = "node"
	tp.conn("quay.io", ok, captured).stop()
	var all []string
	for _, w := range tp.report(Options{Catalogs: []*policy.Catalog{small}}).Settings.Seen {
		all = append(all, w.Vantage+" "+w.Listener)
	}
	require.Equal(t, []string{"pod connect", "node redirect"}, all)
}

// Clients choose workloads, and ledgers are files: both are bounded, and nothing is
// lost in the counts.
func TestSettingsAreBounded(t *testing.T) {
	const n = 2000
	tp := started()
	for i := range n {
		tp.conn("quay.io", ok, from1(fmt.Sprintf("ml/pod-%d", i)))
	}
	s := tp.report(Options{Catalogs: []*policy.Catalog{small}}).Settings
	require.Len(t, s.Seen, 1)
	require.Len(t, s.Seen[0].Workloads, maxOwners+1)
	require.Equal(t, n, s.Seen[0].Count)
	sum := 0
	for _, w := range s.Seen[0].Workloads {
		sum += w.Count
	}
	require.Equal(t, n, sum)
	require.Equal(t, otherHosts, s.Seen[0].Workloads[maxOwners].Workload)

	tp = started()
	for i := range n {
		tp.conn("quay.io", ok, via(fmt.Sprintf("%d%s", i, strings.Repeat("x", 1000))))
	}
	s = tp.report(Options{Catalogs: []*policy.Catalog{small}}).Settings
	require.Len(t, s.Seen, maxWays+1)
	require.Len(t, s.Few(), textWays)
	require.Equal(t, maxWays+1-textWays, s.More())
	for _, w := range s.Seen {
		require.LessOrEqual(t, len(w.Listener), maxText+3)
	}
}
