package report

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/egressaudit/egressaudit/policy"
)

const maxHard = 256 // addresses that no look-up gave before

// hardcoded is what is remembered of connections to addresses that no look-up
// gave before. One that comes later may still explain them.
type hardcoded struct {
	to   map[netip.AddrPort]hard
	more int
}

// hard is one such address.
type hard struct {
	evidence
	names   []string // that its connections were judged by
	clients []netip.Addr
}

func newHardcoded() hardcoded { return hardcoded{to: map[netip.AddrPort]hard{}} }

func (h *hardcoded) clone() hardcoded {
	return hardcoded{maps.Clone(h.to), h.more}
}

// connection enters a connection while a forwarder listens, unless we resolved
// its name ourselves or refused its address.
func (h *hardcoded) connection(s sight, given map[netip.Addr]struct{}) {
	a, ok := bareTarget(s)
	if _, known := given[a]; !ok || known || !a.IsValid() || guardDenial(s) || inCluster(policy.AddrName(a)) {
		return
	}
	at := netip.AddrPortFrom(a, cmp.Or(s.Port, s.Address.Port()))
	n, known := h.to[at]
	if !known && len(h.to) >= maxHard {
		h.more++
		return
	}
	n.seqs, n.names, n.clients = slices.Clip(n.seqs), slices.Clip(n.names), slices.Clip(n.clients)
	n.add(s.seq)
	if name, err := policy.ParseName(s.Name); err == nil && name != policy.AddrName(a) {
		n.names = addWord(n.names, name.String())
	}
	if c := machine(s.Client.Addr()); c.IsValid() && len(n.clients) < maxWorkloads && !slices.Contains(n.clients, c) {
		n.clients = append(n.clients, c)
	}
	h.to[at] = n
}

// hardcoded tells of addresses that were connected to and that no look-up gave.
// Where not all that look-ups gave was kept, none is told of.
func (j *judgement) hardcoded() {
	if b := j.b; b.total == 0 || b.overfull {
		return
	}
	var groups []*hardGroup
	for _, at := range slices.SortedFunc(maps.Keys(j.b.hard.to), netip.AddrPort.Compare) {
		n := policy.AddrName(at.Addr())
		if _, given := j.b.given[at.Addr()]; given || j.bypass.host(n, at.Port()) || j.addressListed(n, at.Port()) {
			continue
		}
		h := j.b.hard.to[at]
		who, confidence := j.whoHard(h)
		i := slices.IndexFunc(groups, func(g *hardGroup) bool { return g.who == who && g.confidence == confidence })
		if i < 0 {
			i, groups = len(groups), append(groups, &hardGroup{who: who, confidence: confidence})
		}
		groups[i].add(at, h)
	}
	for _, g := range groups {
		j.tellHard(g)
	}
	if n := j.b.hard.more; n > 0 {
		j.find(HardcodedAddress, nil, "connections to more addresses that no look-up had given before, %s, too many to list; confidence: %s", times(n), policy.Guess)
	}
}

// hardGroup is what the same clients did.
type hardGroup struct {
	who        string
	confidence policy.Confidence
	addresses  []string
	names      []string
	seqs       []uint64
	n          int
}

func (g *hardGroup) add(at netip.AddrPort, h hard) {
	g.addresses = append(g.addresses, at.String())
	g.names = addWords(g.names, h.names)
	g.seqs, g.n = append(g.seqs, h.seqs...), g.n+h.n
}

// addressListed says whether a catalog asks for the very address.
func (j *judgement) addressListed(n policy.Name, port uint16) bool {
	return port != 0 && slices.ContainsFunc(j.opt.Index.Match(nil, n, port), j.inForce)
}

// whoHard is who went to an address, and how sure it is that no look-up gave it:
// likely where all of them ask us for other names, and a guess where one may ask
// somebody else.
func (j *judgement) whoHard(h hard) (string, policy.Confidence) {
	if len(h.clients) == 0 {
		return "an unknown client", policy.Guess
	}
	confidence := policy.Likely
	var who []string
	for _, c := range h.clients {
		who = append(who, c.String())
		if !j.b.lookout.parties[c].asked {
			confidence = policy.Guess
		}
	}
	slices.Sort(who)
	return listing(who, 3), confidence
}

// tellHard tells of one group.
func (j *judgement) tellHard(g *hardGroup) {
	to, what := g.addresses[0], "an address that no look-up of this trial gave: it stands in a program or its configuration, or was"
	if n := len(g.addresses); n > 1 {
		to = fmt.Sprintf("%d addresses: %s", n, listing(g.addresses, 3))
		what = "addresses that no look-up of this trial gave: they stand in a program or its configuration, or were"
	}
	slices.Sort(g.names)
	j.find(HardcodedAddress, g.seqs, "%s connected to %s%s, %s, %s looked up before the trial or elsewhere; confidence: %s",
		g.who, to, around(" (as ", listing(g.names, 3), ")"), times(g.n), what, g.confidence)
}
