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
	fmt.Fprintf(&b, "**%s**\n\n", plainMarkdown(d.Summary))
	fmt.Fprintf(&b, "- old: %s\n- new: %s\n", plainMarkdown(d.Old.sentence(d.Of == Coverage)), plainMarkdown(d.New.sentence(false)))
	for _, s := range d.Trials {
		fmt.Fprintf(&b, "- trial: %s\n", plainMarkdown(s.sentence(false)))
	}
	for _, text := range d.Doubts {
		fmt.Fprintf(&b, "- doubt: %s\n", plainMarkdown(text))
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
		remark := ""
		if i == len(lines)-1 {
			remark = plainMarkdown(c.remark())
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s |\n", codeMarkdown(sign), codeMarkdown(host), strings.ToLower(g.title), remark)
	}
}

// codeMarkdown is an escaped text as code in a cell of a table; within code
// nothing is markup but a backtick, and in a table a bar.
func codeMarkdown(s string) string {
	if s == "" {
		return ""
	}
	return "`" + strings.NewReplacer("`", "'", "|", `\|`).Replace(s) + "`"
}

// plainMarkdown is a text in which nothing is markup, nor a link by itself
// ("https:", "www."), wherever it does not begin a line. ASCII punctuation may be
// escaped anywhere (CommonMark section 2.4).
func plainMarkdown(s string) string {
	var b strings.Builder
	for _, r := range Escape(s) {
		if strings.ContainsRune("\\`*_[]<>|~&$@:", r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return strings.ReplaceAll(b.String(), "www.", `www\.`)
}
