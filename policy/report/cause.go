package report

import (
	"cmp"
	"slices"
	"time"

	"github.com/egressaudit/egressaudit/policy"
)

// cause is why e is blocked or partial; nil for the other statuses.
func (j *judgement) cause(e *policy.Endpoint, sites []*site, s Status) *Cause {
	bad := broken(sites)
	if s != Blocked && s != Partial || len(bad) == 0 {
		return nil
	}
	r := e.Requirement
	a := asking{
		host: e.Host.String(), port: e.Port, protocol: r.Protocol, needs: r.Needs, sites: bad, fail: bad[0].fail,
		vantage: j.whence(bad), source: cmp.Or(r.Source, e.Catalog.Source.URL),
	}
	if r.Optional {
		a.note = " (the catalog calls this endpoint optional)"
	}
	return a.cause()
}

// unlistedCause is why a destination that no catalog lists never worked.
func (j *judgement) unlistedCause(s *site, d *destination) *Cause {
	bad := broken([]*site{s})
	return asking{
		host: d.host, port: d.port, sites: bad, fail: bad[0].fail, vantage: j.whence(bad), source: "any publisher's page",
		note: " (no catalog lists this destination, so ask first who needs it)",
	}.cause()
}

// broken are the sites that do not work, the most telling first: the surest,
// then the latest. One that does not work at some vantages stands for itself at each.
func broken(sites []*site) []*site {
	var out []*site
	for _, s := range sites {
		switch {
		case len(s.alone) > 0:
			out = append(out, s.alone...)
		case s.fail != nil:
			out = append(out, s)
		}
	}
	slices.SortStableFunc(out, func(a, b *site) int {
		return cmp.Or(cmp.Compare(guess(a.fail), guess(b.fail)), -order(a.fail.moment, b.fail.moment))
	})
	return out
}

func guess(f *failure) int { return bit(rank(f.Confidence) <= rank(policy.Guess)) }

func order(a, b moment) int {
	if d := a.begun.Sub(b.begun).Abs(); d >= time.Millisecond {
		return a.begun.Compare(b.begun)
	}
	if a.ordinal != 0 && b.ordinal != 0 && a.ordinal != b.ordinal {
		return cmp.Compare(a.ordinal, b.ordinal)
	}
	return cmp.Compare(a.seq, b.seq)
}

func (a asking) cause() *Cause {
	f := a.fail
	return &Cause{Stage: f.Stage, Error: f.Error, By: f.By, Confidence: f.Confidence, Detail: f.detail, Ask: a.sentence(), vantage: a.vantage}
}
