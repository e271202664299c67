package report

import (
	"fmt"
	"html"
	"io"
	"strings"
)

// WriteMarkdown writes the report for a ticket, in GitHub Flavored Markdown: the
// verdict and what to do next, the rules to ask for as a table and in sentences,
// then the rest. Names stand in code spans and all other text is escaped, so that
// nothing a client or network said becomes a link, a mention or markup.
func (r *Report) WriteMarkdown(w io.Writer) error {
	m := &markdown{r: r.visible()}
	m.head()
	m.rules()
	m.endpoints()
	m.unlisted()
	m.matrix()
	m.narrowing()
	m.findings()
	m.settings()
	m.tail()
	if _, err := io.WriteString(w, m.String()); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// markdown is a page in the making.
type markdown struct {
	strings.Builder
	r *Report
}

// say writes a line of our own words; what args tell is ready to be printed.
func (m *markdown) say(format string, args ...any) { fmt.Fprintf(m, format+"\n", args...) }

func (m *markdown) head() {
	r := m.r
	word, rest, _ := strings.Cut(r.Sentence(), ": ")
	m.say("# Egress audit: %s\n", text(strings.ToLower(word)))
	m.say("**%s.**\n", text(sentence(rest)))
	m.say("Trial %s, seen from %s, %s.", code(r.Trial.Name), code(r.Trial.Vantage), text(when(r.Trial)))
	if n := r.childNote(); n != "" {
		m.say("\n%s", text(n))
	}
	m.say("\n## What to do next\n")
	for i, n := range r.steps() {
		m.say("%d. %s", i+1, text(strings.Replace(n, `marked "ask"`, "under Rules to ask for", 1)))
	}
	m.bullets("## Why nothing can be cleared", r.Doubts)
}

// bullets writes a list under a title, where there is one.
func (m *markdown) bullets(title string, list []string) {
	if len(list) == 0 {
		return
	}
	m.say("\n%s\n", title)
	for _, s := range list {
		m.say("- %s", text(s))
	}
}

// rules are what to ask for: a table to look at, then sentences to send.
func (m *markdown) rules() {
	wanted := m.r.wanted()
	if len(wanted) == 0 {
		return
	}
	m.say("\n## Rules to ask for\n")
	m.say("| status | destination | listed by | what happened | attempts |\n|---|---|---|---|---|")
	for _, w := range wanted {
		m.say("| %s %s | %s | %s | %s | %d, %d failed |", glyph[string(w.Status)], w.Status, cell(w.At()), text(orNone(list(w.Listed))), text(w.brief()), w.Attempts, w.Failed)
	}
	for _, w := range wanted {
		m.say("\n> %s", text(w.Ask))
	}
}

// brief is the cause in a few words.
func (c *Cause) brief() string {
	return joined("", orUnknown(string(c.Error)), " at ", orUnknown(string(c.Stage)), around(", by ", string(c.By), ""))
}

func orNone(s string) string {
	if s == "" {
		return "no list"
	}
	return s
}

// endpoints are those of each catalog, folded away where nothing is wrong.
func (m *markdown) endpoints() {
	m.say("\n## Endpoints\n")
	for _, g := range m.r.groups() {
		title := g.Page.Title
		if title == "" {
			title = g.Name
		}
		m.say("<details><summary>%s: %d requirements</summary>\n", htmlText(title), len(g.Requirements))
		m.say("| status | endpoint | scope | for | seen |\n|---|---|---|---|---|")
		for _, q := range g.Requirements {
			for _, e := range q.Endpoints {
				m.say("| %s %s | %s | %s | %s | %s |", glyph[string(e.Status)], e.Status, cell(target(e.Host, e.Port)), text(e.Scope), text(q.Purpose), m.hosts(e))
			}
		}
		m.say("\n</details>\n")
	}
}

// hosts are the hosts of an endpoint, in a cell.
func (m *markdown) hosts(e endpointView) string {
	var out []string
	for i, h := range e.Hosts {
		if i == textHosts {
			out = append(out, fmt.Sprintf("and %d more", len(e.Hosts)-i))
			break
		}
		out = append(out, cell(h.Host)+" "+text(tried(h.Attempts, h.OK)+around(", ", string(h.Error), "")+around(", from ", listing(h.Workloads, 3), "")))
	}
	shown, more := firstEvents(e.Events)
	for _, v := range shown {
		out = append(out, "event of "+text(v.Line()))
	}
	if more > 0 {
		out = append(out, fmt.Sprintf("and %d more events", more))
	}
	if remark := e.remark(); remark != "" {
		out = append(out, text(remark))
	}
	return strings.Join(out, "<br>")
}

func (m *markdown) unlisted() {
	if len(m.r.Unlisted) == 0 {
		return
	}
	m.say("## In no list\n\nTried, and no catalog lists them.\n")
	m.say("| outcome | destination | attempts | near |\n|---|---|---|---|")
	for i, u := range m.r.Unlisted {
		if i == textUnlisted {
			m.say("| | and %d more | | |", len(m.r.Unlisted)-i)
			break
		}
		m.say("| %s | %s | %s | %s |", u.Outcome, cell(target(u.Host, u.Port)), text(tried(u.Attempts, u.OK)), text(u.Near))
	}
}

// matrix is the endpoints by vantage.
func (m *markdown) matrix() {
	x := m.r.Matrix
	if x == nil {
		return
	}
	m.say("\n## By vantage\n\n| endpoint | %s |\n|---|%s", m.cells(x.Vantages), strings.Repeat("---|", len(x.Vantages)))
	for _, l := range x.Lines() {
		m.say("| %s | %s |", cell(l.At), m.cells(l.Statuses))
	}
	m.say("")
	for _, s := range x.Sentences() {
		m.say("- %s", text(s))
	}
}

func (m *markdown) cells(words []string) string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = text(w)
	}
	return strings.Join(out, " | ")
}

// narrowing is what wildcards stood for.
func (m *markdown) narrowing() {
	n := m.r.Narrowing
	if n == nil {
		return
	}
	m.say("\n## What wildcards stood for\n\n**Warning: %s.**\n", text(n.Warning))
	m.say("| wildcard | verdict | why | hosts |\n|---|---|---|---|")
	for _, w := range n.Wildcards {
		m.say("| %s | %s | %s | %s |", cell(target(w.Host, w.Port)), w.Verdict(), text(w.Why), strings.ReplaceAll(m.cells(w.Seen()), " | ", "<br>"))
	}
}

func (m *markdown) findings() {
	if len(m.r.Findings) == 0 {
		return
	}
	m.say("\n## Findings\n")
	for _, f := range m.r.Findings {
		m.say("- **%s**: %s", text(string(f.Kind)), text(f.Text))
	}
}

func (m *markdown) settings() {
	s := m.r.Settings
	if s.Empty() {
		return
	}
	m.say("\n## Settings seen\n\nWho came, and by which listener.\n")
	for _, w := range s.Few() {
		m.say("- **%s**: %s", text(joined(", ", w.Listener, w.Vantage)), text(w.Line()))
	}
	if s.More() > 0 {
		m.say("- and %d more", s.More())
	}
	for _, n := range s.Notes {
		m.say("- %s", text(n))
	}
}

func (m *markdown) tail() {
	r := m.r
	m.bullets("## Blind spots", r.BlindSpots[len(r.Doubts):])
	m.say("\n## Provenance\n\n| | |\n|---|---|")
	for _, c := range r.Trial.Catalogs {
		m.say("| catalog | %s %s %s |", cell(c.Name), text(around("revision ", c.Revision, "")), cell(c.Digest))
	}
	for _, s := range r.Seen {
		m.say("| %s | was %s |", cell("<"+s.Name+">"), text(listing(s.Values, 12)))
	}
	for _, p := range r.phaseList() {
		m.say("| phase | %s |", text(p))
	}
	for _, l := range append(r.Files, without(r.Trial.Ledgers, r.Files)...) {
		m.say("| ledger | %s |", cell(l))
	}
	m.say("| egressaudit | recorded by %s, judged by %s |", text(orUnknown(list(r.Trial.Versions))), text(orUnknown(r.Version)))
}

// code is s as a code span; an unknown one is a dash.
func code(s string) string {
	if s == "" {
		return "–"
	}
	fence := "`"
	for strings.Contains(s, fence) {
		fence += "`"
	}
	if len(fence) > 1 || strings.HasPrefix(s, " ") || strings.HasSuffix(s, " ") {
		s = " " + s + " "
	}
	return fence + s + fence
}

// cell is a name inside a table, where a bar in a code span would end the cell.
func cell(s string) string {
	if strings.Contains(s, "|") {
		return text(s)
	}
	return code(s)
}

// text is s as text: its punctuation means nothing.
func text(s string) string {
	return parted(s, func(c byte) string {
		if strings.IndexByte("\\`*_{}[]<>#|~!$&", c) >= 0 {
			return "\\" + string([]byte{c})
		}
		return string([]byte{c})
	})
}

// htmlText is text where HTML stands and Markdown is not read.
func htmlText(s string) string {
	return parted(s, func(c byte) string {
		if strings.IndexByte(`<>&"'`, c) >= 0 {
			return html.EscapeString(string([]byte{c}))
		}
		return string([]byte{c})
	})
}

// parted writes s byte by byte. An empty comment, which nobody sees, parts what a
// tracker would make a mention, a reference or a link.
func parted(s string, write func(byte) string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		b.WriteString(write(s[i]))
		if rest := s[i+1:]; s[i] == '@' || s[i] == '#' || s[i] == ':' && strings.HasPrefix(rest, "//") ||
			strings.HasPrefix(rest, ".") && i >= 2 && strings.EqualFold(s[i-2:i+1], "www") {
			b.WriteString("<!-- -->")
		}
	}
	return b.String()
}
