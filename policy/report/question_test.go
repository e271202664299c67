package report

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/stretchr/testify/require"
)

var nx = unanswered("NXDOMAIN")

// searchList is that of a pod, with the node's own behind.
var searchList = []string{"ns.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp.example.com", "lan"}

// retries asks for name with each search suffix, in both families, as a stub
// resolver with ndots:5 does before it asks for the name itself.
func (t *tape) retries(name string, suffixes []string, mods ...mod) *tape {
	for _, s := range suffixes {
		for _, f := range []string{"A", "AAAA"} {
			t.query(name+"."+s, append([]mod{nx, qtype(f), close1}, mods...)...)
		}
	}
	return t
}

// close1 makes a record a tenth of a second later than the one before.
func close1(r *policy.Record) {
	r.Time = epoch.Add(100*time.Second + time.Duration(r.Seq)*100*time.Millisecond)
}

func TestSearchSuffixes(t *testing.T) {
	used := func() *tape { return started().conn("quay.io", ok, c1, close1) }
	for _, row := range []struct {
		why      string
		tape     *tape
		unlisted string // hosts
		strays   string // words of the one finding
		status   Status // of quay.io
		verdict  Verdict
	}{
		{why: "ndots:5, a listed name, and then the name itself", status: Used, verdict: Clear,
			tape: used().retries("quay.io", searchList, coreDNS).query("quay.io", found, coreDNS, close1).conn("quay.io", ok, took, c1, close1)},
		{why: "and where the name itself never comes", status: Used, verdict: Clear, tape: used().retries("quay.io", searchList, coreDNS)},
		{why: "a host of a listed wildcard", status: Used, verdict: Clear, tape: used().retries("cdn01.quay.io", searchList, coreDNS)},
		{why: "retries alone exercise nothing", status: Unused, verdict: CannotTell, tape: started().retries("quay.io", searchList, c1)},
		{why: "a name in no list that exists, asked for behind its retries", status: Used, verdict: Clear,
			tape: used().retries("other.example.net", searchList, c1).query("other.example.net", found, c1, close1)},
		{why: "and in front of them", status: Used, verdict: Gaps, unlisted: "other.example.net",
			tape: used().query("other.example.net", nx, c1, close1).retries("other.example.net", searchList, c1)},
		{why: "a name in no list that does not exist is one gap", status: Used, verdict: Gaps, unlisted: "other.example.net",
			tape: used().retries("other.example.net", searchList, c1).query("other.example.net", nx, c1, close1)},
		{why: "asked for by another client, it proves no retry", status: Used, verdict: Gaps, unlisted: "other.example.net.corp.example.com",
			tape: used().query("other.example.net.corp.example.com", nx, c2, close1).query("other.example.net", found, c1, close1)},
		{why: "nor much later", status: Used, verdict: Gaps, unlisted: "other.example.net.corp.example.com",
			tape: used().query("other.example.net.corp.example.com", nx, c1, at(110)).query("other.example.net", found, c1, at(116))},
		{why: "five seconds are no more", status: Used, verdict: Clear,
			tape: used().query("other.example.net.corp.example.com", nx, c1, at(110)).query("other.example.net", found, c1, at(115))},
		{why: "a public suffix is no search suffix", status: Used, verdict: Gaps, unlisted: "quay.io.com other.net.au",
			tape: used().query("quay.io.com", nx, c1, close1).query("other.net.au", nx, c1, close1).query("other.net", found, c1, close1)},
		{why: "a suffix is whole labels", status: Used, verdict: Gaps, unlisted: "quay.ion.corp.example.com",
			tape: used().query("quay.ion.corp.example.com", nx, c1, close1)},
		{why: "a listed name is itself, whatever it begins with", status: Blocked, verdict: Gaps,
			tape: started().query("quay.io", nx, c1, close1)},
		{why: "cluster names are no gap, whether they exist or not", status: Used, verdict: Clear,
			tape: used().query("db.ns.svc", nx, c1, close1).query("db.ns.svc.cluster.local", answers("10.96.0.9"), c1, close1).retries("gone.ns.svc", searchList, c1).query("gone.ns.svc", nx, c1, close1)},
		{why: "nor are short ones that the cluster answers for", status: Used, verdict: Clear,
			tape: used().query("db.ns", nx, c1, close1).query("db.ns.ns.svc.cluster.local", nx, c1, close1).query("db.ns.svc.cluster.local", answers("10.96.0.9"), c1, close1)},
		{why: "a short one that nobody answers for is", status: Used, verdict: Gaps, unlisted: "db.ns",
			tape: used().retries("db.ns", searchList, c1).query("db.ns", nx, c1, close1)},

		{why: "a wildcard record answers for a listed name that is used", status: Used, verdict: Clear, strays: "10.1.0.1 asked for quay.io.corp.example.com and meant quay.io, once, and was answered 10.9.9.9",
			tape: used().query("quay.io.corp.example.com", answers("10.9.9.9"), c1, close1)},
		{why: "for one that is not: nothing is cleared", status: Resolved, verdict: CannotTell, strays: "meant quay.io, 2 times",
			tape: started().conn("jobs.example.org", ok, c1).query("quay.io.corp.example.com", answers("10.9.9.9"), c1, close1).query("quay.io.corp.example.com", answers("10.9.9.9"), c1, close1)},
		{why: "for one that failed before: it stays blocked", status: Blocked, verdict: Gaps, strays: "meant quay.io",
			tape: started().query("quay.io", nx, c1, close1).query("quay.io.corp.example.com", answers("10.9.9.9"), c1, close1)},
		{why: "the cluster answers for a listed name", status: Used, verdict: Clear, strays: "asked for quay.io.ns.svc.cluster.local and meant quay.io",
			tape: used().query("quay.io.ns.svc.cluster.local", answers("10.9.9.9"), c1, close1)},
		{why: "for a name in no list that was asked for: that one stays a gap", status: Used, verdict: Gaps, unlisted: "other.example.net", strays: "meant other.example.net",
			tape: used().query("other.example.net", nx, c1, close1).query("other.example.net.corp.example.com", answers("10.9.9.9"), c1, close1)},
		{why: "for a cluster name that does not exist", status: Used, verdict: Clear, strays: "meant db.ns.svc",
			tape: used().query("db.ns.svc", nx, c1, close1).query("db.ns.svc.corp.example.com", answers("10.9.9.9"), c1, close1)},
		{why: "no address is no answer", status: Used, verdict: Clear, tape: used().query("quay.io.corp.example.com", answers(), c1, close1)},
	} {
		t.Run(row.why, func(t *testing.T) {
			r := row.tape.sing().halt(at(1000)).report(Options{Catalogs: []*policy.Catalog{small}})
			var hosts []string
			for _, u := range r.Unlisted {
				hosts = append(hosts, u.Host)
			}
			require.ElementsMatch(t, strings.Fields(row.unlisted), hosts)
			require.Equal(t, row.status, r.Endpoints[0].Status)
			require.Equal(t, row.verdict, r.Verdict, "%v", r.Doubts)
			told := only(r, SearchSuffixAnswered)
			if row.strays == "" {
				require.Empty(t, told)
				return
			}
			require.Len(t, told, 1)
			require.Contains(t, told[0].Text, row.strays)
			for _, seq := range told[0].Evidence {
				require.NotEmpty(t, row.tape.records[seq-1].Answers, "the evidence is the answer")
			}
		})
	}
}

// An answer that is no address to us is one to the client, perhaps.
func TestAnswersThatAreNoAddresses(t *testing.T) {
	r := started().conn("jobs.example.org", ok, c1).query("quay.io", answers("x"), c1).query("quay.io.corp.example.com", answers("y"), c1).stop(late).
		report(Options{Catalogs: []*policy.Catalog{small}})
	require.Equal(t, Resolved, r.Endpoints[0].Status)
	require.Len(t, only(r, Bypass), 1)
	require.Contains(t, only(r, SearchSuffixAnswered)[0].Text, "was answered y")
}

// Retries are no look-ups that went unexplained, either.
func TestRetriesAreNoBlindSpot(t *testing.T) {
	r := started().conn("quay.io", ok, c1).retries("quay.io", searchList, c1).retries("other.example.net", searchList, c1).
		query("other.example.net", found, c1, close1).stop(at(1000)).report(Options{Catalogs: []*policy.Catalog{small}})
	spots := strings.Join(r.BlindSpots, "\n")
	require.Contains(t, spots, "1 name was in no list looked up without a connection through egressaudit: other.example.net")
	require.Empty(t, r.Findings)
}

// Whatever clients ask, memory stays flat and a question cheap.
func TestQuestionsAreBounded(t *testing.T) {
	e := New(Options{Catalogs: []*policy.Catalog{small}})
	for _, r := range started().dns().conn("quay.io", ok).records {
		e.Add(r)
	}
	const n = 240_000 // every limit is reached before the half
	before, half := heapNow(), uint64(0)
	for r := range strangers(n) {
		if r.Seq == n/2 {
			half = heapNow()
			b := e.book
			require.True(t, b.overfull && b.moreStray > 0 && b.moreHint > 0 && b.other[lookedUp] != nil)
			require.Len(t, b.lookout.parties, maxParties)
		}
		e.Add(r)
	}
	requireFlat(t, before, half, heapNow(), 96<<20)
	b := e.book
	require.LessOrEqual(t, len(b.lookout.suspects), maxSuspects)
	require.LessOrEqual(t, len(b.lookout.parties), maxParties)
	require.LessOrEqual(t, len(b.given), maxGiven)
	require.LessOrEqual(t, len(b.strays), maxStrays)
	require.LessOrEqual(t, len(b.hints), maxHints)
	begun := time.Now()
	require.LessOrEqual(t, len(only(e.Report(), Bypass)), maxBypass+1)
	require.Less(t, time.Since(begun), 10*time.Second)
}

// strangers asks questions in which everything that a client chooses is new.
func strangers(n int) func(func(*policy.Record) bool) {
	return func(yield func(*policy.Record) bool) {
		o := &policy.Observation{}
		r := &policy.Record{Schema: 1, Kind: policy.KindQuery, Observation: o}
		for i := range n {
			r.Seq, r.Time = uint64(i+10), epoch.Add(time.Duration(i)*500*time.Microsecond)
			address := fmt.Sprintf("203.%d.%d.%d", i>>16&255, i>>8&255, i&255)
			*o = policy.Observation{Type: "A", Answers: []string{address}, Verdict: policy.Verdict{Outcome: policy.OK}}
			client(fmt.Sprintf("10.%d.%d.%d:%d", i>>16&255, i>>8&255, i&255, 1024+i&1023))(r)
			switch i % 6 {
			case 0:
				o.Name = fmt.Sprintf("h%d.quay.io", i%400)
			case 1:
				o.Name = fmt.Sprintf("h%d.quay.io.corp%d.example.com", i, i)
			case 2:
				o.Name, o.Outcome, o.Answers = fmt.Sprintf("h%d.a.b.c.d.e.f.g.h.example.com", i), policy.Failed, nil
			case 3:
				o.Name, o.Type, o.Detail = fmt.Sprintf("h%d.example.com", i), "HTTPS", map[string]any{"ech": true}
			case 4:
				o.Name = "quay.io"
			case 5:
				o.Name = fmt.Sprintf("h%d.ns.svc.cluster.local", i)
			}
			if !yield(r) {
				return
			}
		}
	}
}

// BenchmarkQueries is the cost of a DNS question: of a listed name that is used,
// of one that is not, of search suffixes, of names in no list.
func BenchmarkQueries(b *testing.B) {
	for name, tape := range map[string]*tape{
		"used":     started().dns().conn("mcr.microsoft.com", ok, c1).query("mcr.microsoft.com", found, c1),
		"suspect":  started().dns().query("mcr.microsoft.com", found, c1),
		"suffix":   started().dns().query("mcr.microsoft.com.corp.example.com", nx, c1),
		"cluster":  started().dns().query("mcr.microsoft.com.ns.svc.cluster.local", nx, c1),
		"unlisted": started().dns().query("other.example.net", found, c1),
	} {
		b.Run(name, func(b *testing.B) {
			e := New(Options{Catalogs: []*policy.Catalog{arc, aml}})
			for _, r := range tape.records {
				e.Add(r)
			}
			last := tape.records[len(tape.records)-1]
			b.ReportAllocs()
			for b.Loop() {
				e.Add(last)
			}
		})
	}
	b.Run("hostile", func(b *testing.B) {
		e := New(Options{Catalogs: []*policy.Catalog{arc, aml}})
		b.ReportAllocs()
		for r := range strangers(1 << 62) {
			if !b.Loop() {
				return
			}
			e.Add(r)
		}
	})
}
