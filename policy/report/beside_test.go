package report

import (
	"bytes"
	"cmp"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
)

// beside judges tapes together, and each vantage apart.
func beside(o Options, tapes ...*tape) *Report {
	type entry struct {
		ledger int
		record *policy.Record
	}
	o.Index = policy.NewIndex(o.Catalogs...)
	var all []entry
	var sides []*Engine
	at := map[string]*Engine{}
	for n, t := range tapes {
		for _, r := range t.records {
			all = append(all, entry{n, r})
		}
		if at[t.vantage] == nil {
			at[t.vantage] = New(o)
			sides = append(sides, at[t.vantage])
		}
	}
	slices.SortStableFunc(all, func(a, b entry) int { return cmp.Or(a.record.Time.Compare(b.record.Time), a.ledger-b.ledger) })
	e := New(o)
	for _, x := range all {
		for _, to := range []*Engine{e, at[x.record.Vantage]} {
			to.From(x.ledger)
			to.Add(x.record)
		}
	}
	e.Beside(sides...)
	return e.Report()
}

// What a vantage cannot reach stays a gap, though another reached it later.
func TestVantageIsNotMendedByAnother(t *testing.T) {
	o := Options{Catalogs: []*policy.Catalog{small}}
	good := func() *tape { return seenFrom("node").conn("quay.io", ok, at(50)).stop(at(100)) }
	for why, c := range map[string]struct {
		do     func(*tape)
		status Status
		says   Verdict
	}{
		"dropped":        {func(p *tape) { p.conn("quay.io", dropped) }, Partial, Gaps},
		"not resolved":   {func(p *tape) { p.query("quay.io", nx) }, Partial, Gaps},
		"refused by us":  {func(p *tape) { p.conn("quay.io", denied(policy.ConnectionLimitReached)) }, Partial, Gaps},
		"never answered": {func(p *tape) { p.conn("quay.io", left) }, Used, CannotTell},
		"worked":         {func(p *tape) { p.conn("quay.io", ok) }, Used, Clear},
		"flapped":        {func(p *tape) { p.conn("quay.io", dropped).conn("quay.io", ok) }, Used, Clear},
		"not seen":       {func(*tape) {}, Used, Clear},
	} {
		pod := seenFrom("pod")
		c.do(pod)
		r := beside(o, pod.stop(at(90)), good())
		require.Equal(t, c.status, r.Endpoints[0].Status, why)
		require.Equal(t, c.says, r.Verdict, "%s: %v", why, r.Doubts)
		require.Equal(t, []string{"pod", "node"}, r.Matrix.Vantages)
		if c.status == Partial {
			require.Contains(t, r.Endpoints[0].Cause.Ask, "seen from pod", why)
			require.NotEmpty(t, r.Endpoints[0].Hosts[0].Error, why)
			require.Empty(t, only(r, Flapping), why)
			require.Equal(t, 1, r.Summary.Partial, why)
		}
	}
	pod := seenFrom("pod").query("jobs.example.org", found).stop(at(90))
	node := good()
	node.records[0].NoProxy = []string{"jobs.example.org"}
	require.Equal(t, CannotTell, beside(o, pod, node).Verdict, "NO_PROXY of the node is none of the pod's")
	pod = seenFrom("pod").conn("quay.io", left).stop(at(90))
	require.Contains(t, beside(o, pod, good()).Doubts[0], "as seen from pod, quay.io accepted connections and never answered")
}

// Nor is a destination in no list, for the exit status.
func TestUnlistedIsNotMendedByAnother(t *testing.T) {
	o := Options{Catalogs: []*policy.Catalog{small}}
	on, err := ParseFailOn(DefaultFailOn)
	require.NoError(t, err)
	for _, how := range []mod{dropped, left} {
		pod := seenFrom("pod").conn("quay.io", ok).conn("other.example", how).stop(at(90))
		r := beside(o, pod, seenFrom("node").conn("other.example", ok, at(50)).stop(at(100)))
		alone := pod.report(o)
		require.Equal(t, 1, alone.ExitStatus(on))
		require.Equal(t, 1, r.ExitStatus(on))
		require.Equal(t, alone.Unlisted[0].Outcome, r.Unlisted[0].Outcome)
		require.Equal(t, alone.Unlisted[0].Cause, r.Unlisted[0].Cause)
	}
}

// A look-up that fails at one vantage is not explained by what another reaches at the
// same name on another port, listed or not.
func TestLookupIsNotMendedByAnotherPort(t *testing.T) {
	o := Options{Catalogs: []*policy.Catalog{cat("page", "a ext quay.io", "b ext quay.io port=80 optional", "c ext other.example")}}
	pod := func(name string) *tape { return seenFrom("pod").query(name, nx).stop(at(90)) }
	node := seenFrom("node").conn("quay.io", port(80), ok, at(50)).conn("other.example", ok, at(51)).stop(at(100))
	r := beside(o, pod("quay.io"), node)
	require.Equal(t, Gaps, r.Verdict)
	require.Equal(t, Blocked, r.Endpoints[0].Status)
	require.Contains(t, r.Endpoints[0].Cause.Ask, "seen from pod;")

	on, err := ParseFailOn(DefaultFailOn)
	require.NoError(t, err)
	node = seenFrom("node").query("in.no.example", found, at(40)).conn("in.no.example", ok, at(50)).conn("other.example", ok, at(51)).stop(at(100))
	r = beside(o, pod("in.no.example"), node)
	require.Equal(t, 1, pod("in.no.example").report(o).ExitStatus(on))
	require.Equal(t, 1, r.ExitStatus(on))
	require.Equal(t, []string{"blocked", "worked"}, []string{r.Unlisted[0].Outcome, r.Unlisted[1].Outcome})
	for _, b := range beside(o, seenFrom("pod").query("in.no.example", found).stop(at(90)), node).BlindSpots {
		require.NotContains(t, b, "looked up without a connection")
	}
}

// An ask names the vantages at which something does not work, whatever the order of
// things, and of several the one with the cause; and its counts are theirs.
func TestAskNamesWhoIsBlocked(t *testing.T) {
	o := Options{Catalogs: []*policy.Catalog{small}}
	trial := func(vantage string, second int, how mod) *tape {
		return seenFrom(vantage).conn("quay.io", how, at(second)).conn("in.no.example", how, at(second+1)).stop(at(90))
	}
	refused := denied(policy.ConnectionLimitReached)
	for _, c := range []struct {
		tapes []*tape
		want  string
		who   string
	}{
		{[]*tape{trial("a", 10, ok), trial("b", 20, dropped)}, "the only attempt failed, 2026-01-02 10:00:2?", "b"},
		{[]*tape{trial("b", 10, dropped), trial("a", 20, ok)}, "the only attempt failed, 2026-01-02 10:00:1?", "b"},
		{[]*tape{trial("c", 5, left), trial("b", 10, dropped), trial("a", 20, ok)}, "the only attempt failed, 2026-01-02 10:00:1?", "b"},
		{[]*tape{trial("b", 10, refused), trial("a", 20, ok)}, "the only attempt failed, 2026-01-02 10:00:1?", "b"},
		{[]*tape{trial("b", 10, dropped), trial("a", 20, ok), trial("c", 30, refused)}, "the only attempt failed, 2026-01-02 10:00:1?", "b"},
		{[]*tape{trial("c", 5, refused), trial("b", 10, dropped), trial("a", 20, ok)}, "the only attempt failed, 2026-01-02 10:00:1?", "b"},
		{[]*tape{trial("b", 10, dropped), seenFrom("a").stop(at(90))}, "the only attempt failed, 2026-01-02 10:00:1?", "b"},
		{[]*tape{trial("b", 10, dropped), trial("a", 20, ok), trial("c", 30, dropped)}, "both attempts failed, 2026-01-02 10:00:1? to 10:00:3?", "b, c"},
		{[]*tape{trial("b", 10, dropped), trial("", 20, dropped), trial("a", 30, ok)}, "both attempts failed, 2026-01-02 10:00:1? to 10:00:2?", "b, unknown"},
	} {
		r := beside(o, c.tapes...)
		want := regexp.MustCompile(strings.ReplaceAll(regexp.QuoteMeta(c.want), `\?`, `\d`) + ` UTC(, last at [0-9.:]+)?, seen from ` + c.who + `(;|\.| \()`)
		require.Regexp(t, want, r.Endpoints[0].Cause.Ask)
		require.Equal(t, "blocked", r.Unlisted[0].Outcome)
		require.Regexp(t, want, r.Unlisted[0].Cause.Ask)
		h := r.Endpoints[0].Hosts[0]
		for _, w := range r.wanted() {
			require.Equal(t, []string{c.who}, w.From)
		}
		require.Equal(t, r.Endpoints[0].Cause.Error, h.Error)
		require.Positive(t, h.Failed)
		require.GreaterOrEqual(t, h.Attempts, h.OK+h.Failed)
	}
}

// Random trials at two vantages: an endpoint that is broken at one is broken in both
// together, and what is no clear trial at one is none in both.
func TestTogetherIsNeverBetter(t *testing.T) {
	o := Options{Catalogs: []*policy.Catalog{small, cat("other", "a ext quay.io port=80 optional")}}
	on, err := ParseFailOn(DefaultFailOn)
	require.NoError(t, err)
	rng := rand.New(rand.NewPCG(5, 6))
	acts := []mod{ok, ok, ok, dropped, reset1, left, denied(policy.ConnectionLimitReached)}
	trial := func(vantage string) *tape {
		p := seenFrom(vantage)
		for range rng.IntN(6) {
			host := []string{"quay.io", "cdn01.quay.io", "jobs.example.org", "in.no.example"}[rng.IntN(4)]
			when := at(2 + rng.IntN(80))
			if rng.IntN(5) == 0 {
				p.query(host, nx, when)
				continue
			}
			p.conn(host, acts[rng.IntN(len(acts))], port([]uint16{443, 443, 80}[rng.IntN(3)]), when)
		}
		slices.SortStableFunc(p.records, func(a, b *policy.Record) int { return a.Time.Compare(b.Time) })
		return p.stop(at(90))
	}
	for range 3000 {
		a, b := trial("pod"), trial("node")
		r := beside(o, a, b)
		for _, side := range []*Report{a.report(o), b.report(o)} {
			for i, e := range side.Endpoints {
				if e.Status == Blocked || e.Status == Partial {
					require.Contains(t, []Status{Blocked, Partial}, r.Endpoints[i].Status)
					require.NotNil(t, r.Endpoints[i].Cause)
				}
			}
			require.False(t, side.fails(on) && !r.fails(on))
			if side.Exercised > 0 && side.Verdict != Clear {
				require.NotEqual(t, Clear, r.Verdict)
			}
		}
	}
}

// Who does not hold vantages apart cannot clear what they say together.
func TestVantagesAsOneAreDoubted(t *testing.T) {
	e := New(Options{Catalogs: []*policy.Catalog{small}})
	for n, p := range []*tape{seenFrom("pod"), seenFrom("node"), seenFrom("")} {
		e.From(n)
		for _, r := range p.conn("quay.io", ok).stop(at(90)).records {
			e.Add(r)
		}
	}
	require.Equal(t, []string{"pod", "node", ""}, e.Vantages())
	r := e.Report()
	require.Equal(t, CannotTell, r.Verdict)
	require.Contains(t, r.Doubts, "records of pod, node are judged as one here: what one cannot reach may have worked from another (egressaudit report holds them apart)")
}

// Many nodes are told by status, not in columns that fit no terminal.
func TestMatrixOfManyVantages(t *testing.T) {
	o := Options{Catalogs: []*policy.Catalog{small}}
	var tapes []*tape
	for i := range 12 {
		m := ok
		if i%6 == 5 {
			m = dropped
		}
		tapes = append(tapes, seenFrom(fmt.Sprintf("node-aks-nodepool1-12345678-vmss0000%02d", i)).conn("quay.io", m, at(i)).stop(at(90)))
	}
	r := beside(o, tapes...)
	require.Equal(t, Partial, r.Endpoints[0].Status)
	var b bytes.Buffer
	require.NoError(t, r.WriteText(&b, TextOptions{Width: 80}))
	for _, l := range strings.Split(b.String(), "\n") {
		require.LessOrEqual(t, utf8.RuneCountInString(l), 80, l)
	}
	out := strings.Join(strings.Fields(b.String()), " ")
	require.Contains(t, out, "quay.io:443 blocked: node-aks-nodepool1-12345678-vmss000005, node-aks-nodepool1-12345678-vmss000011;")
	require.Contains(t, out, "node-aks-nodepool1-12345678-vmss000005, node-aks-nodepool1-12345678-vmss000011 do not get through where another vantage does: quay.io:443")
}
