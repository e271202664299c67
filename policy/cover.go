package policy

import "strings"

// fresh stands for text that no pattern has: only a wildcard takes it.
const fresh = "\x00"

// maxSamples bounds what a pattern is tried with. One with more than six "*"
// inside labels has more samples than that.
const maxSamples = 1 << 7

// Covers says whether p matches every name that q matches. It never says so
// wrongly; where q has more than six "*" inside labels it says so only of the
// same pattern. Patterns that cover each other mean the same hosts.
func (p Pattern) Covers(q Pattern) bool {
	if !strings.HasSuffix(q.suffix, p.suffix) { // cheap, and mostly so
		return false
	}
	if n, ok := q.Literal(); ok {
		return p.Match(n)
	}
	samples := q.samples()
	for _, s := range samples {
		if !p.Match(Name{s: s}) {
			return false
		}
	}
	return len(samples) > 0 || p.text == q.text && p.text != ""
}

// samples are names that stand for all that p matches: each wildcard is text
// that nobody else has, and where it may also stand for nothing, nothing; the
// deep one is one label, and two. What matches a sample takes that text with a
// wildcard, which takes any other text as well. It is nil where there are more
// than maxSamples, and for the zero Pattern.
func (p *Pattern) samples() []string {
	var names []string
	for i := range p.labels {
		names = product(p.labels[i].samples(), names)
		if names == nil {
			return nil
		}
	}
	if p.deep {
		names = product([]string{fresh, fresh + "." + fresh}, names)
	}
	return names
}

// product puts each of the labels before each of the names. It is nil where
// that makes too many.
func product(labels, names []string) []string {
	if names == nil {
		names = []string{""}
	}
	if len(labels) == 0 || len(labels)*len(names) > maxSamples {
		return nil
	}
	var out []string
	for _, l := range labels {
		for _, n := range names {
			if n != "" {
				n = "." + n
			}
			out = append(out, l+n)
		}
	}
	return out
}

// samples are those of one label; nil where there are too many.
func (l *label) samples() []string {
	out := []string{l.head}
	for _, h := range l.holes {
		var next []string
		for _, s := range out {
			if h.min == 0 {
				next = append(next, s+h.then)
			}
			next = append(next, s+fresh+h.then)
		}
		if out = next; len(out) > maxSamples {
			return nil
		}
	}
	return out
}
