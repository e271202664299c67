package report

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/egressaudit/egressaudit/policy"
)

// Matrix is one row an endpoint and one column a vantage.
type Matrix struct {
	Vantages []string    `json:"vantages"` // in the order of the reports
	Rows     []MatrixRow `json:"rows"`     // in the order of the catalogs
	Lacks    []Lack      `json:"lacks"`    // one for each vantage
}

// MatrixRow is an endpoint as each vantage saw it.
type MatrixRow struct {
	Catalog     string            `json:"catalog"`
	Requirement string            `json:"requirement"`
	Host        string            `json:"host"`
	Port        uint16            `json:"port"`
	Required    bool              `json:"required"`
	Statuses    map[string]Status `json:"statuses"` // by vantage
}

// Lack is what one vantage has not and another has, as "host:port".
type Lack struct {
	Vantage string   `json:"vantage"`
	Broken  []string `json:"broken"`  // blocked or partial here, used elsewhere
	Unclear []string `json:"unclear"` // reached or resolved here, which proves nothing; used elsewhere
	Unseen  []string `json:"unseen"`  // unused here, and tried elsewhere
}

// across is the matrix of sides; nil where there are none.
func across(sides []*judgement) *Matrix {
	if len(sides) == 0 {
		return nil
	}
	var reports []*Report
	for _, s := range sides {
		reports = append(reports, s.r)
	}
	return Across(reports)
}

// Across puts reports beside each other: one for each vantage, which is told by
// Trial.Vantage, all over the same catalogs and scopes.
func Across(reports []*Report) *Matrix {
	m := &Matrix{Vantages: []string{}, Rows: []MatrixRow{}, Lacks: []Lack{}}
	at := map[policy.Match]int{}
	for _, r := range reports {
		v := orUnknown(r.Trial.Vantage)
		m.Vantages = append(m.Vantages, v)
		for _, e := range r.Endpoints {
			i, ok := at[e.match()]
			if !ok {
				i, at[e.match()] = len(m.Rows), len(m.Rows)
				m.Rows = append(m.Rows, MatrixRow{e.Catalog, e.Requirement, e.Host, e.Port, e.Required, map[string]Status{}})
			}
			m.Rows[i].Statuses[v] = e.Status
		}
	}
	for _, row := range m.Rows {
		for _, v := range m.Vantages { // left out there: of another scope, or not in force
			if row.Statuses[v] == "" {
				row.Statuses[v] = Unused
			}
		}
	}
	for _, v := range m.Vantages {
		m.Lacks = append(m.Lacks, m.lack(v))
	}
	return m
}

// lack is what v has not.
func (m *Matrix) lack(v string) Lack {
	l := Lack{Vantage: v, Broken: []string{}, Unclear: []string{}, Unseen: []string{}}
	for _, row := range m.Rows {
		at := policy.JoinPort(row.Host, row.Port)
		switch row.Statuses[v] {
		case Blocked, Partial:
			if row.anywhere(Used) {
				l.Broken = addOnce(l.Broken, at)
			}
		case Reached, Resolved:
			if row.anywhere(Used) {
				l.Unclear = addOnce(l.Unclear, at)
			}
		case Unused:
			if row.anywhere(Used, Partial, Blocked) {
				l.Unseen = addOnce(l.Unseen, at)
			}
		}
	}
	return l
}

// addOnce appends s unless it stands there; unlike addWord, it leaves nothing out.
func addOnce(list []string, s string) []string {
	if slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}

func (row MatrixRow) anywhere(statuses ...Status) bool {
	for _, s := range row.Statuses {
		if slices.Contains(statuses, s) {
			return true
		}
	}
	return false
}

// matrix is the section of the text: the endpoints that any vantage saw, in columns
// where they fit, and else by status.
func (p *page) matrix(m *Matrix) {
	if m == nil {
		return
	}
	p.heading("BY VANTAGE", "", "each endpoint that was seen from anywhere")
	width := len("resolved") + 2
	for _, v := range m.Vantages {
		width = max(width, utf8.RuneCountInString(clip(v))+2)
	}
	lines, fits := m.Lines(), width*len(m.Vantages) <= p.width-p.column()+2
	if fits {
		p.cells("", m.Vantages, width)
	}
	for _, l := range lines {
		if fits {
			p.cells(Escape(l.At), l.Statuses, width)
		} else {
			p.hang("  "+Escape(l.At), p.column(), m.places(l))
		}
	}
	for _, s := range m.Sentences() {
		p.hang("  -", 4, s)
	}
}

// places are the vantages of a row by their status, those with trouble first.
func (m *Matrix) places(l matrixLine) string {
	var out []string
	for _, s := range statuses {
		var at []string
		for i, v := range m.Vantages {
			if l.Statuses[i] == string(s) {
				at = append(at, clip(v))
			}
		}
		if len(at) > 0 {
			out = append(out, fmt.Sprintf("%s: %s", s, listing(at, 4)))
		}
	}
	return strings.Join(out, "; ")
}

// matrixLine is a row for people.
type matrixLine struct {
	At       string
	Statuses []string // one for each vantage
}

// Lines are the rows that any vantage saw, each once, though several catalogs
// have it.
func (m *Matrix) Lines() []matrixLine {
	var out []matrixLine
	said := map[string]bool{}
	for _, row := range m.Rows {
		l, unseen := matrixLine{At: policy.JoinPort(row.Host, row.Port)}, true
		for _, v := range m.Vantages {
			l.Statuses = append(l.Statuses, string(row.Statuses[v]))
			unseen = unseen && row.Statuses[v] == Unused
		}
		if key := l.At + strings.Join(l.Statuses, " "); !unseen && !said[key] {
			said[key] = true
			out = append(out, l)
		}
	}
	return out
}

// Sentences say what each vantage lacks, escaped; vantages that lack the same are in
// one sentence.
func (m *Matrix) Sentences() []string {
	var out []string
	for _, kind := range []struct {
		one, many string
		list      func(Lack) []string
	}{
		{"does not get through where another vantage does", "do not get through where another vantage does", func(l Lack) []string { return l.Broken }},
		{"has no proof of what another vantage got through to", "have no proof of what another vantage got through to", func(l Lack) []string { return l.Unclear }},
		{"did not try what another vantage did", "did not try what another vantage did", func(l Lack) []string { return l.Unseen }},
	} {
		var order []string
		who, what := map[string][]string{}, map[string][]string{}
		for _, l := range m.Lacks {
			list := kind.list(l)
			key := strings.Join(list, " ")
			if len(list) > 0 && who[key] == nil {
				order, what[key] = append(order, key), list
			}
			who[key] = append(who[key], clip(l.Vantage))
		}
		for _, key := range order {
			out = append(out, fmt.Sprintf("%s %s: %s", listing(who[key], 8), plural(uint64(len(who[key])), kind.one, kind.many), escapedList(what[key], textUnlisted)))
		}
	}
	return out
}

// cells writes a row of the matrix in columns of the given width.
func (p *page) cells(label string, words []string, width int) {
	var b strings.Builder
	for _, w := range words {
		fmt.Fprintf(&b, "%-*s", width, clip(w))
	}
	label = "  " + label
	if utf8.RuneCountInString(label) >= p.column() {
		p.long(label)
		label = ""
	}
	fmt.Fprintf(p, "%-*s%s\n", p.column(), label, strings.TrimRight(b.String(), " "))
}
