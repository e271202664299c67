package report

import (
	"slices"
	"strings"

	"github.com/egressaudit/egressaudit/policy"
)

// Vantages are those of the records so far, in the order in which they came; "" is among
// them, at the end, where a record says none. Reports doubt what more than 64 say, or
// one with a label of more than 300 octets, which are not all held apart.
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

// aside lowers s to what any vantage alone says of it, which of tells. That a look-up
// was not followed by a connection is left to all together: the one may come to the name
// server of one vantage, the other to the proxy of another.
func (j *judgement) aside(s *site, of func(side *judgement) *site) {
	for _, side := range j.sides {
		switch o := of(side); {
		case o == nil:
		case o.fail != nil:
			o.vantage = orUnknown(side.r.Trial.Vantage)
			s.alone = append(s.alone, o)
			s.lower(o)
		case o.state == Reached:
			s.quiet = append(s.quiet, orUnknown(side.r.Trial.Vantage))
		case o.state == Resolved && s.state == Bypassed: // by the NO_PROXY of another vantage
			s.state = Resolved
		}
	}
	refused := func(o *site) bool { return o.fail.Outcome == policy.Denied }
	if told := slices.DeleteFunc(slices.Clone(s.alone), refused); len(told) > 0 { // by us counts where there is nothing else
		s.alone = told
	}
}

// lower gives s, unless it does not work anyway, the failure of o.
func (s *site) lower(o *site) {
	switch {
	case s.fail != nil:
		return
	case s.state == Used:
		s.state = Partial
	default:
		s.state = o.state
	}
	s.fail, s.flaps = o.fail, false
}

// failsAlone says whether a vantage that made no connection to host could not look it up
// for e, or, where e is nil and no catalog lists it, at all: those of others to another
// port of it explain nothing.
func (j *judgement) failsAlone(e *policy.Endpoint, host string) bool {
	return slices.ContainsFunc(j.sides, func(side *judgement) bool {
		o := side.sites[e][host]
		if e == nil {
			o = side.never[key{host: host, lookup: true}]
		}
		return o != nil && o.fail != nil
	})
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

// whence are the vantages at which sites do not work: those that say so alone, else all
// together.
func (j *judgement) whence(sites []*site) string {
	var out []string
	for _, s := range sites {
		if s.vantage == "" {
			return j.r.Trial.Vantage
		}
		out = addOnce(out, s.vantage)
	}
	slices.Sort(out)
	return listing(out, 8)
}
