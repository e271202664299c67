package report

import (
	"slices"
	"strings"

	"github.com/egressaudit/egressaudit/policy"
)

// Vantages are those of the records so far, 64 at most, in the order in which they
// came; "" is among them, at the end, where a record says none.
func (e *Engine) Vantages() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := slices.Clone(e.book.vantages)
	if e.book.unplaced {
		out = append(out, "")
	}
	return out
}

// Beside says that each of sides has what e has of one vantage alone. Reports of e
// then have a Matrix; and what a vantage cannot reach counts as that, whatever others
// reach later: an endpoint that is blocked there and works elsewhere is partial. All
// engines have the same Options.Index.
func (e *Engine) Beside(sides ...*Engine) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.sides = sides
}

// aside lowers s to what any vantage alone says of it. That a look-up was not followed
// by a connection is left to all together: the one may come to the name server of one
// vantage, the other to the proxy of another.
func (j *judgement) aside(s *site, e *policy.Endpoint) {
	for _, side := range j.sides {
		o := side.sites[e][s.host]
		switch {
		case o == nil:
		case o.fail != nil && s.fail == nil:
			o.vantage = side.r.Trial.Vantage
			s.alone, s.fail, s.flaps = o, o.fail, false
			if s.state != Used {
				s.state = o.state
				break
			}
			s.state = Partial
		case o.state == Reached && s.state == Used:
			s.quiet = append(s.quiet, orUnknown(side.r.Trial.Vantage))
		case o.state == Resolved && s.state == Bypassed: // by the NO_PROXY of another vantage
			s.state = Resolved
		}
	}
}

// asideUnlisted lowers u to what a vantage at which it never worked says of it.
func (j *judgement) asideUnlisted(u *Unlisted) {
	for _, side := range j.sides {
		if o := side.gap(key{host: u.Host, port: u.Port}); o != nil && u.Outcome == Worked {
			u.Outcome, u.Error, u.Cause = o.Outcome, o.Error, o.Cause
		}
	}
}

// gap is a destination in no list that never worked; nil where it did, or is none.
func (j *judgement) gap(k key) *Unlisted {
	if j.gaps == nil {
		j.gaps = map[key]*Unlisted{}
		for i, u := range j.r.Unlisted {
			if u.Outcome != Worked {
				j.gaps[key{host: u.Host, port: u.Port}] = &j.r.Unlisted[i]
			}
		}
	}
	return j.gaps[k]
}

// quietSides doubts endpoints that work somewhere and gave no answer elsewhere.
func (j *judgement) quietSides() {
	said := map[string]bool{}
	for _, e := range j.opt.Index.Endpoints() {
		at := policy.JoinPort(e.Host.String(), e.Port)
		if !j.inForce(e) || !j.required(e.Requirement) || said[at] {
			continue
		}
		said[at] = true
		for _, s := range j.sorted(e) {
			if len(s.quiet) > 0 && s.state == Used {
				j.doubt("%s: as seen from %s, %s accepted connections and never answered before the client left, though it works elsewhere; try there with a client that waits longer",
					at, strings.Join(s.quiet, ", "), s.host)
			}
		}
	}
}

// sameVantage is where all sites were seen alone; "" where that is not one place.
func sameVantage(sites []*site) string {
	if slices.ContainsFunc(sites, func(s *site) bool { return s.vantage != sites[0].vantage }) {
		return ""
	}
	return sites[0].vantage
}
