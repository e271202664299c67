package live

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/policy/report"
)

// Bounds of the stream of connections.
const (
	keptRows  = 128 // for browsers that come or come back
	batchRows = 50  // told at once
)

// row is a line of the stream: what a client did, or what befell the recording.
type row struct {
	seq     uint64
	time    time.Time
	kind    policy.Kind
	subject string // what was asked for; of other records, what happened
	fate    string // the outcome
	open    bool
	why     string // how far it got, and what stopped it
	from    string // the workload, or the client's address
}

// rowOf is the row of a record, if it has one: probes and canaries are not what
// clients did, and look-ups that worked say little.
func rowOf(r *policy.Record) (row, bool) {
	out := row{seq: r.Seq, time: r.Time.UTC(), kind: r.Kind}
	switch o := r.Observation; r.Kind {
	case policy.KindStart:
		out.subject = "the recording begins"
	case policy.KindStop:
		out.subject = "the recording ends"
	case policy.KindMark:
		out.subject = "phase: " + report.Cut(r.Text)
	case policy.KindLost:
		out.subject = fmt.Sprintf("%d records could not be written: %s", max(r.Count, 1), report.Cut(r.Why))
	case policy.KindEvent:
		out.subject = report.Cut(r.Reason + ": " + r.Text)
		if o != nil {
			out.from = report.Cut(o.Workload)
		}
	case policy.KindConnection, policy.KindRequest, policy.KindQuery:
		if o == nil || o.Origin != "" && o.Origin != policy.OriginClient || r.Kind == policy.KindQuery && o.Outcome == policy.OK {
			return row{}, false
		}
		out.subject, out.fate, out.open = subject(o), report.Cut(string(o.Outcome)), o.Open
		out.why, out.from = reason(o), report.Cut(o.Workload)
		if out.from == "" && o.Client.IsValid() {
			out.from = o.Client.Addr().Unmap().String()
		}
	default:
		return row{}, false
	}
	return out, true
}

// subject is what a client asked for.
func subject(o *policy.Observation) string {
	name := report.Cut(cmp.Or(o.Name, o.Asked, o.SNI, o.Host, o.Resolved))
	switch {
	case name == "" && o.Address.IsValid():
		return o.Address.String()
	case o.Kind == policy.KindQuery:
		return strings.TrimSpace(cmp.Or(name, "-") + " " + report.Cut(o.Type))
	case o.Port != 0:
		return policy.JoinPort(name, o.Port)
	}
	return cmp.Or(name, "-")
}

// reason is why it did not work, in the words of the report; "" where it did.
func reason(o *policy.Observation) string {
	if o.Error == "" && o.Outcome == policy.OK {
		return ""
	}
	out := report.Cut(cmp.Or(string(o.Error), "no error"))
	if o.Stage != "" {
		out += " at " + report.Cut(string(o.Stage))
	}
	if o.By != "" {
		out += ", by " + report.Cut(string(o.By))
	}
	return out
}

// signs stand beside the words of fates, so that colour alone says nothing.
var signs = map[string]string{"ok": "✓", "failed": "✕", "denied": "⊘", "abandoned": "○"}

// The fields of a row as the page shows them: escaped, but for HTML.

// Sign stands beside the fate.
func (r row) Sign() string { return cmp.Or(signs[r.fate], "·") }

// Fate is the outcome, "" for what has none.
func (r row) Fate() string { return report.Escape(r.fate) }

// Event says that the row is about the recording, not a client.
func (r row) Event() bool { return r.fate == "" }

// Subject is what the row is about.
func (r row) Subject() string { return report.Escape(r.subject) }

// Clock is when, on the clock of the day, UTC.
func (r row) Clock() string { return r.time.Format(time.TimeOnly) }

// Facts are the rest, in a line.
func (r row) Facts() string {
	var out []string
	if r.open {
		out = append(out, "still open")
	}
	if r.why != "" {
		out = append(out, report.Escape(r.why))
	}
	if what := map[policy.Kind]string{policy.KindQuery: "look-up", policy.KindRequest: "plain HTTP"}[r.kind]; what != "" {
		out = append(out, what)
	}
	if r.from != "" {
		out = append(out, "from "+report.Escape(r.from))
	}
	return strings.Join(out, " · ")
}

// rows are the latest ones.
type rows struct {
	kept [keptRows]row
	n    uint64 // ever added
}

func (s *rows) add(r row) {
	s.kept[s.n%keptRows] = r
	s.n++
}

// behind are the rows behind the first n, the newest first and at most limit, and
// how many more there were.
func (s *rows) behind(n uint64, limit int) (out []row, left uint64) {
	many := min(s.n-min(n, s.n), uint64(limit), keptRows)
	for i := range many {
		out = append(out, s.kept[(s.n-1-i)%keptRows])
	}
	return out, s.n - n - many
}

// after is how many rows there were up to the one with seq.
func (s *rows) after(seq uint64) uint64 {
	n := s.n
	for n > s.n-min(s.n, keptRows) && s.kept[(n-1)%keptRows].seq > seq {
		n--
	}
	return n
}

// last is the seq of the latest row.
func (s *rows) last() uint64 {
	if s.n == 0 {
		return 0
	}
	return s.kept[(s.n-1)%keptRows].seq
}
