package report

import (
	"fmt"
	"html"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
)

// sectioned is a page of all sections of r.
func sectioned(t *testing.T, r *Report) string {
	t.Helper()
	parts, err := r.Sections()
	require.NoError(t, err)
	require.Len(t, parts, len(SectionNames))
	var b strings.Builder
	fmt.Fprintf(&b, "<!doctype html>\n<html><head><meta http-equiv=\"Content-Security-Policy\" content=%q><style>%s</style></head><body>", html.EscapeString(pagePolicy), Style())
	for _, name := range SectionNames {
		b.WriteString(string(parts[name]))
	}
	return b.String() + "</body></html>"
}

// Sections hold nothing but our own elements whatever names are, and say what the
// page says.
func TestHostileSections(t *testing.T) {
	page := sectioned(t, hostileReport())
	requirePage(t, []byte(page))
	require.Contains(t, page, "&lt;script&gt;alert(1)&lt;/script&gt;")
	for line := range strings.Lines(page) {
		require.Equal(t, Escape(strings.TrimSuffix(line, "\n")), strings.TrimSuffix(line, "\n"))
	}
	r := every().report(Options{Catalogs: []*policy.Catalog{arc, aml}})
	var whole strings.Builder
	require.NoError(t, r.WriteHTML(&whole))
	parts, err := r.Sections()
	require.NoError(t, err)
	for name, part := range parts {
		require.NotEmpty(t, part, name)
		require.True(t, strings.Contains(whole.String(), string(part)), name) // or else both are printed
	}
}

// A trial that runs is not ticked off, and what is empty says nothing.
func TestSectionsOfARunningTrial(t *testing.T) {
	tp := &tape{vantage: "pod"}
	tp.add(&policy.Record{Kind: policy.KindStart, Session: &policy.Session{Canary: canaryName, Listeners: []string{"connect 10.0.0.5:3128"}, Ledger: "x"}})
	tp.sing().conn("quay.io", ok)
	parts, err := tp.report(Options{Catalogs: []*policy.Catalog{cat("one", "quay x quay.io")}}).Sections()
	require.NoError(t, err)
	require.Contains(t, parts["verdict"], "…</span> Clear so far</h1>")
	require.Contains(t, parts["verdict"], "since 20")
	require.Empty(t, parts["unlisted"])
	require.Empty(t, parts["findings"])
}

// A trial that has just begun is no bad one; one that lost records will not get better.
func TestSectionsOfATrialThatBegins(t *testing.T) {
	tp := &tape{vantage: "pod"}
	tp.add(&policy.Record{Kind: policy.KindStart, Session: &policy.Session{Canary: canaryName, Listeners: []string{"connect 10.0.0.5:3128"}, Ledger: "x"}})
	tp.sing()
	o := Options{Catalogs: []*policy.Catalog{cat("one", "quay x quay.io")}}
	parts, err := tp.report(o).Sections()
	require.NoError(t, err)
	require.Contains(t, parts["verdict"], "Cannot tell yet")
	require.Contains(t, parts["next"], "Let the install run")
	parts, err = tp.add(&policy.Record{Kind: policy.KindLost, Count: 3, Why: "queue full"}).report(o).Sections()
	require.NoError(t, err)
	require.NotContains(t, parts["verdict"], "Cannot tell yet")
	require.Contains(t, parts["next"], "run the install again")
}

// However much was tried, sections stay small: what failed stands first, and the
// rest is counted.
func TestSectionsAreBounded(t *testing.T) {
	tp := &tape{vantage: "pod"}
	for i := range 2000 {
		tp.conn(fmt.Sprintf("w%d.example.net", i), ok).conn(fmt.Sprintf("b%d.example.net", i%40), reset1).conn(fmt.Sprintf("h%d.quay.io", i%400), ok)
	}
	tp.conn("zz.example.org", reset1).conn("zz.quay.io", reset1)
	r := tp.report(Options{Catalogs: []*policy.Catalog{cat("one", "quay x *.quay.io")}})
	for range 3000 {
		r.Findings = append(r.Findings, Finding{Kind: Flapping, Text: "x"})
	}
	found, all := len(r.Findings), len(r.Unlisted)
	parts, err := r.Sections()
	require.NoError(t, err)
	require.Less(t, len(sectioned(t, r)), 150_000)
	require.Contains(t, parts["next"], fmt.Sprintf("and %d more", 42-liveWanted))
	require.Contains(t, parts["unlisted"], "zz.example.org")
	require.Contains(t, parts["unlisted"], fmt.Sprintf("and %d more", all-liveUnlisted))
	require.Contains(t, parts["findings"], fmt.Sprintf("and %d more", found-liveFindings))
	require.Contains(t, parts["endpoints"], "zz.quay.io")
	require.Contains(t, parts["endpoints"], fmt.Sprintf("<li class=\"fact\">and %d more</li>", len(r.Endpoints[0].Hosts)-liveHosts))
	require.Equal(t, 2041, all)
	require.Len(t, r.Unlisted, all, "the report itself is as it was")
}
