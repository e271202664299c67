package main

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/policy/ledger"
	"github.com/egressaudit/egressaudit/policy/report"
)

// written is a ledger of observations, each made at a second of its own, between a
// start and a stop.
func written(t *testing.T, seen map[int]*policy.Observation) string {
	t.Helper()
	return writtenAt(t, "pod", seen)
}

// writtenAt is one of a vantage.
func writtenAt(t *testing.T, vantage string, seen map[int]*policy.Observation) string {
	t.Helper()
	begun := time.Date(2026, 1, 2, 10, 0, 0, 0, time.UTC)
	now := begun
	path := filepath.Join(t.TempDir(), "l.jsonl")
	w, err := ledger.Open(path, ledger.Options{Vantage: vantage, Now: func() time.Time { return now }})
	require.NoError(t, err)
	require.NoError(t, w.Start(&policy.Session{Listeners: []string{"dns 10.0.0.5:53/udp"}}))
	for second := range 1000 {
		if o := seen[second]; o != nil {
			now = begun.Add(time.Duration(second) * time.Second)
			require.NoError(t, w.Append(o))
		}
	}
	now = begun.Add(1000 * time.Second)
	require.NoError(t, w.Stop(&policy.Session{}))
	return path
}

// TestReplicasInAnyOrder: one replica answered the look-up, another carried the
// connection; whichever ledger is named first, nobody went around them.
func TestReplicasInAnyOrder(t *testing.T) {
	client := netip.MustParseAddrPort("10.0.0.9:40000")
	worked := policy.Verdict{Outcome: policy.OK}
	look := func() *policy.Observation {
		return &policy.Observation{Kind: policy.KindQuery, Client: client, Name: "quay.io", Type: "A", RCode: "NOERROR", Answers: []string{"203.0.113.9"}, Verdict: worked}
	}
	conn := func(name string) *policy.Observation {
		return &policy.Observation{Kind: policy.KindConnection, Origin: policy.OriginClient, Listener: "connect", Client: client, Asked: name, Name: name, Port: 443,
			NameFrom: policy.FromAsked, Protocol: "tls", SNIState: policy.SNIPresent, SNI: name, Verdict: worked}
	}
	a := written(t, map[int]*policy.Observation{100: look(), 900: conn("jobs.example.org")})
	b := written(t, map[int]*policy.Observation{101: conn("quay.io"), 300: conn("jobs.example.org"), 500: conn("jobs.example.org"), 700: conn("jobs.example.org")})
	o := report.Options{Catalogs: []*policy.Catalog{{Name: "own", Requirements: []*policy.Requirement{
		{ID: "images", Port: 443, Hosts: []policy.Pattern{policy.MustPattern("quay.io"), policy.MustPattern("jobs.example.org")}},
	}}}}
	for _, files := range [][]string{{a, b}, {b, a}} {
		r, err := readAll(o, files)
		require.NoError(t, err)
		require.Empty(t, r.Findings)
		require.Equal(t, report.Clear, r.Verdict, "%v", r.Doubts)
		require.Equal(t, report.Used, r.Endpoints[0].Status)
		require.Equal(t, 2, len(r.Trial.Ledgers))
	}
}

// TestManyNodes: what one of many nodes cannot reach is a gap, or else a doubt where
// they are too many to be held apart.
func TestManyNodes(t *testing.T) {
	conn := func(v policy.Verdict) *policy.Observation {
		return &policy.Observation{Kind: policy.KindConnection, Origin: policy.OriginClient, Listener: "connect", Asked: "quay.io", Name: "quay.io", Port: 443,
			NameFrom: policy.FromAsked, Protocol: "tls", SNIState: policy.SNIPresent, SNI: "quay.io", Verdict: v}
	}
	worked := policy.Verdict{Outcome: policy.OK}
	dropped := policy.Verdict{Outcome: policy.Failed, Stage: policy.StageConnect, Error: policy.ConnectionTimeout, By: policy.ByNetwork, Confidence: policy.Certain}
	o := report.Options{Catalogs: []*policy.Catalog{{Name: "own", Requirements: []*policy.Requirement{
		{ID: "images", Port: 443, Hosts: []policy.Pattern{policy.MustPattern("quay.io")}},
	}}}}
	for _, c := range []struct {
		nodes int
		label string
		want  report.Verdict
	}{
		{64, "node-%03d", report.Gaps},
		{65, "node-%03d", report.CannotTell},
		{2, strings.Repeat("n", 300) + "-%d", report.CannotTell},
	} {
		var files []string
		for n := range c.nodes {
			second, how := 10+n, worked
			if n == c.nodes-1 { // of the last, before all others
				second, how = 5, dropped
			}
			files = append(files, writtenAt(t, fmt.Sprintf(c.label, n), map[int]*policy.Observation{second: conn(how)}))
		}
		r, err := readAll(o, files)
		require.NoError(t, err)
		require.Equal(t, c.want, r.Verdict, "%d: %v", c.nodes, r.Doubts)
	}
}
