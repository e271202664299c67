package report

import (
	"fmt"
	"io"
	"strings"
)

// WriteMarkdown writes the diff for a ticket: the sides, the summary, and one
// table (GitHub's dialect) with a row for each endpoint. Texts of others cannot
// make markup, links or mentions. Nothing is written before all is laid out.
func (d *Diff) WriteMarkdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "**%s**\n\n", safely(d.Summary))
	fmt.Fprintf(&b, "- old: %s\n- new: %s\n", safely(d.Old.sentence(d.Of == Coverage)), safely(d.New.sentence(false)))
	for _, s := range d.Trials {
		fmt.Fprintf(&b, "- trial: %s\n", safely(s.sentence(false)))
	}
	for _, text := range d.Doubts {
		fmt.Fprintf(&b, "- doubt: %s\n", safely(text))
	}
	if len(d.Changes) > 0 {
		b.WriteString("\n| | endpoint | change | what |\n|---|---|---|---|\n")
	}
	for _, g := range diffGroups {
		for _, c := range d.of(g.kind) {
			c.rows(&b, g)
		}
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write diff: %w", err)
	}
	return nil
}

// rows writes the rows of a change; its remark stands in the last.
func (c Change) rows(b *strings.Builder, g diffGroup) {
	lines := c.lines(g.sign)
	for i, l := range lines {
		sign, host, _ := strings.Cut(l, " ")
		if sign != "" {
			sign = cell(sign)
		}
		remark := ""
		if i == len(lines)-1 {
			remark = safely(c.remark())
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s |\n", sign, cell(host), strings.ToLower(g.title), remark)
	}
}

// safely is a text that is not escaped yet.
func safely(s string) string { return text(Escape(s)) }
