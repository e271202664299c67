package dnsaudit

import (
	"errors"
	"slices"
	"strings"

	"github.com/egressaudit/egressaudit/policy"
)

// join makes one resolution of both families, its Addrs not yet ordered. late
// says that AAAA was not waited for any longer.
func join(v4, v6 family, late bool) policy.Resolution {
	best := v4.best
	if v6.best.rank() > best.rank() {
		best = v6.best
	}
	res := policy.Resolution{
		Addrs:  slices.Concat(v4.best.addrs, v6.best.addrs),
		CNAMEs: best.cnames,
		Detail: detail(best, v4, v6, late),
	}
	switch {
	case best.err == nil:
		res.RCode, res.Upstream = best.rcode, best.server.String()
	case errors.Is(best.err, errSilent):
		res.Timeout = true
	}
	return res
}

// detail tells all that was said and is not in best already: what both families
// heard once, the rest with its family.
func detail(best word, v4, v6 family, late bool) string {
	a, aaaa := v4.notes(best, false), v6.notes(best, late)
	if late {
		aaaa = append(aaaa, "no answer within "+resolutionDelay.String()+" of the one to A")
	}
	var told []string
	for _, note := range a {
		if !slices.Contains(aaaa, note) {
			note = "A: " + note
		}
		told = append(told, note)
	}
	for _, note := range aaaa {
		if !slices.Contains(a, note) {
			told = append(told, "AAAA: "+note)
		}
	}
	return strings.Join(told, "; ")
}

// notes are the words worth telling beside best: not those that only repeat
// its code, nor that this family has no address where the other has, nor, when
// it was given up, who was still silent.
func (f family) notes(best word, late bool) []string {
	var notes []string
	for _, w := range f.said {
		if w.server.IsValid() && !w.repeats(best) && !(late && w.silent()) {
			notes = append(notes, w.String())
		}
	}
	return notes
}

// repeats says that w tells nothing that best does not.
func (w word) repeats(best word) bool {
	return w.err == nil && best.err == nil && w.server == best.server && w.odd == "" && w.extra == "" &&
		(w.rcode == best.rcode || w.rcode == noData && best.rcode == noError)
}
