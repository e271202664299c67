package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/extension"

	"github.com/egressaudit/egressaudit/policy"
)

// trials judges each tape by the catalogs.
func trials(o Options, tapes ...*tape) []*Report {
	var out []*Report
	for _, t := range tapes {
		out = append(out, t.report(o))
	}
	return out
}

func TestNarrow(t *testing.T) {
	o := Options{Catalogs: []*policy.Catalog{cat("page", "a ext *.wide.example", "b ext quay.io")}}
	once := func(mods ...string) *tape {
		tape := started()
		for _, name := range mods {
			tape.conn(name, ok)
		}
		return tape.stop()
	}
	for _, row := range []struct {
		why       string
		tapes     []*tape
		stability Stability
		hosts     []WildcardHost
	}{
		{"three trials with the same hosts", []*tape{once("a.wide.example", "b.wide.example"), once("b.wide.example", "a.wide.example"), once("a.wide.example", "b.wide.example")},
			Stable, []WildcardHost{{"a.wide.example", 3}, {"b.wide.example", 3}}},
		{"trials that did not use it say nothing", []*tape{once("a.wide.example"), once("quay.io"), once("a.wide.example"), once("a.wide.example")},
			Stable, []WildcardHost{{"a.wide.example", 3}}},
		{"a blocked host was wanted, too", []*tape{once("a.wide.example"), once("a.wide.example"), started().conn("a.wide.example", dropped).stop()},
			Stable, []WildcardHost{{"a.wide.example", 3}}},
		{"two are too few", []*tape{once("a.wide.example"), once("a.wide.example")}, Unproven, []WildcardHost{{"a.wide.example", 2}}},
		{"others in another trial", []*tape{once("a.wide.example"), once("a.wide.example", "b.wide.example"), once("a.wide.example")},
			Rotating, []WildcardHost{{"a.wide.example", 3}, {"b.wide.example", 1}}},
		{"numbered, though the same each time", []*tape{once("cdn01.wide.example"), once("cdn01.wide.example"), once("cdn01.wide.example")},
			Rotating, []WildcardHost{{"cdn01.wide.example", 3}}},
		{"a number and nothing else", []*tape{once("7.wide.example"), once("7.wide.example"), once("7.wide.example")},
			Rotating, []WildcardHost{{"7.wide.example", 3}}},
		{"a long number is no series", []*tape{once("x20211119.wide.example"), once("x20211119.wide.example"), once("x20211119.wide.example")},
			Stable, []WildcardHost{{"x20211119.wide.example", 3}}},
		{"numbered within a label", []*tape{once("relay-eastus-l1.x.wide.example"), once("relay-eastus-l1.x.wide.example"), once("relay-eastus-l1.x.wide.example")},
			Rotating, []WildcardHost{{"relay-eastus-l1.x.wide.example", 3}}},
		{"a trial without an end", []*tape{once("a.wide.example"), once("a.wide.example"), started().conn("a.wide.example", ok)},
			Unproven, []WildcardHost{{"a.wide.example", 3}}},
		{"a trial whose canary was not seen", []*tape{once("a.wide.example"), once("a.wide.example"), quiet().conn("a.wide.example", ok).halt()},
			Unproven, []WildcardHost{{"a.wide.example", 3}}},
		{"a look-up that went around us", []*tape{once("a.wide.example"), once("a.wide.example"), started().conn("a.wide.example", ok).passing("away.wide.example").query("away.wide.example", answers("192.0.2.1")).stop()},
			Rotating, []WildcardHost{{"a.wide.example", 3}, {"away.wide.example", 1}}},
		{"a host that goes around us, and is not seen", []*tape{once("a.wide.example"), once("a.wide.example"), once("a.wide.example").passing("away.wide.example:443")},
			Unproven, []WildcardHost{{"a.wide.example", 3}}},
		{"all that goes around us, in a trial that saw nothing", []*tape{once("a.wide.example"), once("a.wide.example"), once("a.wide.example"), once().passing("example")},
			Unproven, []WildcardHost{{"a.wide.example", 3}}},
		{"what goes around us is elsewhere", []*tape{once("a.wide.example"), once("a.wide.example"), once("a.wide.example").passing("other.example,away.wide.example:80,10.0.0.0/8")},
			Stable, []WildcardHost{{"a.wide.example", 3}}},
		{"a trial that was killed and went on", []*tape{once("a.wide.example"), once("a.wide.example"), started().conn("a.wide.example", ok).again(5000).stop(at(6000))},
			Unproven, []WildcardHost{{"a.wide.example", 3}}},
		{"a trial that paused", []*tape{once("a.wide.example"), once("a.wide.example"), started().conn("a.wide.example", ok).stop().again(5000).stop(at(6000))},
			Unproven, []WildcardHost{{"a.wide.example", 3}}},
		{"none", []*tape{once("quay.io")}, Unexercised, []WildcardHost{}},
	} {
		for i, tape := range row.tapes {
			tape.calls(fmt.Sprint("ledger ", i))
		}
		n := Narrow(trials(o, row.tapes...))
		require.Equal(t, NarrowWarning, n.Warning)
		require.Len(t, n.Wildcards, 1, "a host without a wildcard is none")
		w := n.Wildcards[0]
		require.Equal(t, row.stability, w.Stability, "%s: %s", row.why, w.Why)
		require.Equal(t, row.hosts, w.Hosts, row.why)
		require.Equal(t, row.stability != Stable, w.Keep, row.why)
		require.NotEmpty(t, w.Why)
	}
}

// passing makes NO_PROXY lead around us.
func (t *tape) passing(list string) *tape {
	t.records[0].NoProxy = []string{list}
	return t
}

// calls names the ledger of the tape.
func (t *tape) calls(name string) {
	for _, r := range t.records {
		if r.Session != nil {
			r.Ledger = name
		}
	}
}

// Copies of one ledger are one trial, however often they are named.
func TestNarrowTakesNoCopies(t *testing.T) {
	o := Options{Catalogs: []*policy.Catalog{cat("page", "a ext *.wide.example")}}
	once := started().conn("a.wide.example", ok).stop()
	w := Narrow(trials(o, once, once, once)).Wildcards[0]
	require.Equal(t, Unproven, w.Stability)
	require.Contains(t, w.Why, "one ledger")
}

func TestNarrowKeepsAWildcardThatWentAroundUs(t *testing.T) {
	o := Options{Catalogs: []*policy.Catalog{cat("page", "a ext *.wide.example")}}
	for why, round := range map[string]*tape{
		"nobody came within the window":     started().query("a.wide.example", answers("192.0.2.1")).stop(late),
		"the trial ended within the window": started().query("a.wide.example", answers("192.0.2.1")).stop(),
	} {
		w := Narrow(trials(o, round, round, round)).Wildcards[0]
		require.Equal(t, Unproven, w.Stability, why)
		require.Contains(t, w.Why, "around us", why)
	}
}

func TestNarrowKeepsAWildcardThatWasFolded(t *testing.T) {
	tape := started()
	for i := range maxHosts + 1 {
		tape.conn(fmt.Sprintf("%c%c%c.wide.example", 'a'+i/676, 'a'+i/26%26, 'a'+i%26), ok)
	}
	r := tape.stop().report(Options{Catalogs: []*policy.Catalog{cat("page", "a ext *.wide.example")}})
	w := Narrow([]*Report{r, r, r}).Wildcards[0]
	require.Equal(t, Rotating, w.Stability)
	require.Len(t, w.Hosts, maxHosts, "the row of the rest is no host")
}

func TestNarrowJoinsTheCatalogs(t *testing.T) {
	o := Options{Catalogs: []*policy.Catalog{cat("one", "a ext *.wide.example"), cat("two", "b ext *.wide.example")}}
	w := Narrow(trials(o, started().conn("a.wide.example", ok).stop())).Wildcards
	require.Len(t, w, 1)
	require.Equal(t, []string{"one", "two"}, w[0].Catalogs)
	require.Equal(t, []WildcardHost{{"a.wide.example", 1}}, w[0].Hosts)
}

// seenFrom is a tape of another vantage.
func seenFrom(vantage string) *tape {
	t := &tape{vantage: vantage}
	t.add(&policy.Record{Kind: policy.KindStart, Session: &policy.Session{Canary: canaryName, Listeners: []string{"connect 127.0.0.1:3128"}}})
	return t.sing()
}

func TestAcross(t *testing.T) {
	o := Options{Catalogs: []*policy.Catalog{cat("page", "a ext one.example", "b ext two.example", "c ext three.example", "d ext four.example", "e other five.example", "f ext six.example", "g ext seven.example")}, Scopes: []string{"ext"}}
	m := Across(trials(o,
		seenFrom("pod").conn("one.example", ok).conn("two.example", dropped).conn("five.example", ok).conn("six.example", left).query("seven.example", answers("192.0.2.1")).stop(late),
		seenFrom("node").conn("two.example", ok).conn("three.example", dropped).conn("six.example", ok).conn("seven.example", ok).stop()))
	require.Equal(t, []string{"pod", "node"}, m.Vantages)
	got := map[string]map[string]Status{}
	for _, row := range m.Rows {
		got[row.Host] = row.Statuses
	}
	require.Equal(t, map[string]map[string]Status{
		"one.example": {"pod": Used, "node": Unused}, "two.example": {"pod": Blocked, "node": Used}, "three.example": {"pod": Unused, "node": Blocked},
		"four.example": {"pod": Unused, "node": Unused},
		"six.example":  {"pod": Reached, "node": Used}, "seven.example": {"pod": Resolved, "node": Used},
		"five.example": {"pod": Used, "node": Unused}, // out of scope: left out of the report from the node
	}, got)
	require.Equal(t, []Lack{
		{"pod", []string{"two.example:443"}, []string{"six.example:443", "seven.example:443"}, []string{"three.example:443"}},
		{"node", []string{}, []string{}, []string{"one.example:443", "five.example:443"}},
	}, m.Lacks)
}

// However much a vantage lacks, all of it is told.
func TestAcrossTellsAllLacks(t *testing.T) {
	var lines []string
	pod, node := seenFrom("pod"), seenFrom("node")
	for i := range 3 * maxWords {
		host := fmt.Sprintf("h%d.example", i)
		lines = append(lines, "r"+host+" ext "+host)
		pod.conn(host, dropped)
		node.conn(host, ok)
	}
	m := Across(trials(Options{Catalogs: []*policy.Catalog{cat("page", lines...)}}, pod.stop(), node.stop()))
	require.Len(t, m.Lacks[0].Broken, 3*maxWords)
}

// The sections of several ledgers are part of the report's text and JSON, fit,
// and are escaped; the narrowing never stands without its warning.
func TestSectionsOfSeveralLedgers(t *testing.T) {
	long := strings.Repeat("l", 63)
	o := Options{Catalogs: []*policy.Catalog{cat("page", "a ext *.wide.example", "b ext *."+long+".example,unseen.example,*.unseen.example", "c ext half.example")}}
	all := trials(o, seenFrom("pod\x1b[31m\u202e").conn("a.wide.example", ok).conn(long+"."+long+".example", ok).conn("half.example", dropped).stop(),
		seenFrom("node").conn("a.wide.example", dropped).conn("half.example", ok).stop())
	r := all[0]
	var b bytes.Buffer
	require.NoError(t, r.WriteText(&b, TextOptions{}))
	require.NotContains(t, b.String(), "NARROWING")
	require.NotContains(t, b.String(), "BY VANTAGE")

	r.Narrowing, r.Matrix = Narrow(all), Across(all)
	for _, width := range []int{40, 80, 100, 200} {
		b.Reset()
		require.NoError(t, r.WriteText(&b, TextOptions{Width: width}))
		for _, l := range strings.Split(b.String(), "\n") {
			require.LessOrEqual(t, utf8.RuneCountInString(l), width, l)
			require.Equal(t, Escape(l), l)
		}
		require.Contains(t, strings.Join(strings.Fields(b.String()), " "), NarrowWarning)
	}
	require.Contains(t, b.String(), "keep the wildcard")
	require.Contains(t, b.String(), "no host was seen for *.unseen.example:443")
	require.Contains(t, b.String(), "pod\\x1b[31m\\u202e does not get through where another vantage does: half.example:443")
	b.Reset()
	require.NoError(t, r.WriteJSON(&b))
	require.NotContains(t, b.String(), "null")
	var back struct {
		Matrix    Matrix
		Narrowing Narrowing
	}
	require.NoError(t, json.Unmarshal(b.Bytes(), &back))
	require.Equal(t, NarrowWarning, back.Narrowing.Warning)
	require.Equal(t, *r.Matrix, back.Matrix)
}

// Whoever asks for a page or a ticket gets what stands in the text.
func TestTogetherInEveryDocument(t *testing.T) {
	o := Options{Catalogs: []*policy.Catalog{cat("c", "wide all *.wide.example", "two all two.example")}}
	pod := started().conn("a.wide.example", ok).conn("two.example", dropped).stop()
	node := started().conn("a.wide.example", ok).conn("two.example", ok).stop()
	all := trials(o, pod, node)
	all[1].Trial.Vantage = "<node>|"
	r := all[0]
	r.Matrix, r.Narrowing = Across(all), Narrow(all)
	for _, format := range []string{"text", "markdown", "html"} {
		var b bytes.Buffer
		require.NoError(t, r.Write(&b, format, TextOptions{Width: 200}))
		out := strings.Join(strings.Fields(b.String()), " ")
		for _, want := range []string{
			NarrowWarning, "unproven, so keep the wildcard", "a.wide.example", "pod does not get through where another vantage does: ",
		} {
			require.Contains(t, out, want, format)
		}
		require.Equal(t, format == "text", strings.Contains(out, "<node>"), format)
	}
	var page, ticket bytes.Buffer
	require.NoError(t, r.WriteHTML(&page))
	requirePage(t, page.Bytes())
	require.NoError(t, r.WriteMarkdown(&ticket))
	var out bytes.Buffer
	require.NoError(t, goldmark.New(goldmark.WithExtensions(extension.GFM)).Convert(ticket.Bytes(), &out))
	requireTables(t, out.Bytes())
	require.Regexp(t, `(?m)^\| .two\.example:443. \| blocked \| used \|$`, ticket.String())
}
