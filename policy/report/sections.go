package report

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// indent is the column in which what belongs to an endpoint is written.
const indent = 11

// trouble lists endpoints that do not work, each with its cause and ask.
func (p *page) trouble(title string, c color, meaning string, rows []*row) {
	if len(rows) == 0 {
		return
	}
	p.heading(title, number(rows), meaning, c)
	for _, r := range rows {
		p.subject(r)
		if r.half != "" {
			p.hang("    note", indent, r.half) // escaped when made
		}
		if r.Cause != nil {
			p.cause(r.Cause)
		}
		p.events(r.Events)
		if r.Status == Partial || len(r.Hosts) > 1 || len(r.Hosts) == 1 && r.Hosts[0].Host != r.Host {
			p.hosts(r.Hosts)
		} else if len(r.Hosts) == 1 && len(r.Hosts[0].Workloads) > 0 {
			p.hang("    from", indent, escapedList(r.Hosts[0].Workloads, 3))
		}
		if r.Cause != nil {
			p.hang("    ask", indent, r.Cause.Ask) // escaped when made
		}
	}
}

// number says how many endpoints the rows stand for.
func number(rows []*row) string {
	counts, others := 0, 0
	for _, r := range rows {
		counts, others = counts+r.counts, others+r.others
	}
	if others == 0 {
		return fmt.Sprint(counts)
	}
	return fmt.Sprintf("%d, and %d not counted", counts, others)
}

// subject is the first line of an endpoint.
func (p *page) subject(r *row) {
	what := escapedList(r.catalogs, 4)
	if m := r.remark(); m != "" {
		what += " [" + m + "]"
	}
	p.hang("  "+r.at(), p.column(), what)
	if r.Purpose != "" {
		p.hang("    for", indent, Escape(r.Purpose))
	}
}

// column is where the second column begins.
func (p *page) column() int { return p.width * 46 / 100 }

func (p *page) cause(c *Cause) { p.hang("    cause", indent, c.line()) }

// line is the cause without the ask: what, where, by whom, how sure, which facts.
func (c *Cause) line() string {
	text := fmt.Sprintf("%s at %s", orUnknown(Escape(string(c.Error))), orUnknown(Escape(string(c.Stage))))
	if c.By != "" {
		text += ", by " + Escape(string(c.By))
	}
	if c.Confidence != "" {
		text += ", " + Escape(string(c.Confidence))
	}
	var facts []string
	for _, k := range slices.Sorted(maps.Keys(c.Detail)) {
		facts = append(facts, clip(k)+"="+clip(fact(c.Detail, k)))
	}
	if len(facts) > 0 {
		text += " (" + listing(facts, 8) + ")"
	}
	return text
}

// hosts lists hosts of an endpoint, those that do not work first.
func (p *page) hosts(hosts []Host) {
	for i, h := range troubledFirst(hosts) {
		if i == textHosts {
			p.hang("    hosts", indent, fmt.Sprintf("... and %d more", len(hosts)-i))
			return
		}
		p.hang("    host", indent, Escape(h.Host)+": "+tried(h.Attempts, h.OK)+from(h.Workloads))
	}
}

// troubledFirst are hosts, those that do not work first.
func troubledFirst(hosts []Host) []Host {
	return slices.SortedStableFunc(slices.Values(hosts), func(a, b Host) int { return bit(a.State == Used) - bit(b.State == Used) })
}

// tried is "12 of 13 attempts ok".
func tried(attempts, ok int) string {
	switch {
	case attempts == 0:
		return "looked up only"
	case attempts == 1 && ok == 1:
		return "1 attempt, ok"
	case ok == 0:
		return counted(attempts, "attempt") + ", none ok"
	case ok == attempts:
		return counted(attempts, "attempt") + ", all ok"
	}
	return fmt.Sprintf("%s, %d ok", counted(attempts, "attempt"), ok)
}

func from(workloads []string) string {
	if len(workloads) == 0 {
		return ""
	}
	return ", from " + escapedList(workloads, 3)
}

// doubtful lists endpoints that were seen in a way that proves nothing.
func (p *page) doubtful(title, meaning string, rows []*row) {
	if len(rows) == 0 {
		return
	}
	p.heading(title, number(rows), meaning, yellow)
	for _, r := range rows {
		p.subject(r)
		p.hosts(r.Hosts)
	}
}

func (p *page) unlisted(list []Unlisted) {
	if len(list) == 0 {
		return
	}
	p.heading("IN NO LIST", fmt.Sprint(len(list)), "tried, and no catalog lists them", red)
	for i, u := range list {
		if i == textUnlisted {
			p.hang("  ...", 6, fmt.Sprintf("and %d more (--format json has all)", len(list)-i))
			return
		}
		p.hang("  "+Escape(target(u.Host, u.Port)), p.column(), u.Outcome+", "+tried(u.Attempts, u.OK)+from(u.Workloads))
		if u.Near != "" {
			p.hang("    near", indent, Escape(u.Near))
		}
		if u.Cause != nil {
			p.cause(u.Cause)
			p.hang("    ask", indent, u.Cause.Ask)
		}
	}
}

func (p *page) used(rows []*row) {
	if len(rows) == 0 {
		return
	}
	p.heading("USED", number(rows), meaning[Used], green)
	for _, r := range rows {
		attempts, ok, bytes := r.totals()
		var names []string
		for _, h := range r.Hosts {
			if h.Host != r.Host {
				names = append(names, h.Host)
			}
		}
		text := tried(attempts, ok) + ", " + size(bytes)
		if len(names) > 0 {
			text += ": " + escapedList(names, 3)
		}
		if m := r.remark(); m != "" {
			text += " [" + m + "]"
		}
		p.hang("  "+r.at(), p.column(), text)
	}
}

// names lists endpoints of which there is nothing to tell, by catalog and scope.
func (p *page) names(title, meaning string, rows []*row) {
	if len(rows) == 0 {
		return
	}
	p.heading(title, number(rows), meaning)
	groups, order := map[string][]string{}, []string(nil)
	for _, r := range rows {
		g := escapedList(r.catalogs, 4)
		if m := r.remark(); m != "" {
			g += " [" + m + "]"
		}
		if groups[g] == nil {
			order = append(order, g)
		}
		groups[g] = append(groups[g], r.at())
	}
	for _, g := range order {
		p.hang("  "+g, 4, strings.Join(groups[g], ", "))
	}
}

func (p *page) findings(list []Finding) {
	if len(list) == 0 {
		return
	}
	p.heading("FINDINGS", fmt.Sprint(len(list)), "")
	for _, f := range list {
		text := Escape(f.Text)
		if len(f.Evidence) > 0 {
			seqs := make([]string, len(f.Evidence))
			for i, s := range f.Evidence {
				seqs[i] = fmt.Sprint(s)
			}
			text += " [records " + strings.Join(seqs, ", ") + "]"
		}
		p.hang("  "+string(f.Kind), 23, text)
	}
}

func (p *page) list(title string, list []string) {
	if len(list) == 0 {
		return
	}
	p.heading(title, "", "what this trial could not see")
	for _, s := range list {
		p.hang("  -", 4, Escape(s))
	}
}
