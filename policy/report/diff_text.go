package report

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// diffGroup is how one kind of change is shown.
type diffGroup struct {
	kind    ChangeKind
	sign    string // "": a line for each endpoint, with - and +
	title   string
	meaning string
	color   color
	one     string // of a catalog's summary: one such change, with %d; "": not told there
	many    string
}

// diffGroups are in the order in which they are shown.
var diffGroups = []diffGroup{
	{ChangeRemoved, "-", "REMOVED", "", red, "drops %d host", "drops %d hosts"},
	{ChangeAdded, "+", "ADDED", "", green, "adds %d host", "adds %d hosts"},
	{ChangePort, "", "OTHER PORT", "", yellow, "moves %d to another port", "moves %d to other ports"},
	{ChangeNarrowed, "", "NARROWED", "a wildcard replaced by hosts within it", yellow, "narrows %d wildcard", "narrows %d wildcards"},
	{ChangeWidened, "", "WIDENED", "hosts replaced by a wildcard over them", yellow, "widens to %d wildcard", "widens to %d wildcards"},
	{ChangeRenamed, "", "RENAMED PLACEHOLDER", "the same hosts", bold, "renames the placeholder of %d", "renames the placeholders of %d"},
	{ChangeScope, "!", "OTHER SCOPE", "", yellow, "moves %d to another scope", "moves %d to other scopes"},
	{ChangeTerms, "!", "OTHER TERMS", "protocol, needs, or when it holds", yellow, "changes the terms of %d", "changes the terms of %d"},
	{ChangeCosmetic, "~", "COSMETIC", "nothing else to allow", bold, "%d cosmetic change", "%d cosmetic changes"},

	{ChangeNew, "!", "NEW", "gaps that were none before", red, "", ""},
	{ChangeOther, "!", "CHANGED", "not the same trouble as before", yellow, "", ""},
	{ChangeNothing, "!", "STILL", "the same as before", yellow, "", ""},
	{ChangeLost, "-", "LOST", "seen before and not now: neither broken nor fixed", yellow, "", ""},
	{ChangeFixed, "+", "FIXED", "did not work before", green, "", ""},
	{ChangeGained, "+", "GAINED", "works, and was not seen before", green, "", ""},

	{ChangeFinding, "!", "FINDINGS", "in one of the trials alone", yellow, "", ""},

	{ChangeBlocked, "!", "BLOCKED", "required, tried, and did not work", red, "", ""},
	{ChangeUnclear, "?", "UNCLEAR", "required, and seen in a way that proves nothing", yellow, "", ""},
	{ChangeExtra, "+", "NOT REQUIRED", "observed, and in no list", red, "", ""},
	{ChangeMissing, "-", "NOT OBSERVED", "required; this does not mean not needed", bold, "", ""},
}

func kindOrder(k ChangeKind) int {
	return slices.IndexFunc(diffGroups, func(g diffGroup) bool { return g.kind == k })
}

// WriteText writes the diff for people, in the manner of diff(1): "---" and
// "+++" name the sides, "-" begins what the old side alone has, "+" what the new
// one alone has, "!" what is different or does not work. The default width is 80
// columns. Texts of others are escaped. Nothing is written before all is laid
// out.
func (d *Diff) WriteText(w io.Writer, o TextOptions) error {
	o.Width = cmp.Or(o.Width, 80)
	p := newPage(o)
	p.hang("---", 4, d.Old.sentence(d.Of == Coverage))
	p.hang("+++", 4, d.New.sentence(false))
	p.paint(map[bool]color{true: green, false: bold}[d.Same && len(d.Doubts) == 0], Escape(d.Summary))
	for _, s := range d.Trials {
		p.hang("with", 5, s.sentence(false))
	}
	for i, text := range d.Doubts {
		if i == textDoubts {
			p.hang("", 0, fmt.Sprintf("... and %d more doubts (--format json has all).", len(d.Doubts)-i))
			break
		}
		p.hang("Doubt:", 7, Escape(text)+".")
	}
	for _, g := range diffGroups {
		p.changes(g, d.of(g.kind))
	}
	if _, err := io.WriteString(w, p.String()); err != nil {
		return fmt.Errorf("write diff: %w", err)
	}
	return nil
}

// of are the changes of one kind.
func (d *Diff) of(k ChangeKind) []Change {
	return slices.DeleteFunc(slices.Clone(d.Changes), func(c Change) bool { return c.Kind != k })
}

// sentence names a side: the catalogs, or the trial.
func (s Side) sentence(catalogs bool) string {
	if !catalogs && s.Trial+s.Vantage != "" {
		at := ""
		if !s.Started.IsZero() {
			at = s.Started.UTC().Format(time.DateTime) + " UTC"
		}
		return joined("  ", Escape(s.File), joined(", ", around("trial ", Escape(s.Trial), ""), around("from ", Escape(s.Vantage), ""), at))
	}
	var names []string
	for _, c := range s.Catalogs {
		names = append(names, joined(" ", Escape(c.Name), Escape(c.Revision), shortDigest(c.Digest)))
	}
	file := s.File
	if len(s.Catalogs) == 1 && (file == s.Catalogs[0].Name || strings.HasPrefix(file, s.Catalogs[0].Name+"@")) {
		file = "" // an embedded one
	}
	return joined(": ", Escape(file), strings.Join(names, ", "))
}

// changes lists the changes of one group.
func (p *page) changes(g diffGroup, list []Change) {
	if len(list) == 0 {
		return
	}
	p.heading(g.title, fmt.Sprint(len(list)), g.meaning, g.color)
	for _, c := range list {
		lines, remark := c.lines(g.sign), c.remark()
		for i, l := range lines {
			if i < len(lines)-1 || remark == "" {
				p.long(l)
			} else {
				p.hang(l, p.column(), Escape(remark))
			}
		}
	}
}

// lines are what a change is about: a line with the group's sign, or where it
// has none, one for each endpoint. They are escaped.
func (c Change) lines(sign string) []string {
	var out []string
	line := func(sign string, list []Listed) {
		for _, l := range list {
			out = append(out, sign+" "+Escape(l.at()))
		}
	}
	switch {
	case sign == "":
		line("-", c.Old)
		line("+", c.New)
	case len(c.New) > 0:
		line(sign, c.New)
	default:
		line(sign, c.Old)
	}
	if len(out) == 0 {
		return []string{sign}
	}
	return out
}

// remark says what is to tell of a change beside its endpoints. It is not
// escaped.
func (c Change) remark() string {
	parts := []string{c.difference()}
	if c.Kind == ChangeRemoved || c.Kind == ChangeAdded || c.Kind == ChangeMissing {
		parts = append(parts, c.place())
	}
	parts = append(parts, c.Note)
	if c.Exercise != nil {
		parts = append(parts, c.Exercise.sentence(c.Old))
	}
	return joined("; ", parts...)
}

// place is where the endpoints of a change stand: "extension, quay".
func (c Change) place() string {
	l := append(slices.Clone(c.Old), c.New...)[0]
	return joined(", ", strings.Join(l.Scopes, " and "), strings.Join(l.Requirements, " and "))
}

// difference is what was said before and is said now.
func (c Change) difference() string {
	was, is := strings.Join(c.Was, ", "), strings.Join(c.Now, ", ")
	switch c.Kind {
	case ChangePort, ChangeMissing:
		return "" // the lines say it
	case ChangeNothing:
		return "still " + is
	case ChangeNew, ChangeOther, ChangeLost, ChangeFixed, ChangeGained:
		return "was " + was + ", now " + is
	case ChangeBlocked, ChangeUnclear, ChangeExtra:
		return is
	}
	switch {
	case was == "" && is == "":
		return ""
	case was == "":
		return "now also " + is
	case is == "":
		return "no longer " + was
	}
	return was + " -> " + is
}

// WriteJSON writes the diff, indented, with a final newline. Characters that a
// terminal could take for orders are written as \u escapes.
func (d *Diff) WriteJSON(w io.Writer) error { return writeJSON(w, "diff", d) }
