package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/extension"
	gmhtml "github.com/yuin/goldmark/renderer/html"

	"github.com/egressaudit/egressaudit/policy"
)

// say is a diff as "kind old... > new..." a line, with what was and is now.
func say(d *Diff) []string {
	out := []string{}
	for _, c := range d.Changes {
		line := string(c.Kind)
		for _, l := range c.Old {
			line += " " + l.at()
		}
		line += " >"
		for _, l := range c.New {
			line += " " + l.at()
		}
		if len(c.Was)+len(c.Now) > 0 {
			line += fmt.Sprintf(" %q > %q", c.Was, c.Now)
		}
		out = append(out, line)
	}
	return out
}

func TestDiffCatalogs(t *testing.T) {
	type list = []string
	for _, row := range []struct {
		why      string
		old, new list
		want     list
	}{
		{"nothing", list{"a ext quay.io"}, list{"a ext quay.io"}, list{}},
		{"gone and come", list{"a ext quay.io"}, list{"a ext gcr.io"}, list{"removed quay.io:443 >", "added > gcr.io:443"}},
		{"the same host on another port",
			list{"a ext archive.ubuntu.com"}, list{"a ext archive.ubuntu.com port=80"}, list{`port archive.ubuntu.com:443 > archive.ubuntu.com:80 ["443"] > ["80"]`}},
		{"one of two ports gone is no move", list{"a ext gcr.io", "b ext gcr.io port=80"}, list{"a ext gcr.io"}, list{"removed gcr.io:80 >"}},
		{"a wildcard replaced by hosts within it", list{"a wl *.azurecr.io"}, list{"a wl <acr>.azurecr.io,<acr>.<region>.data.azurecr.io"},
			list{"narrowed *.azurecr.io:443 > <acr>.azurecr.io:443 <acr>.<region>.data.azurecr.io:443"}},
		{"the reverse", list{"a wl x.quay.io,y.z.quay.io"}, list{"a wl *.quay.io"}, list{"widened x.quay.io:443 y.z.quay.io:443 > *.quay.io:443"}},
		{"the apex is not within its wildcard", list{"a wl *.quay.io"}, list{"a wl quay.io"}, list{"removed *.quay.io:443 >", "added > quay.io:443"}},
		{"nor is another port", list{"a wl *.quay.io"}, list{"a wl x.quay.io port=80"}, list{"removed *.quay.io:443 >", "added > x.quay.io:80"}},
		{"nor what was listed before", list{"a wl *.quay.io,x.quay.io"}, list{"a wl x.quay.io"}, list{"removed *.quay.io:443 >"}},
		{"the most specific wildcard is the one replaced", list{"a wl *.b.io,*.a.b.io"}, list{"a wl x.a.b.io"},
			list{"removed *.b.io:443 >", "narrowed *.a.b.io:443 > x.a.b.io:443"}},
		{"another placeholder", list{"a ext <region-code>.api.azureml.ms"}, list{"a ext <region>.api.azureml.ms"},
			list{"renamed <region-code>.api.azureml.ms:443 > <region>.api.azureml.ms:443"}},
		{"scope", list{"a inference *.kusto.windows.net"}, list{"a extension *.kusto.windows.net"},
			list{`scope *.kusto.windows.net:443 > *.kusto.windows.net:443 ["inference"] > ["extension"]`}},
		{"one scope more", list{"a ext quay.io"}, list{"a ext quay.io", "a training quay.io"},
			list{`scope quay.io:443 > quay.io:443 ["ext"] > ["ext" "training"]`}},
		{"scope beside a move", list{"a ext quay.io"}, list{"a wl quay.io port=80 proto=http"},
			list{`port quay.io:443 > quay.io:80 ["443"] > ["80"]`, `scope quay.io:443 > quay.io:80 ["ext"] > ["wl"]`, `terms quay.io:443 > quay.io:80 ["https"] > ["http"]`}},
		{"terms", list{"a ext quay.io"}, list{"a ext quay.io optional need=websocket from=2026-01-01 any_of=g"},
			list{`terms quay.io:443 > quay.io:443 ["ext: https"] > ["ext: https, needs websocket, optional, any of g, from 2026-01-01"]`}},
		{"terms that two scopes exchange", list{"a ext quay.io optional", "b wl quay.io"}, list{"a ext quay.io", "b wl quay.io optional"},
			list{`terms quay.io:443 > quay.io:443 ["ext: https, optional" "wl: https"] > ["ext: https" "wl: https, optional"]`}},
		{"purpose and id", list{"a ext quay.io for=images"}, list{"b ext quay.io for=layers"},
			list{`cosmetic quay.io:443 > quay.io:443 ["purpose \"images\"" "row a"] > ["purpose \"layers\"" "row b"]`}},
		{"a repeated row", list{"a ext quay.io", "a ext quay.io"}, list{"a ext quay.io"}, list{`cosmetic quay.io:443 > quay.io:443 ["2 rows"] > ["1 row"]`}},
		{"order", list{"a ext quay.io,gcr.io"}, list{"a ext gcr.io,quay.io"}, list{"cosmetic >"}},
		{"order is of what both have", list{"a ext quay.io,gcr.io"}, list{"a ext gcr.io"}, list{"removed quay.io:443 >"}},
	} {
		d := DiffCatalogs(cat("page", row.old...), cat("page", row.new...))
		require.Equal(t, row.want, say(d), row.why)
		require.Equal(t, len(row.want) == 0, d.Same, row.why)
	}
}

func TestDiffOfCatalogsTellsWhatCoversAnEndpoint(t *testing.T) {
	d := DiffCatalogs(cat("page", "a ext *.quay.io,cdn.quay.io"), cat("page", "a ext *.quay.io,cdn02.quay.io"))
	require.Equal(t, "still covered by *.quay.io:443", d.Changes[0].Note)
	require.Equal(t, "was covered by *.quay.io:443", d.Changes[1].Note)
}

func TestDiffOfCatalogsIgnoresTheNameOfTheRevision(t *testing.T) {
	a, b := cat("page", "a ext quay.io"), cat("page", "a ext quay.io")
	b.Revision, b.Digest = "r2", "sha256:00"
	require.True(t, DiffCatalogs(a, b).Same)
	b.Title = "another"
	require.False(t, DiffCatalogs(a, b).Same)
}

// judgedBoth judges a trial by two catalogs, each alone.
func judgedBoth(t *tape, old, now *policy.Catalog) Tried {
	of := func(c *policy.Catalog) *Report { return t.report(Options{Catalogs: []*policy.Catalog{Timeless(c)}}) }
	return Tried{of(old), of(now)}
}

func TestDiffExercise(t *testing.T) {
	old := cat("page", "a ext quay.io,*.quay.io", "b ext gcr.io until=2021-01-01", "c wl *.azurecr.io", "d ext unused.example")
	now := cat("page", "c wl acr1.azurecr.io", "e ext new.example,used.example")
	d := DiffCatalogs(old, now)
	d.Exercise([]Tried{
		judgedBoth(started().conn("quay.io", ok).conn("gcr.io", dropped).conn("acr1.azurecr.io", ok).conn("acr2.azurecr.io", ok).conn("used.example", ok).stop(), old, now),
		judgedBoth(started().conn("quay.io", ok).conn("acr1.azurecr.io", ok).stop(), old, now),
	})
	got := map[string]Exercise{}
	for _, c := range d.Changes {
		got[append(c.Old, c.New...)[0].at()] = *c.Exercise
	}
	none := []string{}
	require.Equal(t, map[string]Exercise{
		"quay.io:443":        {2, 2, 0, 0, []string{"quay.io:443"}},
		"*.quay.io:443":      {2, 0, 0, 0, none},
		"gcr.io:443":         {2, 0, 1, 0, []string{"gcr.io:443"}}, // though its row was not in force
		"*.azurecr.io:443":   {2, 2, 0, 0, []string{"acr2.azurecr.io:443"}},
		"unused.example:443": {2, 0, 0, 0, none},
		"new.example:443":    {2, 0, 0, 0, none},
		"used.example:443":   {2, 1, 0, 0, none},
	}, got)
	require.Equal(t, "drops 4 hosts; 1 of them was used in 2 trials, and 1 seen otherwise; adds 2; 1 of them was used in 2 trials; narrows 1 wildcard; "+
		"3 hosts that trials went to are no longer listed", d.Summary)
}

// However many hosts the new catalog lacks, all are told.
func TestDiffExerciseTellsAllStranded(t *testing.T) {
	old, now := cat("page", "a ext *.wide.example"), cat("page", "a ext one.wide.example")
	tape := started()
	for i := range 3 * maxWords {
		tape.conn(fmt.Sprintf("h%d.wide.example", i), ok)
	}
	d := DiffCatalogs(old, now)
	d.Exercise([]Tried{judgedBoth(tape.stop(), old, now)})
	require.Len(t, d.Changes[0].Exercise.Stranded, 3*maxWords)
	require.Contains(t, d.Summary, fmt.Sprintf("%d hosts that trials went to", 3*maxWords))
}

func TestDiffExerciseSaysThatNothingWasUsed(t *testing.T) {
	old, now := cat("page", "a ext one.example,two.example"), cat("page", "a ext three.example")
	d := DiffCatalogs(old, now)
	trial := judgedBoth(started().conn("other.example", ok).stop(), old, now)
	d.Exercise([]Tried{trial, trial, trial})
	require.Equal(t, "drops 2 hosts; 0 of them were used in 3 trials; adds 1, not exercised", d.Summary)
	d = DiffCatalogs(old, now)
	damaged := judgedBoth(started(), old, now)
	damaged.Old.Doubts = []string{"a hole"}
	d.Exercise([]Tried{damaged})
	require.Contains(t, strings.Join(d.Doubts, "\n"), "a hole", "a trial that cannot tell says so")
}

// caught is what an intercepting device does.
var caught = fails(policy.StageHandshake, policy.TLSIntercepted, policy.ByNetwork, policy.Certain, "issuer", "CN=Box")

func TestDiffTrials(t *testing.T) {
	c := cat("page", "a ext one.example", "w ext *.two.example", "o ext opt.example optional")
	other := cat("other", "x base one.example")
	o := Options{Catalogs: []*policy.Catalog{c, other}}
	for _, row := range []struct {
		why      string
		old, new *tape
		want     []string
		same     bool
	}{
		{"the same", started().conn("one.example", ok), started().conn("one.example", ok), []string{}, true},
		{"fixed", started().conn("one.example", dropped), started().conn("one.example", ok),
			[]string{`fixed one.example:443 > one.example:443 ["dropped (connection_timeout at connect, by network)"] > ["working"]`}, false},
		{"still", started().conn("one.example", dropped), started().conn("one.example", dropped),
			[]string{`still one.example:443 > one.example:443 ["dropped (connection_timeout at connect, by network)"] > ["dropped (connection_timeout at connect, by network)"]`}, true},
		{"was dropped, now intercepted", started().conn("one.example", dropped), started().conn("one.example", caught),
			[]string{`changed one.example:443 > one.example:443 ["dropped (connection_timeout at connect, by network)"] > ["intercepted (tls_intercepted at handshake, by network)"]`}, false},
		{"new", started().conn("one.example", ok), started().conn("one.example", dropped),
			[]string{`new one.example:443 > one.example:443 ["working"] > ["dropped (connection_timeout at connect, by network)"]`}, false},
		{"not tried is not fixed", started().conn("one.example", dropped), started().conn("a.two.example", ok),
			[]string{`lost one.example:443 > one.example:443 ["dropped (connection_timeout at connect, by network)"] > ["not seen"]`,
				`gained *.two.example:443 > *.two.example:443 ["not seen"] > ["working"]`}, false},
		{"accepted and never answered is not fixed either", started().conn("one.example", dropped), started().conn("one.example", left),
			[]string{`lost one.example:443 > one.example:443 ["dropped (connection_timeout at connect, by network)"] > ["accepted and never answered, which proves nothing"]`}, false},
		{"other hosts of a wildcard fail", started().conn("a.two.example", ok).conn("b.two.example", dropped), started().conn("a.two.example", dropped).conn("b.two.example", ok),
			[]string{`changed *.two.example:443 > *.two.example:443 ["in part dropped (connection_timeout at connect, by network), at b.two.example"] > ["in part dropped (connection_timeout at connect, by network), at a.two.example"]`}, false},
		{"a wildcard works, but not by the host that failed", started().conn("a.two.example", ok).conn("b.two.example", dropped), started().conn("a.two.example", ok),
			[]string{`lost *.two.example:443 > *.two.example:443 ["in part dropped (connection_timeout at connect, by network), at b.two.example"] > ["working"]`}, false},
		{"and by that host", started().conn("b.two.example", dropped), started().conn("a.two.example", ok).conn("b.two.example", ok),
			[]string{`fixed *.two.example:443 > *.two.example:443 ["dropped (connection_timeout at connect, by network)"] > ["working"]`}, false},
		{"other made-up hosts of a wildcard, dropped as before", started().conn("a.two.example", dropped), started().conn("b.two.example", dropped),
			[]string{`still *.two.example:443 > *.two.example:443 ["dropped (connection_timeout at connect, by network)"] > ["dropped (connection_timeout at connect, by network)"]`}, true},
		{"let through, and intercepted with the client's consent", started().conn("one.example", ok), started().conn("one.example", ok, detail("issuer", "CN=Box")),
			[]string{`finding > [] > ["tls_intercepted: one.example:443: the certificate was signed by \"CN=Box\", which the public does not trust, and the client accepted it: a device inspects TLS"]`}, false},
		{"NXDOMAIN is not SERVFAIL", started().query("one.example", unanswered("NXDOMAIN")), started().query("one.example", unanswered("SERVFAIL")),
			[]string{`changed one.example:443 > one.example:443 ["not resolved (NXDOMAIN, by resolver)"] > ["not resolved (SERVFAIL, by resolver)"]`}, false},
		{"in no list, then no more", started().conn("odd.example", ok), started().conn("one.example", ok),
			[]string{`lost odd.example:443 > ["working, in no list"] > ["not seen"]`, `gained one.example:443 > one.example:443 ["not seen"] > ["working"]`}, false},
		{"in no list, new", started().conn("one.example", ok), started().conn("one.example", ok).conn("odd.example", ok),
			[]string{`new > odd.example:443 ["not seen"] > ["working, in no list"]`}, false},
		{"let through, and still in no list: a gap it stays", started().conn("odd.example", dropped), started().conn("odd.example", ok),
			[]string{`changed odd.example:443 > odd.example:443 ["dropped (connection_timeout at connect, by network), in no list"] > ["working, in no list"]`}, false},
		{"optional endpoints differ, too", started().conn("opt.example", ok), started().conn("opt.example", dropped),
			[]string{`new opt.example:443 > opt.example:443 ["working"] > ["dropped (connection_timeout at connect, by network)"]`}, false},
	} {
		d := DiffTrials(row.old.stop().report(o), row.new.stop().report(o))
		require.ElementsMatch(t, row.want, say(d), row.why)
		require.Equal(t, row.same, d.Same, row.why)
		for _, c := range d.Changes {
			for _, l := range append(c.Old, c.New...) {
				if l.Host == "one.example" {
					require.Equal(t, []string{"page", "other"}, l.Catalogs, "one change, not one for each catalog")
				}
			}
		}
	}
}

func TestDiffTrialsDoubtsWhatItCannotKnow(t *testing.T) {
	o := Options{Catalogs: []*policy.Catalog{cat("page", "a ext one.example")}, Files: []string{"b.jsonl"}}
	d := DiffTrials(started().conn("one.example", ok).stop().report(o), started().conn("one.example", ok).report(o))
	require.True(t, d.Same)
	require.Empty(t, d.Doubts)
	e := New(o)
	for _, r := range started().conn("one.example", ok).stop().records {
		e.Add(r)
	}
	e.Lost(3, "disk full")
	d = DiffTrials(started().conn("one.example", ok).stop().report(o), e.Report())
	require.True(t, d.Same)
	require.Contains(t, d.Doubts[0], "b.jsonl: 3 records were lost")
}

func TestDiffCoverage(t *testing.T) {
	c := cat("page", "a ext used.example", "b ext unused.example", "c ext blocked.example", "d ext half.example", "o ext opt.example,optb.example optional",
		"e ext alt1.example any_of=g", "f ext alt2.example any_of=g")
	tape := started().conn("used.example", ok).conn("blocked.example", dropped).conn("half.example", left).conn("odd.example", ok).
		conn("optb.example", dropped).conn("alt1.example", ok).stop()
	d := DiffCoverage(tape.report(Options{Catalogs: []*policy.Catalog{c}}))
	require.Equal(t, []string{
		`blocked blocked.example:443 > blocked.example:443 [] > ["dropped (connection_timeout at connect, by network)"]`,
		`blocked optb.example:443 > optb.example:443 [] > ["dropped (connection_timeout at connect, by network)"]`,
		`unclear half.example:443 > half.example:443 [] > ["accepted and never answered, which proves nothing"]`,
		`extra > odd.example:443 [] > ["working, in no list"]`,
		`missing unused.example:443 > [] > ["not seen"]`,
	}, say(d))
	require.False(t, d.Changes[1].Counts, "optional")
	require.False(t, d.Same)

	all := DiffCoverage(started().conn("used.example", ok).stop().report(Options{Catalogs: []*policy.Catalog{cat("page", "a ext used.example")}}))
	require.True(t, all.Same)
	require.Empty(t, all.Changes)
}

// diffs are one of each comparison, with all kinds of changes and hostile names.
func diffs() []*Diff {
	long := strings.Repeat(strings.Repeat("l", 63)+".", 3) + "example"
	old := cat("page\x1b[31m", "a ext one.example,*.two.example,"+long, "b ext <x>.three.example,p.four.example,move.example for=a|b`c`<script>@everyone", "c wl five.example", "d ext six.example")
	now := cat("page", "a ext x.two.example,added.example", "b ext <y>.three.example,*.four.example for=https://evil.example", "m ext move.example port=80", "c ext five.example", "d ext six.example optional for=x")
	catalogs := DiffCatalogs(old, now)
	hostile := started().conn("one.example", ok).conn("\x1b[31m\u202egnp.exe|`@a`", dropped).conn("=cmd|x", ok).conn("www.evil.example", ok).conn(long, ok).stop()
	o := Options{Catalogs: []*policy.Catalog{old}, Files: []string{"a\x1b @everyone.jsonl"}}
	joinedDiff := DiffCatalogs(old, now)
	joinedDiff.Exercise([]Tried{judgedBoth(hostile, old, now)})
	return []*Diff{catalogs, joinedDiff, DiffTrials(every().report(o), hostile.report(o)), DiffTrials(hostile.report(o), every().report(o)), DiffCoverage(every().report(o)),
		DiffCoverage(everyReport()), DiffTrials(everyReport(), everyReport()),
		DiffTrials(started().conn("one.example", dropped).conn("added.example", dropped).report(o), started().conn("one.example", ok).conn("added.example", caught).report(o))}
}

func TestDiffTextIsSafeAndFits(t *testing.T) {
	kinds := map[ChangeKind]bool{}
	for _, d := range diffs() {
		for _, width := range []int{0, 40, 80, 120} {
			var plain, painted bytes.Buffer
			require.NoError(t, d.WriteText(&plain, TextOptions{Width: width}))
			require.NoError(t, d.WriteText(&painted, TextOptions{Width: width, Color: true}))
			limit := width
			if limit == 0 {
				limit = 80
			}
			for _, l := range strings.Split(plain.String(), "\n") {
				require.LessOrEqual(t, utf8.RuneCountInString(l), limit, l)
				require.Equal(t, Escape(l), l)
				require.Equal(t, strings.TrimRight(l, " "), l)
			}
			bare := painted.String()
			for _, c := range []color{red, yellow, green, bold, reset} {
				bare = strings.ReplaceAll(bare, string(c), "")
			}
			require.Equal(t, plain.String(), bare)
		}
		for _, c := range d.Changes {
			kinds[c.Kind] = true
		}
	}
	for _, g := range diffGroups {
		require.True(t, kinds[g.kind], g.kind)
	}
}

func TestDiffMarkdownMakesNoMarkup(t *testing.T) {
	for _, d := range diffs() {
		var b bytes.Buffer
		require.NoError(t, d.WriteMarkdown(&b))
		for _, l := range strings.Split(b.String(), "\n") {
			require.Equal(t, Escape(l), l)
			if strings.HasPrefix(l, "| ") {
				require.Equal(t, 5, strings.Count(strings.ReplaceAll(l, `\|`, ""), "|"), l)
			}
			outside := ""
			for i, part := range strings.Split(strings.ReplaceAll(l, "\\`", ""), "`") {
				if i%2 == 0 {
					outside += part
				}
			}
			for _, bad := range []string{"<script", "https://", "www.e", " @e"} {
				require.NotContains(t, outside, bad)
			}
		}
		// Trackers look for mentions in what Markdown became.
		var page bytes.Buffer
		raw := goldmark.New(goldmark.WithExtensions(extension.GFM), goldmark.WithRendererOptions(gmhtml.WithUnsafe()))
		require.NoError(t, raw.Convert(b.Bytes(), &page))
		require.NotRegexp(t, `@[a-z]|<a `, regexp.MustCompile(`<code>[^<]*</code>`).ReplaceAllString(page.String(), ""))
	}
}

func TestDiffJSON(t *testing.T) {
	for _, d := range diffs() {
		var b bytes.Buffer
		require.NoError(t, d.WriteJSON(&b))
		require.NotContains(t, b.String(), "null")
		for _, r := range b.String() {
			require.True(t, r == '\n' || r >= 0x20 && r != 0x7f && r != 0x202e, "%q", r)
		}
		var back Diff
		require.NoError(t, json.Unmarshal(b.Bytes(), &back))
		require.Equal(t, say(d), say(&back))
	}
}
