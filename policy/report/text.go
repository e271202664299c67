package report

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/egressaudit/egressaudit/policy"
)

// TextOptions say how the text is laid out. The zero value is 100 columns
// without colour.
type TextOptions struct {
	Color bool // ANSI colours for verdict and headings; they never say what words do not
	Width int  // columns, at least 40; 0: 100
}

// Bounds of the lists in the text; the JSON has all.
const (
	textHosts    = 8
	textUnlisted = 60
	textDoubts   = 4
)

// Sentence is the verdict in one line, with how many of the required endpoints
// were exercised and the vantage.
func (r *Report) Sentence() string {
	n := fmt.Sprintf("%d of %d required endpoints", r.Exercised, r.Required)
	from := "as seen from " + Escape(cmp.Or(r.Trial.Vantage, "an unknown vantage"))
	switch r.Verdict {
	case Clear:
		if r.Trial.Ended.IsZero() { // it runs on, or was killed
			return fmt.Sprintf("CLEAR SO FAR, and the trial has no end: no gap among the %s exercised, %s", n, from)
		}
		return fmt.Sprintf("CLEAR: no gap among the %s exercised, %s", n, from)
	case Gaps:
		var what []string
		s := r.Summary
		for _, c := range []struct {
			n    int
			word string
		}{{s.Blocked, "blocked"}, {s.Partial, "partial"}, {s.Unlisted, "in no list"}} {
			if c.n > 0 {
				what = append(what, fmt.Sprintf("%d %s", c.n, c.word))
			}
		}
		return fmt.Sprintf("GAPS: %s; %s exercised, %s", strings.Join(what, ", "), n, from)
	}
	return fmt.Sprintf("CANNOT TELL: no gap was seen, but that proves nothing here; %s exercised, %s", n, from)
}

// WriteText writes the report for people: the verdict and what to do next, then
// what does not work, then the rest. Every text that a client or network chose
// is escaped. Nothing is written before all is laid out.
func (r *Report) WriteText(w io.Writer, o TextOptions) error {
	p := newPage(o)
	r.head(p)
	rows := r.rows()
	p.trouble("BLOCKED", red, meaning[Blocked], rows[Blocked])
	p.trouble("PARTIAL", yellow, meaning[Partial], rows[Partial])
	p.doubtful("REACHED", meaning[Reached], rows[Reached])
	p.doubtful("RESOLVED", meaning[Resolved], rows[Resolved])
	p.unlisted(r.Unlisted)
	p.used(rows[Used])
	p.names("BYPASSED", meaning[Bypassed], rows[Bypassed])
	p.names("UNUSED", meaning[Unused], rows[Unused])
	p.matrix(r.Matrix)
	p.narrowing(r.Narrowing)
	p.findings(r.Findings)
	p.settings(r.Settings)
	p.list("BLIND SPOTS", r.BlindSpots[min(len(r.Doubts), textDoubts):]) // the others stand at the top
	r.provenance(p)
	if _, err := io.WriteString(w, p.String()); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// head is the verdict, why it is not better, and what to do next.
func (r *Report) head(p *page) {
	p.paint(map[Verdict]color{Clear: green, Gaps: red, CannotTell: yellow}[r.Verdict], r.Sentence())
	if n := r.childNote(); n != "" {
		p.hang("", 0, n)
	}
	for i, d := range r.Doubts {
		if i == textDoubts {
			p.hang("", 0, fmt.Sprintf("... and %d more doubts: see BLIND SPOTS.", len(r.Doubts)-i))
			break
		}
		p.hang("Doubt:", 7, d+".")
	}
	for _, n := range r.next() {
		p.hang("Next:", 7, n)
	}
}

// childNote tells of a command that failed; "" where none did.
func (r *Report) childNote() string {
	if r.ChildStatus == nil || *r.ChildStatus == 0 {
		return ""
	}
	note := fmt.Sprintf("The command itself ended with status %d.", *r.ChildStatus)
	if r.Verdict == Clear {
		note += " If egress was the reason, this trial did not see it."
	}
	return note
}

// next is what to do about the verdict, most urgent first.
func (r *Report) next() []string {
	var out []string
	asks, spare, worked := r.asks()
	if asks > 0 {
		but := ""
		if spare > 0 {
			but = fmt.Sprintf(" (%d more %s not count)", spare, plural(uint64(spare), "does", "do"))
		}
		out = append(out, fmt.Sprintf("send the %s marked \"ask\"%s to %s, then run the install again.",
			plural(uint64(asks), "sentence", fmt.Sprintf("%d sentences", asks)), but,
			plural(uint64(asks), "whoever runs the device it names", "those who run the devices they name")))
	}
	if worked > 0 {
		out = append(out, fmt.Sprintf("decide on the %d under IN NO LIST: allow and add to a catalog, or find out who calls there.", worked))
	}
	if slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Kind == Bypass }) {
		out = append(out, "find out why somebody goes around egressaudit (bypass under FINDINGS): what happened to them is unknown.")
	}
	if len(r.Doubts) > 0 && asks == 0 {
		out = append(out, "remove the doubts above and run the install again; until then nothing is cleared.")
	}
	if r.Verdict == Clear && r.Summary.Unused+r.Summary.Bypassed > 0 {
		out = append(out, fmt.Sprintf("run what needs the %d required endpoints that were not exercised, to judge them too.", r.Required-r.Exercised))
	}
	if len(out) == 0 {
		out = append(out, "nothing to do.")
	}
	return out
}

// asks counts different sentences to send, those that only stand with endpoints
// that do not count, and unlisted destinations without.
func (r *Report) asks() (asks, spare, worked int) {
	said := map[string]bool{} // whether it counts
	for _, e := range r.Endpoints {
		if e.Cause != nil {
			said[e.Cause.Ask] = said[e.Cause.Ask] || e.Required
		}
	}
	for _, u := range r.Unlisted {
		if u.Cause != nil {
			said[u.Cause.Ask] = true
		} else {
			worked++
		}
	}
	for _, counts := range said {
		asks, spare = asks+bit(counts), spare+bit(!counts)
	}
	return asks, spare, worked
}

// row is an endpoint of the text: the same host and port of several catalogs
// and requirements, with the same status, are one.
type row struct {
	Endpoint
	catalogs []string
	counts   int  // required endpoints
	others   int  // endpoints that do not count
	optional bool // all are
	half     string
	anchor   string
}

// rows groups the endpoints by status, those that count first.
func (r *Report) rows() map[Status][]*row {
	out, halves := map[Status][]*row{}, r.halves()
	for n, e := range r.Endpoints {
		list := out[e.Status]
		i := slices.IndexFunc(list, func(o *row) bool { return o.Host == e.Host && o.Port == e.Port })
		if i < 0 {
			i, list = len(list), append(list, &row{Endpoint: e, optional: true, anchor: anchor("e", n)})
		}
		at := list[i]
		at.catalogs = addWord(at.catalogs, e.Catalog+"/"+e.Scope)
		if e.Required && at.counts == 0 {
			at.Endpoint, at.anchor = e, anchor("e", n)
		}
		at.counts, at.others = at.counts+bit(e.Required), at.others+bit(!e.Required)
		at.optional = at.optional && e.Optional
		at.half = cmp.Or(at.half, halves[requirement{e.Catalog, e.Requirement}])
		out[e.Status] = list
	}
	for _, list := range out {
		slices.SortStableFunc(list, func(a, b *row) int { return bit(b.counts > 0) - bit(a.counts > 0) })
	}
	return out
}

// at is "host:port", escaped.
func (r *row) at() string { return Escape(policy.JoinPort(r.Host, r.Port)) }

// remark says why a row does not count; "" where it does.
func (r *row) remark() string {
	e := r.Endpoint
	e.Required, e.Optional = r.counts > 0, r.optional
	return e.remark()
}

func (r *Report) provenance(p *page) {
	p.heading("PROVENANCE", "", "")
	t := r.Trial
	p.hang("  trial", 13, joined(" ", Escape(cmp.Or(t.Name, "(no name)")), "from", Escape(cmp.Or(t.Vantage, "an unknown vantage"))+",", when(t)))
	for _, c := range t.Catalogs {
		p.hang("  catalog", 13, joined(" ", Escape(c.Name), Escape(c.Revision), shortDigest(c.Digest)))
	}
	p.some("  scopes", t.Scopes)
	p.some("  regions", t.Regions)
	for _, s := range r.Seen {
		p.hang("  <"+s.Name+">", 13, "was "+escapedList(s.Values, 12))
	}
	p.some("  phases", t.Phases)
	p.some("  ledger", append(slices.Clone(r.Files), without(t.Ledgers, r.Files)...))
}

func without(list, not []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(not, s) })
}

func when(t Trial) string {
	const form = "2006-01-02 15:04:05"
	switch {
	case t.Started.IsZero():
		return "at an unknown time"
	case t.Ended.IsZero():
		return t.Started.Format(form) + " UTC, no end recorded"
	}
	return during(t.Started, t.Ended)
}

func shortDigest(d string) string { return Escape(d[:min(len(d), len("sha256:")+12)]) }

func joined(sep string, parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), sep)
}

func escapedList(list []string, limit int) string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = Escape(s)
	}
	return listing(out, limit)
}
