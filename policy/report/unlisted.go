package report

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/egressaudit/egressaudit/policy"
)

// unlisted reports the destinations that were tried and that no catalog lists.
func (j *judgement) unlisted() {
	j.r.Unlisted = []Unlisted{}
	for _, d := range j.loose {
		if !d.spared() {
			j.addUnlisted(d)
		}
	}
	for _, d := range j.lonely {
		if state, _ := d.judge(); state == failed || j.failsAlone(nil, d.host) {
			j.addUnlisted(d)
		}
	}
	slices.SortStableFunc(j.r.Unlisted, func(a, b Unlisted) int {
		return cmp.Or(cmp.Compare(domain(a.Host), domain(b.Host)), cmp.Compare(a.Host, b.Host), cmp.Compare(a.Port, b.Port))
	})
	for _, c := range []class{unlisted, lookedUp} {
		if d := j.b.other[c]; d != nil && !d.spared() && (c == unlisted || d.failed > 0) {
			j.addUnlisted(d)
		}
	}
}

// spared says whether d is no gap: it lies inside the cluster, or our guard
// alone refused it.
func (d *destination) spared() bool {
	return d.class == inside || inCluster(d.name) || d.ok+d.failed+d.abandoned == 0 && d.guarded == d.denied
}

// domain sorts names under one registrable domain together, and bare addresses
// and texts that are no names behind.
func domain(host string) string {
	if n, err := policy.ParseName(host); err == nil {
		return cmp.Or(n.Registrable(), "\x7f"+n.String())
	}
	return "\x7f\x7f"
}

func (j *judgement) addUnlisted(d *destination) {
	s := &site{host: d.host, conn: d}
	if d.lookup && !d.folded {
		s.conn, s.look = nil, d
	}
	s.judge(bypass{}, &policy.Endpoint{Requirement: &policy.Requirement{}})
	j.aside(s, func(side *judgement) *site { return side.never[d.key] })
	h := s.row()
	u := Unlisted{
		Host: h.Host, Port: d.port, Attempts: h.Attempts, OK: h.OK, Failed: h.Failed, First: h.First, Last: h.Last,
		BytesUp: h.BytesUp, BytesDown: h.BytesDown, Workloads: h.Workloads, Error: h.Error, Near: j.near(d), Beats: j.beats(s),
	}
	switch {
	case h.OK > 0 && len(s.alone)+len(s.quiet) == 0:
		u.Outcome = Worked
	case s.state == Blocked || len(s.alone) > 0:
		u.Outcome = string(Blocked)
		u.Cause = j.unlistedCause(s, d)
	default:
		u.Outcome = string(Reached)
	}
	if u.Outcome != Worked {
		j.never[d.key] = s
	}
	j.r.Unlisted = append(j.r.Unlisted, u)
}

// near is the endpoint that d nearly meets, and why it does not.
func (j *judgement) near(d *destination) string {
	if len(d.endpoints) > 0 { // none of them is in force
		e := slices.MinFunc(d.endpoints, byText)
		if until := e.Requirement.Until; !until.IsZero() && !j.b.started.Before(until) {
			return fmt.Sprintf("%s (%s): listed until %s only", e, e.Catalog.Name, until.Format("2006-01-02"))
		}
		return fmt.Sprintf("%s (%s): listed from %s only", e, e.Catalog.Name, e.Requirement.From.Format("2006-01-02"))
	}
	if d.name.IsZero() {
		return ""
	}
	for _, n := range j.opt.Index.Near(d.name, d.port) {
		if j.inForce(n.Endpoint) {
			return fmt.Sprintf("%s (%s): %s", n.Endpoint, n.Endpoint.Catalog.Name, n.Why)
		}
	}
	return ""
}

func byText(a, b *policy.Endpoint) int {
	return cmp.Or(cmp.Compare(a.Catalog.Name, b.Catalog.Name), cmp.Compare(a.String(), b.String()))
}
