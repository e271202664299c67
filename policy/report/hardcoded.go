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
	for _, at := range slices.SortedFunc(maps.Keys(j.b.hard.to), netip.AddrPort.Compare) {
		n := policy.AddrName(at.Addr())
		if _, given := j.b.given[at.Addr()]; given || j.bypass.host(n, at.Port()) || j.addressListed(n, at.Port()) {
			continue
		}
		j.tellHard(at, j.b.hard.to[at])
	}
	if n := j.b.hard.more; n > 0 {
		j.find(HardcodedAddress, nil, "connections to more addresses that no look-up had given before, %s, too many to list; confidence: %s", times(n), policy.Guess)
	}
}

// addressListed says whether a catalog asks for the very address.
func (j *judgement) addressListed(n policy.Name, port uint16) bool {
	return port != 0 && slices.ContainsFunc(j.opt.Index.Match(nil, n, port), j.inForce)
}

// tellHard tells of one. It is likely where all of its clients ask us for other
// names, and a guess where one may ask somebody else.
func (j *judgement) tellHard(at netip.AddrPort, h hard) {
	confidence := policy.Likely
	var who []string
	for _, c := range h.clients {
		who = append(who, c.String())
		if !j.b.lookout.parties[c].asked {
			confidence = policy.Guess
		}
	}
	if len(who) == 0 {
		who, confidence = []string{"an unknown client"}, policy.Guess
	}
	slices.Sort(who)
	meant := ""
	if len(h.names) > 0 {
		meant = fmt.Sprintf(" (as %s)", listing(slices.Sorted(slices.Values(h.names)), 3))
	}
	j.find(HardcodedAddress, h.seqs, "%s connected to %s%s, %s, an address that no look-up of this trial gave: it stands in a program or its configuration, "+
		"or was looked up before the trial or elsewhere; confidence: %s", listing(who, 3), at, meant, times(h.n), confidence)
}
