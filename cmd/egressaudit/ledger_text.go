package main

import (
	"bytes"
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/policy/report"
)

// Widths of the columns that most records keep to; with them a connection that
// is ok fits 80 columns.
const (
	kindWidth    = len("connection")
	clientWidth  = len("10.244.100.100")
	subjectWidth = 26
)

// paints are the colours of outcomes; they say nothing that the word does not.
var paints = map[policy.Outcome]string{
	policy.OK: "\x1b[32m", policy.Failed: "\x1b[31m", policy.Denied: "\x1b[33m", policy.Abandoned: "\x1b[33m",
}

// appendRow appends a record as one line for people.
func appendRow(b []byte, r *policy.Record, color bool) []byte {
	b = append(r.Time.UTC().AppendFormat(b, time.RFC3339), ' ')
	b = column(b, word(string(r.Kind)), kindWidth)
	switch {
	case r.Kind == policy.KindEvent:
		b = append(b, eventText(r)...)
	case r.Observation != nil:
		b = appendSeen(b, r.Observation, color)
	case r.Session != nil:
		b = append(b, sessionText(r.Session)...)
	default:
		b = append(b, otherText(r)...)
	}
	return append(bytes.TrimRight(b, " "), '\n')
}

// column appends s and blanks up to a width, one at least.
func column(b []byte, s string, width int) []byte {
	b = append(b, s...)
	for n := utf8.RuneCountInString(s); n < width; n++ {
		b = append(b, ' ')
	}
	return append(b, ' ')
}

// word makes a text of somebody else one word of a line: escaped, cut where it
// is long, and in quotes where a blank could pass for the next column.
func word(s string) string {
	s = report.Escape(report.Cut(s))
	if s == "" || strings.ContainsAny(s, ` "`) {
		return `"` + strings.ReplaceAll(s, `"`, `\"`) + `"`
	}
	return s
}

func appendSeen(b []byte, o *policy.Observation, color bool) []byte {
	client := "-"
	if o.Client.IsValid() {
		client = o.Client.Addr().Unmap().String()
	}
	b = column(b, client, clientWidth)
	b = column(b, subject(o), subjectWidth)
	paint := paints[o.Outcome]
	if color && paint != "" {
		b = append(append(append(b, paint...), o.Outcome...), "\x1b[0m"...)
	} else {
		b = append(b, word(cmp.Or(string(o.Outcome), "-"))...)
	}
	for _, s := range hints(o) {
		b = append(append(b, ' '), s...)
	}
	return b
}

// subject is what was asked for: name:port, of a query its name and type.
func subject(o *policy.Observation) string {
	name := cmp.Or(o.Name, o.Asked, o.SNI, o.Host, o.Resolved)
	if name == "" && o.Address.IsValid() {
		return o.Address.String()
	}
	name = cmp.Or(name, "-")
	switch {
	case o.Kind == policy.KindQuery && o.Type != "":
		return word(name) + " " + word(o.Type)
	case o.Port != 0:
		return word(policy.JoinPort(report.Cut(name), o.Port))
	}
	return word(name)
}

// hints are why, and the facts that tell most.
func hints(o *policy.Observation) []string {
	var out []string
	if o.Error != "" || o.Outcome != policy.OK && o.Stage != "" {
		out = append(out, word(strings.Trim(string(o.Stage)+"/"+string(o.Error), "/")))
	}
	if o.Kind == policy.KindRequest && o.Method != "" {
		out = append(out, word(o.Method))
	}
	if o.Status != 0 {
		out = append(out, strconv.Itoa(o.Status))
	}
	if o.RCode != "" && o.RCode != "NOERROR" {
		out = append(out, word(o.RCode))
	}
	if n := len(o.Answers); n > 0 {
		out = append(out, word(o.Answers[0]))
		if n > 1 {
			out = append(out, fmt.Sprintf("+%d", n-1))
		}
	}
	out = append(out, facts(o.Detail)...)
	return append(out, marks(o)...)
}

// telling are the details that a line has room for, the most telling first.
var telling = []string{"rcode", "status", "beyond", "errno", "alert", "close", "issuer", "why"}

// facts are the first two of the telling details that are there.
func facts(detail map[string]any) []string {
	var out []string
	for _, key := range telling {
		if v, ok := detail[key]; ok && len(out) < 2 {
			out = append(out, key+"="+word(fmt.Sprint(v)))
		}
	}
	return out
}

// marks are what sets an observation apart from a client's finished one.
func marks(o *policy.Observation) []string {
	var out []string
	if o.Open {
		out = append(out, "open")
	}
	if o.Origin != "" && o.Origin != policy.OriginClient {
		out = append(out, word(string(o.Origin)))
	}
	if o.WouldDeny {
		out = append(out, "would_deny")
	}
	return out
}

// sessionText is a start or a stop.
func sessionText(s *policy.Session) string {
	var out []string
	add := func(key, v string) {
		if v != "" {
			out = append(out, key+word(v))
		}
	}
	add("version=", s.Version)
	add("mode=", s.Mode)
	for _, c := range s.Catalogs {
		add("catalog=", c.Name)
	}
	add("parent=", s.Parent)
	if s.ChildStatus != nil {
		out = append(out, "child_status="+strconv.Itoa(*s.ChildStatus))
	}
	return strings.Join(out, " ")
}

// eventText is what befell a workload, with how often.
func eventText(r *policy.Record) string {
	out := "-"
	if r.Observation != nil {
		out = word(cmp.Or(r.Workload, "-"))
	}
	out += " " + word(cmp.Or(r.Reason, "-"))
	if r.Count > 1 {
		out += fmt.Sprintf(" x%d", r.Count)
	}
	return out + " " + report.Escape(report.Cut(r.Text))
}

// otherText is a mark, a lost record, or one of a kind that is not known here.
func otherText(r *policy.Record) string {
	var out []string
	if r.Text != "" {
		out = append(out, word(r.Text))
	}
	if r.Count != 0 {
		out = append(out, strconv.Itoa(r.Count)+" records:")
	}
	if r.Why != "" {
		out = append(out, report.Escape(report.Cut(r.Why)))
	}
	return strings.Join(out, " ")
}
