package report

import (
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// csvColumns are the columns of the change-request sheet.
var csvColumns = []string{
	"status", "source", "destination", "port", "protocol", "needs", "why", "page", "listed_by", "hosts_seen", "first_seen",
	"last_seen", "attempts", "failed", "stage", "error", "by", "confidence", "ask", "risk",
}

// WriteCSV writes the change-request sheet (RFC 4180): a header, then one row
// for each rule wanted: every endpoint that is blocked or partial, and every
// destination in no list whose failure has a cause. Where others in no list were
// tried, a row of the status gaps names them, and where nothing can be cleared, a
// last row of the status cannot-tell says why, so that a short sheet cannot pass
// for a good one. Times are RFC 3339 in UTC. No cell begins with a character that
// makes a spreadsheet compute; such cells begin with an apostrophe.
func (r *Report) WriteCSV(w io.Writer) error {
	r = r.visible()
	out := csv.NewWriter(w)
	out.UseCRLF = true
	out.Write(csvColumns) // the writer keeps its first error
	for _, rule := range r.wanted() {
		out.Write(tame(rule.cells()))
	}
	if others := r.undecided(); len(others) > 0 {
		out.Write(remark(Gaps, "in no list, and nothing to ask for: allow and add to a catalog, or find out who calls there: "+listing(others, textUnlisted)))
	}
	if len(r.Doubts) > 0 {
		out.Write(remark(CannotTell, "this sheet may lack rules: "+strings.Join(r.Doubts, "; ")))
	}
	out.Flush()
	if err := out.Error(); err != nil {
		return fmt.Errorf("write report as CSV: %w", err)
	}
	return nil
}

// undecided are the destinations in no list for which no rule is wanted.
func (r *Report) undecided() []string {
	var out []string
	for _, u := range r.Unlisted {
		if u.Cause == nil {
			out = append(out, target(u.Host, u.Port)+" ("+u.Outcome+")")
		}
	}
	return out
}

// remark is a row that asks for no rule.
func remark(v Verdict, why string) []string {
	row := make([]string, len(csvColumns))
	row[0], row[6] = string(v), why
	return tame(row)
}

// cells are the columns of w.
func (w *rule) cells() []string {
	port := ""
	if w.Port != 0 {
		port = strconv.Itoa(int(w.Port))
	}
	needs := make([]string, len(w.Needs))
	for i, n := range w.Needs {
		needs[i] = string(n)
	}
	return []string{
		string(w.Status), list(w.From), w.Host, port, string(w.Protocol), list(needs), w.Purpose, w.Page, list(w.Listed), list(w.Hosts),
		instant(w.First), instant(w.Last), strconv.Itoa(w.Attempts), strconv.Itoa(w.Failed), string(w.Stage), string(w.Error),
		string(w.By), string(w.Confidence), w.Ask, strings.Join(w.Risks, "; "),
	}
}

func list(words []string) string { return strings.Join(words, ", ") }

// instant is t for machines; "" where it is unknown.
func instant(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// tame puts an apostrophe before cells that a spreadsheet would take for a
// formula, also where full-width forms stand for its first character.
func tame(cells []string) []string {
	for i, c := range cells {
		if strings.IndexAny(c, "=+-@\t\r\n＝＋－＠") == 0 {
			cells[i] = "'" + c
		}
	}
	return cells
}
