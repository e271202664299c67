package report

import (
	"cmp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
)

// replica is the ledger of one replica, from a start at some second on.
func replica(name string, seconds int) *tape {
	t := &tape{vantage: "pod"}
	return t.add(&policy.Record{Kind: policy.KindStart, Session: &policy.Session{
		Canary: canaryName, Listeners: []string{"connect 127.0.0.1:3128", "dns 127.0.0.1:53/udp"}, Ledger: name,
	}}, at(seconds)).singAt(seconds)
}

// singAt sends a canary through both listeners.
func (t *tape) singAt(seconds int) *tape {
	mine := origin(policy.OriginCanary)
	return t.conn(canaryName, denied(policy.HTTPRequestDenied), mine, via("connect"), at(seconds)).
		query(canaryName, denied(policy.HTTPRequestDenied), mine, func(r *policy.Record) { r.Transport = "udp" }, at(seconds))
}

// ends is a stop as it should be.
func (t *tape) ends(seconds int) *tape { return t.singAt(seconds).halt(at(seconds)) }

// together judges the ledgers of replicas in the order of time.
func together(o Options, tapes ...*tape) *Report {
	type entry struct {
		ledger int
		record *policy.Record
	}
	var all []entry
	for n, t := range tapes {
		for _, r := range t.records {
			all = append(all, entry{n, r})
		}
	}
	slices.SortStableFunc(all, func(a, b entry) int { return cmp.Or(a.record.Time.Compare(b.record.Time), a.ledger-b.ledger) })
	e := New(o)
	for _, x := range all {
		e.From(x.ledger)
		e.Add(x.record)
	}
	return e.Report()
}

// Two replicas share an install: the one answers a look-up, the other carries the
// connection. A rolling restart replaces both, and leaves no blind spot of its own.
func TestReplicas(t *testing.T) {
	o := Options{Catalogs: []*policy.Catalog{small}}
	a := replica("a", 0).query("quay.io", found, c1, at(100)).conn("quay.io", ok, c1, open("a-1"), at(200)).
		conn("quay.io", ok, c1, closes("a-1"), at(520), lasted(400*time.Second)).ends(520)
	b := replica("b", 1).conn("quay.io", ok, c1, at(101)).query("quay.io", found, c1, at(300)).
		conn("quay.io", ok, c2, at(530), lasted(300*time.Second)).ends(620)
	c := replica("c", 480).conn("quay.io", ok, c1, at(900)).query("quay.io", found, c1, at(905)).ends(1200)
	d := replica("d", 580).query("jobs.example.org", found, c1, at(700)).conn("jobs.example.org", ok, c1, at(701)).ends(1200)
	for why, tapes := range map[string][]*tape{"in order": {a, b, c, d}, "in another": {d, b, a, c}} {
		r := together(o, tapes...)
		require.Empty(t, r.Findings, why)
		require.Empty(t, r.Doubts, why)
		require.Equal(t, Clear, r.Verdict, why)
		require.Equal(t, Used, r.Endpoints[0].Status)
		require.Equal(t, 4, r.Endpoints[0].Hosts[0].Attempts, "each once, by its closing record")
		spots := strings.Join(r.BlindSpots, "\n")
		for _, wrong := range []string{"canary", "in between", "stop record", "cut off"} {
			require.NotContains(t, spots, wrong, why)
		}
		require.Equal(t, epoch, r.Trial.Started)
		require.Equal(t, epoch.Add(1200*time.Second), r.Trial.Ended)
		require.Len(t, r.Trial.Ledgers, 4)
	}
}

// What goes wrong in one replica shows, whatever the others do.
func TestReplicaThatFails(t *testing.T) {
	o := Options{Catalogs: []*policy.Catalog{small}}
	good := func() *tape { return replica("good", 0).conn("quay.io", ok, c1, at(10)).ends(600) }
	killed := replica("killed", 1).conn("quay.io", ok, c1, open("k-1"), at(20))
	r := together(o, good(), killed)
	require.Contains(t, strings.Join(r.BlindSpots, "\n"), "1 of 2 ledgers has no stop record")
	require.Zero(t, r.Trial.Ended)
	require.Equal(t, 2, r.Endpoints[0].Hosts[0].Attempts, "what was open counts")

	mute := replica("mute", 1).conn("quay.io", ok, c1, at(20)).halt(at(300))
	r = together(o, good(), mute)
	require.Equal(t, CannotTell, r.Verdict)
	require.Contains(t, r.Doubts[0], "the canary was not seen through every listener: dns/udp (1 of 2 seen), proxy (1 of 2 seen)")

	silent := &tape{vantage: "pod"}
	silent.add(&policy.Record{Kind: policy.KindStart, Session: &policy.Session{Canary: canaryName, Listeners: []string{"connect 127.0.0.1:3128"}, Ledger: "silent"}}, at(2))
	r = together(o, good(), silent)
	require.Contains(t, r.Doubts[0], "proxy (0 of 1 seen)", "a canary of another replica is none of this one's")

	lossy := replica("lossy", 1)
	lossy.add(&policy.Record{Kind: policy.KindLost, Count: 3, Why: "full"}, at(30)).ends(300)
	require.Equal(t, CannotTell, together(o, good(), lossy).Verdict)
}

// Who goes around all replicas is found by the ledgers together, and a look-up right
// before the end of its replica is no more than a doubt.
func TestAroundReplicas(t *testing.T) {
	o := Options{Catalogs: []*policy.Catalog{small}}
	other := func() *tape { return replica("b", 0).conn("jobs.example.org", ok, c1, at(50)).ends(600) }
	r := together(o, replica("a", 0).query("quay.io", found, c1, at(100)).ends(600), other())
	require.Len(t, only(r, Bypass), 1)
	r = together(o, replica("a", 0).query("quay.io", found, c1, at(100)).ends(110), other())
	require.Empty(t, only(r, Bypass))
	require.Contains(t, strings.Join(r.Doubts, "\n"), "too early to tell")
	r = together(o, replica("a", 0).query("quay.io", found, c1, at(100)).ends(110), other(), replica("c", 105).conn("quay.io", ok, c1, at(115)).ends(600))
	require.Empty(t, only(r, Bypass))
	require.Empty(t, r.Doubts, "the connection came to the replica that replaced it")
}
