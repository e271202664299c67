package report

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/stretchr/testify/require"
)

// renew ends the session and begins another beside it, as a reload does.
func (t *tape) renew() *tape {
	now := epoch
	for _, r := range t.records {
		now = slices.MaxFunc([]time.Time{now, r.Time}, time.Time.Compare)
	}
	same := func(r *policy.Record) { r.Time = now }
	return t.sing().halt(same).add(quiet().records[0], same).sing()
}

// again begins a session at some later time.
func (t *tape) again(seconds int) *tape { return t.add(quiet().records[0], at(seconds)).sing() }

// A reload goes on with the connections that are open: each counts once, by its
// closing record.
func TestRenewedSessionGoesOn(t *testing.T) {
	o := Options{Catalogs: []*policy.Catalog{small}}
	r := started().conn("quay.io", silence, c1, open("a-1")).renew().conn("quay.io", ok, c1, closes("a-1"), lasted(9*time.Second)).stop(late).report(o)
	require.Equal(t, Used, r.Endpoints[0].Status)
	require.Equal(t, 1, r.Endpoints[0].Hosts[0].Attempts)
	require.Empty(t, r.Findings, "one connection does not flap")
	require.NotContains(t, strings.Join(r.BlindSpots, "\n"), "what happened in between")

	r = started().conn("quay.io", ok, c1, open("a-1")).renew().query("quay.io", found, c1, at(200)).stop(at(300)).report(o)
	require.Equal(t, Used, r.Endpoints[0].Status)
	require.Empty(t, r.Findings, "it is still open")
}

// What follows a look-up while nobody records is unknown: nobody is accused of
// it, and nothing is cleared.
func TestLookupsBeforeAPause(t *testing.T) {
	o := Options{Catalogs: []*policy.Catalog{small}}
	scene := func() *tape {
		return started().conn("jobs.example.org", ok, c1, at(80)).query("quay.io", found, c1, at(90))
	}
	other := func(r *policy.Record) { r.Ledger = "another" }
	for why, tape := range map[string]*tape{
		"stopped":        scene().sing().halt(at(100)).again(5000),
		"killed":         scene().sing().add(quiet().records[0], at(5000)).sing(),
		"a later ledger": scene().sing().halt(at(100)).add(quiet().records[0], at(5000), other).sing(),
		"one beside it":  scene().sing().halt(at(100)).add(quiet().records[0], at(0), other).sing().conn("jobs.example.org", ok, c2, at(300)),
	} {
		r := tape.sing().halt(at(6000)).report(o)
		require.Empty(t, only(r, Bypass), why)
		require.Equal(t, CannotTell, r.Verdict, why)
		require.Contains(t, strings.Join(r.Doubts, "\n"), "too early to tell", why)
	}
	r := scene().conn("jobs.example.org", ok, c1, at(130)).stop(at(131)).again(5000).stop(at(6000)).report(o)
	require.Len(t, only(r, Bypass), 1, "the window was over")
	r = scene().renew().stop(at(300)).report(o)
	require.Len(t, only(r, Bypass), 1, "a reload is no pause")
}

// A connection that was open when recording was killed explains nothing after it.
func TestKilledConnectionsEnd(t *testing.T) {
	r := started().conn("quay.io", ok, c1, open("a-1"), at(10)).add(quiet().records[0], at(5000)).sing().
		query("quay.io", found, c1, at(5010)).stop(at(6000)).report(Options{Catalogs: []*policy.Catalog{small}})
	require.Len(t, only(r, Bypass), 1)
}

// That nobody recorded for a while is said.
func TestPausesAreBlindSpots(t *testing.T) {
	r := started().conn("quay.io", ok).stop().again(5000).stop(at(6000)).report(Options{Catalogs: []*policy.Catalog{small}})
	require.Contains(t, strings.Join(r.BlindSpots, "\n"), "recording stopped and went on later, once: what happened in between is unknown")
}

// The order in which ledgers are named changes neither times nor what was in
// force then.
func TestOrderOfLedgers(t *testing.T) {
	o := Options{Catalogs: []*policy.Catalog{cat("c", "old extension quay.io until=2026-01-03", "jobs workload jobs.example.org")}}
	const day = 86400
	early := started().conn("quay.io", ok).stop().records
	late := started().conn("jobs.example.org", ok, at(9*day)).stop(at(9*day + 10)).records
	late[0].Time, late[1].Time = epoch.Add(9*day*time.Second), epoch.Add(9*day*time.Second)
	late[len(late)-2].Time = late[len(late)-1].Time
	a := (&tape{records: slices.Concat(early, late)}).report(o)
	b := (&tape{records: slices.Concat(late, early)}).report(o)
	require.Equal(t, Clear, a.Verdict, "%v", a.Unlisted)
	require.Equal(t, Clear, b.Verdict, "%v", b.Unlisted)
	require.Equal(t, a.Trial.Started, b.Trial.Started)
	require.Equal(t, a.Trial.Ended, b.Trial.Ended)
	require.Equal(t, a.Summary, b.Summary)
}
