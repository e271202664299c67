package main

import (
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"
)

// small is a world of a few deeds, and the report that is right for it.
func small() ([]deed, *report) {
	pod := "azureml/operator-1"
	deeds := []deed{
		{Who: pod, Host: "management.azure.com", Port: 443, Fault: works, OK: true},
		{Who: pod, Host: "eus.his.arc.azure.com", Port: 443, Fault: dropped},
		{Who: "node:node1", Host: "cdn01.quay.io", Port: 443, Fault: works, OK: true},
		{Who: "node:node1", Host: "cdn02.quay.io", Port: 443, Fault: nameReset, For: "azureml/sidecar-1"},
		{Who: "azureml/agent-1", Owner: "DaemonSet/agent", Host: "x.azurecr.io", Port: 443, Fault: works, OK: true, Around: true},
		{Who: pod, Host: "files.pythonhosted.org", Port: 443, Fault: works, OK: true},
	}
	drop, reset := causes[dropped], causes[nameReset]
	r := &report{Verdict: "gaps", Endpoints: []endpoint{
		{Catalog: "arc", Host: "management.azure.com", Port: 443, Status: "used", Hosts: []host{{"management.azure.com", []string{pod}}}},
		{Catalog: "arc", Host: "*.his.arc.azure.com", Port: 443, Status: "blocked", Cause: &drop, Hosts: []host{{"eus.his.arc.azure.com", []string{pod}}}},
		{Catalog: "arc", Host: "gbl.his.arc.azure.com", Port: 443, Status: "unused"},
		{Catalog: "aml", Host: "*.quay.io", Port: 443, Status: "partial", Cause: &reset,
			Hosts:  []host{{"cdn01.quay.io", []string{"node:node1"}}, {"cdn02.quay.io", []string{"node:node1"}}},
			Events: []event{{"azureml/sidecar-1", "Failed to pull: cdn02.quay.io: reset"}}},
		{Catalog: "aml", Host: "quay.io", Port: 443, Status: "unused"},
		{Catalog: "aml", Host: "*.azurecr.io", Port: 443, Status: "resolved"},
	}, Unlisted: []unlisted{{"files.pythonhosted.org", "worked", 443, []string{pod}}}}
	r.Findings = []struct{ Kind, Text string }{{"bypass", "10.244.0.7 (azureml/agent-1, DaemonSet/agent) looked up x.azurecr.io"}}
	for _, p := range phases {
		r.Trial.Phases = append(r.Trial.Phases, p.name)
	}
	return deeds, r
}

// TestCompare: a right report passes, and whatever is wrong in it is noticed.
func TestCompare(t *testing.T) {
	deeds, r := small()
	var m mistakes
	compare(&m, deeds, r)
	require.Empty(t, m.list)

	for name, spoil := range map[string]func([]deed, *report){
		"a false all-clear":           func(_ []deed, r *report) { r.Verdict = "clear" },
		"a phase is missing":          func(_ []deed, r *report) { r.Trial.Phases = nil },
		"blocked is called used":      func(_ []deed, r *report) { r.Endpoints[1].Status = "used" },
		"used is called unused":       func(_ []deed, r *report) { r.Endpoints[0].Status = "unused" },
		"unused is called used":       func(_ []deed, r *report) { r.Endpoints[2].Status = "used" },
		"partial is called used":      func(_ []deed, r *report) { r.Endpoints[3].Status = "used" },
		"the bypassed is called used": func(_ []deed, r *report) { r.Endpoints[5].Status = "used" },
		"another cause":               func(_ []deed, r *report) { c := causes[refused]; r.Endpoints[1].Cause = &c },
		"no cause":                    func(_ []deed, r *report) { r.Endpoints[1].Cause = nil },
		"no fact":                     func(_ []deed, r *report) { c := *r.Endpoints[3].Cause; c.Detail = nil; r.Endpoints[3].Cause = &c },
		"a pod for the node":          func(_ []deed, r *report) { r.Endpoints[3].Hosts[0].Workloads[0] = "azureml/operator-1" },
		"no workload":                 func(_ []deed, r *report) { r.Endpoints[0].Hosts[0].Workloads = nil },
		"a workload too many":         func(_ []deed, r *report) { h := &r.Endpoints[0].Hosts[0]; h.Workloads = append(h.Workloads, "x/y") },
		"a host too many":             func(_ []deed, r *report) { e := &r.Endpoints[0]; e.Hosts = append(e.Hosts, host{Host: "x"}) },
		"no event":                    func(_ []deed, r *report) { r.Endpoints[3].Events = nil },
		"an event of another pod":     func(_ []deed, r *report) { r.Endpoints[3].Events[0].Workload = "azureml/x" },
		"nobody goes around":          func(_ []deed, r *report) { r.Findings = nil },
		"another goes around":         func(_ []deed, r *report) { r.Findings[0].Text = "azureml/operator-1" },
		"its owner is missing":        func(_ []deed, r *report) { r.Findings[0].Text = "10.244.0.7 (azureml/agent-1) looked up" },
		"a finding too many": func(_ []deed, r *report) {
			r.Findings = append(r.Findings, struct{ Kind, Text string }{"flapping", "x"})
		},
		"nothing is unlisted":        func(_ []deed, r *report) { r.Unlisted = nil },
		"an unlisted one too many":   func(_ []deed, r *report) { r.Unlisted = append(r.Unlisted, unlisted{Host: "x"}) },
		"an unlisted one is blocked": func(_ []deed, r *report) { r.Unlisted[0].Outcome = "blocked" },
		"an event is a finding": func(_ []deed, r *report) {
			r.Findings = append(r.Findings, struct{ Kind, Text string }{"pod_event", "azureml/sidecar-1: BackOff"})
		},
		"packets went by":               func(_ []deed, r *report) { r.BlindSpots = []string{"packets of UDP went by that no rule"} },
		"the ledger is damaged":         func(_ []deed, r *report) { r.BlindSpots = []string{"the ledger is damaged: record 7"} },
		"the client met something else": func(d []deed, _ *report) { d[0].OK = false },
	} {
		t.Run(name, func(t *testing.T) {
			deeds, r := small()
			spoil(deeds, r)
			var m mistakes
			compare(&m, deeds, r)
			require.NotEmpty(t, m.list)
		})
	}
}

// TestPlan: what is called is a destination, every fault is played, and every
// fault has its cause.
func TestPlan(t *testing.T) {
	played := map[fault]bool{}
	for _, d := range destinations {
		played[d.fault] = true
	}
	require.Len(t, played, len(causes)+1, "with %q", works)
	for f := range played {
		require.True(t, f == works || causes[f].Error != "", f)
	}
	for _, p := range phases {
		for _, q := range p.parts {
			for _, u := range q.urls {
				_, err := find(hostOf(t, u))
				require.NoError(t, err)
			}
		}
	}
}

// TestHierarchies: this program's group is found in every hierarchy there is.
func TestHierarchies(t *testing.T) {
	hs, err := hierarchies()
	require.NoError(t, err)
	for _, h := range hs {
		require.DirExists(t, h.own)
	}
	require.Equal(t, "/b", ownGroup("4:memory:/a\n1:cpu,cpuacct:/b\n0::/c\n", "cgroup", []string{"rw", "cpu", "cpuacct"}))
	require.Equal(t, "/c", ownGroup("4:memory:/a\n0::/c\n", "cgroup2", nil))
}

func hostOf(t *testing.T, s string) string {
	u, err := url.Parse(s)
	require.NoError(t, err)
	return u.Hostname()
}
