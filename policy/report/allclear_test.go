package report

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/stretchr/testify/require"
)

// spoilers are faults, each of which alone must take the all-clear away. They
// change the body of a trial: what lies between the first and last canary.
var spoilers = map[string]func(*tape){
	"a required host, and its only attempt failed":      func(t *tape) { t.conn("jobs.example.org", dropped) },
	"a required host, and its only attempt was silent":  func(t *tape) { t.conn("jobs.example.org", left) },
	"a required host, open and silent":                  func(t *tape) { t.conn("jobs.example.org", open("s"), reset1) },
	"a required host, open without an outcome":          func(t *tape) { t.conn("jobs.example.org", open("s")) },
	"a required host that we refused":                   func(t *tape) { t.conn("jobs.example.org", denied(policy.ConnectionLimitReached)) },
	"a required host that was looked up only":           func(t *tape) { t.query("jobs.example.org", answers("203.0.113.5")) },
	"a required host that a search suffix answered for": func(t *tape) { t.query("jobs.example.org.corp.example.com", answers("10.9.9.9")) },
	"a required host looked up by one known to go around": func(t *tape) {
		t.query("jobs.example.org", found, c3).mark("later").records[len(t.records)-1].Time = epoch.Add(time.Hour)
	},
	"an unlisted name that looks like a retry":             func(t *tape) { t.query("quay.io.com", nx) },
	"a required host that did not resolve":                 func(t *tape) { t.query("jobs.example.org", unanswered("REFUSED")) },
	"a required host without addresses":                    func(t *tape) { t.query("jobs.example.org", answers()) },
	"one host of a wildcard that failed":                   func(t *tape) { t.conn("cdn99.quay.io", reset1) },
	"one host of a wildcard that was silent":               func(t *tape) { t.conn("cdn99.quay.io", left) },
	"one host of a wildcard that was looked up only":       func(t *tape) { t.query("cdn99.quay.io", answers("203.0.113.5")) },
	"one host of a wildcard that did not resolve":          func(t *tape) { t.query("cdn99.quay.io", unanswered("NXDOMAIN")) },
	"one host of a wildcard that we refused":               func(t *tape) { t.conn("cdn99.quay.io", denied(policy.HTTPRequestDenied)) },
	"an unlisted destination that worked":                  func(t *tape) { t.conn("other.example", ok) },
	"an unlisted destination that failed":                  func(t *tape) { t.conn("other.example", dropped) },
	"an unlisted destination that was silent":              func(t *tape) { t.conn("other.example", left) },
	"an unlisted request":                                  func(t *tape) { t.request("other.example", ok, port(80)) },
	"an unlisted bare address":                             func(t *tape) { t.conn("198.51.100.1", ok) },
	"an unlisted port":                                     func(t *tape) { t.conn("quay.io", ok, port(22)) },
	"an unlisted name in capitals":                         func(t *tape) { t.conn("EVILQUAY.IO", ok) },
	"an unlisted name that did not resolve":                func(t *tape) { t.query("other.example", unanswered("NXDOMAIN")) },
	"a text that is no name":                               func(t *tape) { t.conn("a b", ok) },
	"no name at all":                                       func(t *tape) { t.conn("", ok) },
	"an SNI of the canary, captured, that was answered":    func(t *tape) { t.conn(canaryName, ok, via("redirect")) },
	"an unlisted name that claims to be refused no more":   func(t *tape) { t.conn("x."+canaryDomain, ok) },
	"a required host whose large hello was dropped":        func(t *tape) { t.conn("jobs.example.org", silence, big) },
	"a required host cut at an address that others use":    func(t *tape) { t.times(6, "jobs.example.org", reset1, to(here)) },
	"a required host cut after it was idle":                func(t *tape) { t.conn("jobs.example.org", died(60)) },
	"one host of a wildcard that a sinkhole took":          func(t *tape) { t.conn("cdn99.quay.io", sunk) },
	"one host of a wildcard around the parent, and silent": func(t *tape) { t.conn("cdn99.quay.io", silence, detail("direct", true)) },
	"three unlisted names that one address answered": func(t *tape) {
		t.conn("a.one.example", ok, to(here)).conn("b.two.example", ok, to(here)).conn("c.three.example", ok, to(here))
	},
	"a required host inside the cluster that did not resolve": func(t *tape) { t.query("registry.infra.svc", unanswered("NXDOMAIN")) },
	"a lost record":                 func(t *tape) { t.lost(1, "disk full") },
	"a lost record without a count": func(t *tape) { t.lost(0, "") },
	"an outcome that nobody knows":  func(t *tape) { t.conn("quay.io", func(r *policy.Record) { r.Outcome = "faileb" }) },
	"a record of an unknown kind":   func(t *tape) { t.add(&policy.Record{Kind: "odd"}) },
	"a restart without a canary":    func(t *tape) { t.restart(); t.halt(); t.restart().sing() },
}

// A trial in which all is well is clear; with one fault anywhere in it, it is
// not, and no exit status 0 comes of it where --fail-on names all gaps.
func TestOneFaultTakesTheAllClearAway(t *testing.T) {
	own := cat("own", "r extension registry.infra.svc")
	o := Options{Catalogs: []*policy.Catalog{small, own}}
	o.Index = policy.NewIndex(small, own)
	all, err := ParseFailOn("blocked,partial,reached,resolved,unlisted")
	require.NoError(t, err)
	rng := rand.New(rand.NewPCG(3, 4))
	trial := func(at int, fault func(*tape)) *Report {
		tape := started()
		for i := range 20 {
			if i == at {
				fault(tape)
			}
			host := []string{"quay.io", "cdn01.quay.io", "cdn02.quay.io"}[rng.IntN(3)]
			switch rng.IntN(6) {
			case 0:
				tape.query(host, answers("203.0.113.1")).conn(host, ok)
			case 1:
				id := fmt.Sprint("c", i)
				tape.conn(host, open(id), ok).conn(host, closes(id), ok)
			case 2:
				tape.conn(host, left).conn("10.0.0.1", dropped).conn(host, ok)
			case 3:
				tape.times(3, host, silence, big, to(here)).conn(host, ok, to(here))
			case 4:
				tape.rests(host, "rst", 60)
			default:
				tape.conn(host, ok, detail("issuer", "CN=Corp CA"))
			}
		}
		return tape.conn("quay.io", ok).conn("cdn01.quay.io", ok).conn("cdn02.quay.io", ok).stop().report(o)
	}
	for range 50 {
		r := trial(-1, nil)
		require.Equal(t, Clear, r.Verdict, "%v %v", r.Doubts, r.Unlisted)
		require.Equal(t, 0, r.ExitStatus(all))
	}
	for _, why := range slices.Sorted(maps.Keys(spoilers)) {
		for at := range 20 {
			r := trial(at, spoilers[why])
			require.NotEqual(t, Clear, r.Verdict, "%s, at %d", why, at)
			require.NotZero(t, r.ExitStatus(all), "%s, at %d", why, at)
		}
	}
}
