package report

import (
	"cmp"
	"slices"
	"time"

	"github.com/egressaudit/egressaudit/policy"
)

// site is one host seen for an endpoint.
type site struct {
	host  string
	conn  *destination // connections; nil: none
	look  *destination // look-ups; nil: none, or no matter
	trail trail        // of look
	stray bool         // another name was answered where this one was meant
	probe note         // a handshake of our own that was intercepted
	state Status
	fail  *failure // why it is blocked or partial
	flaps bool     // failed and works now

	vantage string   // where it was seen alone; "": by all together
	alone   []*site  // as vantages saw it at which it does not work
	quiet   []string // vantages at which it was reached alone
}

// judge gives the site its state, by what proves most: attempts that were ok or
// failed, look-ups that failed, denials, abandoned attempts, look-ups.
func (s *site) judge(by bypass, e *policy.Endpoint) {
	looked, unresolved := unasked, (*failure)(nil)
	if s.look != nil {
		looked, unresolved = s.look.judge()
	}
	if looked == unasked && s.stray {
		looked = addresses
	}
	switch c := s.conn; {
	case c != nil && c.ok+c.failed > 0:
		s.connected(c, e)
		if unresolved != nil && c.newestOK && unresolved.after(c.newest) {
			s.state, s.fail = Partial, unresolved
		}
	case unresolved != nil:
		s.state, s.fail = Blocked, unresolved
	case c != nil && c.denied > 0:
		s.state, s.fail = Blocked, c.lastDeny
	case c != nil:
		s.state = Reached
	case looked == addresses && by.host(s.look.name, e.Port):
		s.state = Bypassed
	case looked == addresses && (s.trail == ripe || s.stray || s.look.unfollowed):
		s.state = Resolved
	default:
		s.state = Unused
	}
}

// connected judges a site by its connections.
func (s *site) connected(c *destination, e *policy.Endpoint) {
	s.state = Used
	switch works := c.newestOK && !(c.folded && c.failed > 0); {
	case works && c.folded && c.denied > c.guarded: // of one that may have nothing else
		s.state, s.fail = Partial, c.lastDeny
	case works && c.folded && c.mute > 0:
		s.state = Reached
	case !works && c.ok > 0:
		s.state, s.fail = Partial, c.telling()
	case !works:
		s.state, s.fail = Blocked, c.telling()
	case s.inspected() && e.Requirement.Wants(policy.NeedNoTLSInspection):
		s.state, s.fail = Partial, s.intercepted()
	}
	s.flaps = s.state == Used && (c.failed > 0 || s.look != nil && s.look.mended)
}

// inspected says whether a client took a certificate that the public does not
// trust, as its own handshake or one of ours showed.
func (s *site) inspected() bool {
	return s.conn != nil && s.conn.ok > 0 && (s.conn.intercepts.n > 0 || s.probe.n > 0)
}

func (s *site) issuer() string {
	return cmp.Or(s.conn.issuer, s.probe.text, "an unknown issuer")
}

// intercepted is the failure of an endpoint that must not be inspected and was,
// though the client took the certificate.
func (s *site) intercepted() *failure {
	return &failure{
		moment: s.conn.newest,
		detail: map[string]any{"issuer": s.issuer()},
		Verdict: policy.Verdict{Outcome: policy.OK, Stage: policy.StageHandshake, Error: policy.TLSIntercepted,
			By: policy.ByNetwork, Confidence: policy.Likely},
	}
}

// row is the site as the report shows it.
func (s *site) row() Host {
	h := Host{Host: s.host, Workloads: []string{}, State: s.state}
	if s.conn != nil {
		s.conn.fill(&h)
	}
	if l := s.look; l != nil {
		widen(&h.First, &h.Last, l.lookedFirst, l.lookedLast)
		if s.conn == nil {
			h.Attempts, h.Failed = l.missed, l.missed
		}
		if s.fail != nil && s.fail.Stage == policy.StageResolve {
			h.Error = s.fail.Error
			h.Failed = max(h.Failed, 1)
			h.Attempts = max(h.Attempts, h.OK+h.Failed)
		}
	}
	failed := 0
	for _, o := range s.alone { // what was denied there counts, too, for there is nothing else
		failed += o.row().Failed
		h.Error = broken([]*site{s})[0].fail.Error // that of the cause
	}
	h.Failed = max(h.Failed, failed)
	h.Attempts = max(h.Attempts, h.OK+h.Failed)
	return h
}

// fill writes what the tally counts into h. Attempts that were denied or
// abandoned count where there is nothing else.
func (t *tally) fill(h *Host) {
	h.OK, h.Failed = t.ok, t.failed
	h.Attempts = t.ok + t.failed
	if h.Attempts == 0 {
		h.Attempts, h.Failed = t.denied+t.abandoned, t.denied
	}
	h.First, h.Last, h.BytesUp, h.BytesDown = t.first, t.last, t.up, t.down
	h.Workloads = append(h.Workloads, slices.Sorted(slices.Values(t.workloads))...)
	if f := t.telling(); f != nil {
		h.Error = f.Error
	} else if t.ok == 0 && t.lastDeny != nil {
		h.Error = t.lastDeny.Error
	}
}

// failing is when attempts failed, and how many of how many.
func (s *site) failing() (failed, attempts int, from, to time.Time) {
	h := s.row()
	from, to = s.fail.begun, s.fail.begun
	switch {
	case s.conn != nil && s.conn.failed > 0:
		from, to = s.conn.failFirst, s.conn.failLast
	case s.conn != nil && s.fail == s.conn.lastDeny:
		from, to = s.conn.denyFirst, s.conn.denyLast
	case s.conn == nil && s.look != nil:
		from, to = s.look.lookedFirst, s.look.lookedLast
	}
	return h.Failed, h.Attempts, from, to
}

// some is a list that JSON writes as [] and not as null.
func some[T any](list []T) []T { return append(make([]T, 0, len(list)), list...) }
