package report

import (
	"cmp"
	"fmt"

	"github.com/egressaudit/egressaudit/policy"
)

// choked are destinations whose large ClientHellos got no answer.
type choked struct {
	hosts       []string
	mute, small trace
	least, most int64
	parent      string
	meets       bool // at some host, large ones failed while small ones passed
}

func (c *choked) add(d *destination, h *hellos) {
	c.hosts = addWord(c.hosts, policy.JoinPort(d.host, d.port))
	c.mute.join(h.mute)
	c.small.join(h.small)
	if c.least == 0 || h.least < c.least {
		c.least = h.least
	}
	c.most, c.parent, c.meets = max(c.most, h.most), h.parent, c.meets || h.mute.meets(&h.small)
}

// largeHellos finds that ClientHellos beyond one segment are dropped or cut and
// smaller ones pass: at the same hosts, or else at many others where no large
// one passes anywhere. Hosts that do not answer small ones either tell nothing.
func (j *judgement) largeHellos() {
	for way := range 2 {
		var same, other choked
		var passed, small trace
		smallHosts := 0
		j.everyone(func(d *destination) {
			h := &d.hellos[way]
			passed.join(h.large)
			small.join(h.small)
			smallHosts += bit(h.small.n > 0)
			switch {
			case d.folded || h.mute.n == 0 || h.smallMute > 0 || h.large.n > 0:
			case h.small.n > 0:
				same.add(d, h)
			default:
				other.add(d, h)
			}
		})
		switch {
		case same.mute.n >= minSample:
			j.choke(same, passed)
		case passed.n == 0 && same.mute.n+other.mute.n >= minSample && len(same.hosts)+len(other.hosts) > 1 && small.n >= minSample && smallHosts > 1:
			j.choke(merged(same, other, small), passed)
		}
	}
}

// merged are all that choke, held against all small ones.
func merged(a, b choked, small trace) choked {
	for _, h := range b.hosts {
		a.hosts = addWord(a.hosts, h)
	}
	a.mute.join(b.mute)
	if a.least == 0 || b.least > 0 && b.least < a.least {
		a.least = b.least
	}
	a.most, a.meets, a.small, a.parent = max(a.most, b.most), false, small, cmp.Or(a.parent, b.parent)
	return a
}

// choke tells of c. It is likely where large and small ones went to the same
// hosts at the same time, and no large one passed on that way.
func (j *judgement) choke(c choked, passed trace) {
	confidence, but := policy.Likely, ""
	switch {
	case passed.n > 0:
		confidence, but = policy.Guess, fmt.Sprintf("; %d large ones passed to other hosts, so it may be the far ends themselves", passed.n)
	case !c.meets:
		confidence, but = policy.Guess, ", unless a rule changed or these hosts are blocked for another reason"
	}
	octets := fmt.Sprint(c.most)
	if c.least != c.most {
		octets = fmt.Sprintf("%d to %d", c.least, c.most)
	}
	j.find(LargeHelloDropped, blend(c.mute, c.small), "%d ClientHellos of %s octets to %s were cut or left in silence, while %d that fit into one segment passed: "+
		"%s drops or cuts ClientHellos that span several TCP segments, as post-quantum key shares make them (X25519MLKEM768), and should let them pass%s; confidence: %s",
		c.mute.n, octets, listing(c.hosts, 3), c.small.n, wayOut(c.parent), but, confidence)
}

// blend is evidence of both sides: what failed, and what passed meanwhile.
func blend(failed, passed trace) []uint64 {
	const others = 3
	bad := failed.seqs[:min(len(failed.seqs), maxEvidence-others)]
	return append(some(bad), passed.seqs[:min(len(passed.seqs), others)]...)
}
