package report

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
)

func TestRules(t *testing.T) {
	seen := map[string]bool{}
	for _, row := range rules {
		require.False(t, seen[row.why], "two rows say %q", row.why)
		seen[row.why] = true
		t.Run(row.why, func(t *testing.T) {
			if row.catalog == nil {
				row.catalog = small
			}
			if len(row.opt.Files) > 0 {
				row.tape.records[0].Listeners = []string{"connect 127.0.0.1:3128", "redirect 0.0.0.0:3129", "dns 127.0.0.1:53"}
			}
			row.opt.Catalogs = []*policy.Catalog{row.catalog}
			r := row.tape.report(row.opt)
			f, err := ParseFailOn(DefaultFailOn)
			require.NoError(t, err)
			require.Equal(t, row.verdict, r.Verdict, "%v", r.Doubts)
			require.Equal(t, row.exit, r.ExitStatus(f), "%v", r.Doubts)
			requireWords(t, strings.Fields(strings.ReplaceAll(row.status, "\x1b[31m", "ESC")), r)
			requireShape(t, r)
		})
	}
}

// requireWords checks the statuses, unlisted destinations and findings that a
// row names: all of the unlisted and findings, those of the endpoints named.
func requireWords(t *testing.T, words []string, r *Report) {
	t.Helper()
	got := map[string]Status{}
	for _, e := range r.Endpoints {
		got[e.Host], got[policy.JoinPort(e.Host, e.Port)] = e.Status, e.Status
	}
	var unlisted, kinds []string
	for _, w := range words {
		i := strings.LastIndexByte(w, ':')
		host, is := strings.CutPrefix(w, "unlisted=")
		switch {
		case is:
			unlisted = append(unlisted, host)
		case i < 0:
			kinds = append(kinds, w)
		default:
			require.Equal(t, Status(w[i+1:]), got[w[:i]], w)
		}
	}
	var haveUnlisted []string
	for _, u := range r.Unlisted {
		haveUnlisted = append(haveUnlisted, policy.JoinPort(strings.ReplaceAll(u.Host, "\x1b[31m", "ESC"), u.Port))
	}
	have := map[string]bool{}
	for _, f := range r.Findings {
		if f.Kind != SNIMismatch {
			have[string(f.Kind)] = true
		}
	}
	require.ElementsMatch(t, unlisted, haveUnlisted)
	require.ElementsMatch(t, kinds, slices.Collect(maps.Keys(have)))
}

// requireShape checks what holds for every report.
func requireShape(t *testing.T, r *Report) {
	t.Helper()
	s := r.Summary
	require.Equal(t, r.Required, s.Used+s.Blocked+s.Partial+s.Reached+s.Resolved+s.Unused+s.Bypassed)
	require.Equal(t, r.Exercised, s.Used+s.Blocked+s.Partial)
	require.Len(t, r.Unlisted, s.Unlisted)
	for _, e := range r.Endpoints {
		require.Equal(t, e.Status == Blocked || e.Status == Partial, e.Cause != nil, "cause of %s, which is %s", e.Host, e.Status)
		for _, h := range e.Hosts {
			require.LessOrEqual(t, h.OK+h.Failed, h.Attempts)
		}
	}
	if r.Verdict == Clear {
		require.Zero(t, s.Blocked+s.Partial+s.Reached+s.Resolved+s.Unlisted)
		require.NotZero(t, r.Exercised)
		require.Empty(t, r.Doubts)
	}
	require.Equal(t, some(r.Doubts), some(r.BlindSpots[:len(r.Doubts)]))
}

// Damage, and what cmd alone knows to be lost, leave no all-clear.
func TestDamage(t *testing.T) {
	e := New(Options{Catalogs: []*policy.Catalog{small}})
	for _, r := range started().conn("quay.io", ok).stop().records {
		e.Add(r)
	}
	f, err := ParseFailOn(DefaultFailOn)
	require.NoError(t, err)
	require.Equal(t, Clear, e.Report().Verdict)
	require.Equal(t, 0, e.Report().ExitStatus(f))

	e.Damage(errors.New(`read ledger "a.jsonl": line 3: seq 5 where 4 was to come`))
	r := e.Report()
	require.Equal(t, CannotTell, r.Verdict)
	require.Equal(t, 3, r.ExitStatus(f))
	require.Contains(t, r.BlindSpots[0], "seq 5 where 4 was to come")

	e = New(Options{Catalogs: []*policy.Catalog{small}})
	for _, r := range started().conn("quay.io", ok).stop().records {
		e.Add(r)
	}
	e.Lost(1, "disk full")
	e.Lost(1<<64-1, "disk full") // an overflow does not make it whole
	require.Equal(t, 3, e.Report().ExitStatus(f))
}

// A doubt says what is wrong, so that somebody can mend it.
func TestDoubts(t *testing.T) {
	for _, row := range []struct {
		tape   *tape
		scopes []string
		want   string
	}{
		{started().conn("rebind.example", denied(policy.DestinationProhibited)).stop(), nil, "nothing was observed"},
		{started().conn("quay.io", ok).stop(), []string{"wrokload"}, "no endpoint counts as required with the scopes wrokload (the catalogs know extension, workload)"},
		{started().conn("10.0.0.1", ok).stop(), nil, "none of the 3 required endpoints was exercised"},
		{started().conn("quay.io", ok).lost(2, "queue full").stop(), nil, "2 records were lost and never written (queue full)"},
		{started().conn("quay.io", ok).halt(), nil, "the canary was not seen through every listener: proxy (1 of 2 seen)"},
		{started().conn("quay.io", left).stop(), nil, "quay.io:443: quay.io accepted connections and never answered"},
		{started().query("quay.io", answers("203.0.113.1")).stop(late), nil, "quay.io:443: quay.io was looked up, and no connection"},
		{started().query("quay.io", answers("203.0.113.1")).stop(), nil, "quay.io:443: quay.io was looked up less than 30s before the end"},
	} {
		r := row.tape.report(Options{Catalogs: []*policy.Catalog{small}, Scopes: row.scopes})
		require.Contains(t, strings.Join(r.Doubts, "\n"), row.want)
		require.Contains(t, strings.Join(r.BlindSpots, "\n"), row.want)
	}
}

// The verdict line names how many of the required endpoints were exercised, and
// the vantage.
func TestSentence(t *testing.T) {
	o := Options{Catalogs: []*policy.Catalog{small}}
	require.Equal(t, "CLEAR: no gap among the 1 of 3 required endpoints exercised, as seen from pod",
		started().conn("quay.io", ok).stop().report(o).Sentence())
	require.Equal(t, "GAPS: 1 blocked, 1 in no list; 1 of 3 required endpoints exercised, as seen from pod",
		started().conn("quay.io", dropped).conn("other.example", ok).stop().report(o).Sentence())
	require.Contains(t, started().stop().report(o).Sentence(), "0 of 3 required endpoints exercised, as seen from pod")
}

// Which unused endpoints an alternative excuses.
func TestExcused(t *testing.T) {
	for _, row := range []struct {
		why     string
		catalog *policy.Catalog
		tape    *tape
		want    string
	}{
		{"the other one was used", two, started().conn("b.example.org", ok), "a.example.org"},
		{"the other one was used and flaps", two, started().conn("b.example.org", reset1).conn("b.example.org", ok), "a.example.org"},
		{"the other one is blocked", two, started().conn("b.example.org", reset1), ""},
		{"the other one is partial", two, started().conn("b.example.org", ok).conn("b.example.org", reset1), ""},
		{"the other one was but reached", two, started().conn("b.example.org", left), ""},
		{"the other one was but looked up", two, started().query("b.example.org", answers("203.0.113.1")), ""},
		{"blocked beside one that was used", two, started().conn("b.example.org", ok).conn("a.example.org", reset1), ""},
		{"of three, one was used and one is blocked", cat("c", "a x a.example.org any_of=g", "b x b.example.org any_of=g", "c x c.example.org any_of=g"),
			started().conn("b.example.org", ok).conn("a.example.org", reset1), "c.example.org"},
		{"of another group", cat("c", "a x a.example.org any_of=g", "b x b.example.org any_of=h"), started().conn("b.example.org", ok), ""},
		{"of no group", cat("c", "a x a.example.org", "b x b.example.org"), started().conn("b.example.org", ok), ""},
		{"other hosts of the same requirement are no alternatives", cat("c", "a x a.example.org,b.example.org any_of=g"), started().conn("b.example.org", ok), ""},
	} {
		var excused []string
		for _, e := range row.tape.stop().report(Options{Catalogs: []*policy.Catalog{row.catalog}}).Endpoints {
			if e.Excused {
				excused = append(excused, e.Host)
			}
		}
		require.Equal(t, row.want, strings.Join(excused, " "), row.why)
	}
	other := cat("other", "a x a.example.org any_of=g")
	r := started().conn("b.example.org", ok).stop().report(Options{Catalogs: []*policy.Catalog{other, cat("two", "b x b.example.org any_of=g")}})
	require.False(t, r.Endpoints[0].Excused, "groups of two catalogs have nothing to do with each other")
}

func TestFailOn(t *testing.T) {
	o := Options{Catalogs: []*policy.Catalog{cat("c", "a x a.example.org any_of=g", "b x b.example.org any_of=g", "c x c.example.org optional")}}
	both := started().conn("a.example.org", ok).stop()
	for _, row := range []struct {
		why, list string
		tape      *tape
		want      int
	}{
		{"an alternative that was used excuses unused, and optional ones do not count", "unused", both, 0},
		{"an alternative that is blocked excuses nothing", "unused", started().conn("a.example.org", dropped).stop(), 1},
		{"unlisted by its name", "unlisted", started().conn("a.example.org", ok).conn("o.example", ok).stop(), 1},
		{"a finding by its kind", "flapping", started().conn("a.example.org", dropped).conn("a.example.org", ok).stop(), 1},
		{"reached by its name goes before cannot tell", "reached", started().conn("a.example.org", left).stop(), 1},
		{"an empty list names nothing, not even a block", "", started().conn("a.example.org", dropped).stop(), 0},
	} {
		t.Run(row.why, func(t *testing.T) {
			f, err := ParseFailOn(row.list)
			require.NoError(t, err)
			require.Equal(t, row.want, row.tape.report(o).ExitStatus(f))
			again, err := ParseFailOn(f.String())
			require.NoError(t, err)
			require.Equal(t, f, again)
		})
	}
	f, err := ParseFailOn("unused")
	require.NoError(t, err)
	hosts := Options{Catalogs: []*policy.Catalog{cat("c", "a x a.example.org,b.example.org any_of=g")}}
	require.Equal(t, 1, both.report(hosts).ExitStatus(f), "hosts of one requirement are no alternatives of each other")
	for word, hint := range map[string]string{"blockd": `did you mean "blocked"?`, "sni-mismatch": `"sni_mismatch"`, "used": `"unused"`, "blocked,,partial": "the words are", "everything": "the words are blocked, partial"} {
		_, err := ParseFailOn(word)
		require.ErrorContains(t, err, hint, word)
	}
}

// TestServerNameElsewhere: a captured connection that says a name which DNS gave
// other addresses is told.
func TestServerNameElsewhere(t *testing.T) {
	astray := func(r *policy.Record) { r.Asked, r.SNI, r.Listener = "203.0.113.9", "quay.io", "redirect" }
	r := started().conn("quay.io", ok, astray, detail("sni_elsewhere", true)).conn("quay.io", ok, astray).stop().report(Options{Catalogs: []*policy.Catalog{small}})
	found := only(r, SNIMismatch)
	require.Len(t, found, 1)
	require.Contains(t, found[0].Text, "went to 203.0.113.9 and said quay.io")
	require.Len(t, found[0].Evidence, 1)
}
