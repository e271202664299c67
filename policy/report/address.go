package report

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/egressaudit/egressaudit/policy"
)

// spot is a destination at one of its addresses.
type spot struct {
	*destination
	*place
}

// addresses finds what makes a name and an address differ: a filter by name, a
// rule for an address, one address in the place of many.
func (j *judgement) addresses() {
	m := atlas{spots: map[netip.Addr][]spot{}, replies: map[netip.AddrPort]*replies{}, answers: map[policy.Error]map[netip.Addr]bool{}}
	j.everyone(m.enter)
	j.everyone(func(d *destination) { j.nameFilter(m, d) })
	for _, a := range slices.SortedFunc(maps.Keys(m.spots), netip.Addr.Compare) {
		if !j.sharedAnswer(m, a) {
			j.addressRule(m, a)
		}
	}
}

// atlas is which destination was met where, without a parent in between.
type atlas struct {
	spots     map[netip.Addr][]spot
	replies   map[netip.AddrPort]*replies
	answers   map[policy.Error]map[netip.Addr]bool // where failures had an answer in common
	passed    trace                                // what was answered anywhere
	inspected bool                                 // a client took a certificate that the public does not trust
	crowded   bool                                 // not all addresses were kept
}

// replies are connections that an address answered on a port.
type replies struct {
	trace
	names []string
	large bool // to a large hello, too
}

func (m *atlas) enter(d *destination) {
	m.crowded, m.inspected = m.crowded || d.crowded, m.inspected || d.intercepts.n > 0
	for i := range d.places {
		p := &d.places[i]
		m.spots[p.addr] = append(m.spots[p.addr], spot{d, p})
		if p.answer != "" {
			if m.answers[p.answer] == nil {
				m.answers[p.answer] = map[netip.Addr]bool{}
			}
			m.answers[p.answer][p.addr] = true
		}
		if p.ok.n == 0 {
			continue
		}
		at := netip.AddrPortFrom(p.addr, d.port)
		if m.replies[at] == nil {
			m.replies[at] = &replies{}
		}
		r := m.replies[at]
		r.join(p.ok)
		m.passed.join(p.ok)
		r.names, r.large = addWord(r.names, d.host), r.large || p.okLarge
	}
}

// nameFilter finds that d gets no answer at addresses that answer others on the
// same port. Large hellos alone say nothing of a name, unless others passed with
// them.
func (j *judgement) nameFilter(m atlas, d *destination) {
	if d.folded || d.ok > 0 || !named(d) {
		return
	}
	var silent, others trace
	var names, at []string
	cuts, fair := 0, false
	for i := range d.places {
		p := &d.places[i]
		r := m.replies[netip.AddrPortFrom(p.addr, d.port)]
		if p.mute.n == 0 || r == nil {
			continue
		}
		silent.join(p.mute)
		others.join(r.trace)
		cuts, fair = cuts+p.cuts, fair || r.large || p.muteSmall > 0
		at = append(at, p.addr.String())
		for _, n := range r.names {
			names = addWord(names, n)
		}
	}
	if silent.n < minSample || !fair {
		return
	}
	confidence, but := policy.Likely, ""
	if !silent.meets(&others) {
		confidence, but = policy.Guess, ", unless the address was down or a rule changed between the two"
	}
	j.find(SNIFilter, blend(silent, others), "%s %s right after the ClientHello, %s, while the same address (%s) answered %s: "+
		"a filter by server name (SNI) on the firewall, so a rule for the address does not help%s; confidence: %s",
		policy.JoinPort(d.host, d.port), treated(cuts, silent.n), times(silent.n), listing(at, 3), listing(names, 3), but, confidence)
}

// treated is how connections ended.
func treated(cuts, of int) string {
	switch cuts {
	case 0:
		return "was left in silence"
	case of:
		return "was cut off"
	}
	return "was cut off or left in silence"
}

func (s spot) works() bool { return s.place.ok.n > 0 }

// addressRule finds that no name gets an answer at a, though others are
// answered elsewhere. Anything that answered there in any way speaks against it.
func (j *judgement) addressRule(m atlas, a netip.Addr) {
	var gone, shut trace
	var names, domains []string
	for _, s := range m.spots[a] {
		if s.works() || s.foul.n > s.silent.n || s.folded {
			return
		}
		if s.name.IsZero() || s.shut.n+s.silent.n == 0 {
			continue
		}
		names, domains = addWord(names, s.host), addWord(domains, related(s.destination))
		shut.join(s.shut)
		gone.join(s.shut)
		gone.join(s.silent)
	}
	if gone.n < minSample || len(names) < 2 || m.passed.n == 0 {
		return
	}
	confidence, how := policy.Likely, "refused or left unanswered"
	if shut.n < gone.n {
		confidence, how = policy.Guess, "refused, cut off or left in silence"
	}
	if m.crowded || len(domains) < 2 || !gone.meets(&m.passed) {
		confidence = policy.Guess
	}
	but := "; or the host there is down"
	if len(domains) > 2 {
		but = "; or a resolver gave a false address for them"
	}
	j.find(AddressRule, gone.seqs, "all %d connections to %s (%s) were %s, while other addresses answered: "+
		"a rule of the firewall for this address, whatever the name%s; confidence: %s",
		gone.n, a, listing(names, 3), how, but, confidence)
}

// sharedAnswer finds that three or more unrelated domains fail at a, where an
// answer was due. One that works there makes it an address that many share, as
// with a CDN.
func (j *judgement) sharedAnswer(m atlas, a netip.Addr) bool {
	var foul trace
	var domains []string
	answer := policy.Error("")
	for _, s := range m.spots[a] {
		if s.works() {
			return false
		}
		if s.foul.n == 0 || s.folded || !named(s.destination) {
			continue
		}
		foul.join(s.foul)
		domains = addWord(domains, related(s.destination))
		if answer == "" {
			answer = s.answer
		} else if answer != s.answer {
			answer = mixed
		}
	}
	if len(domains) < minSample {
		return false
	}
	confidence, why := m.weigh(answer)
	if confidence == "" {
		return false
	}
	alike := "in the same way (" + clip(string(answer)) + ")"
	if answer == mixed {
		alike = "in several ways"
	}
	j.find(SharedAnswer, foul.seqs, "%s stood for %d unrelated domains (%s), and all %d connections there failed %s: %s; confidence: %s",
		a, len(domains), listing(domains, 4), foul.n, alike, why, confidence)
	return true
}

// weigh says how sure it is that an address stands for others, and what else it
// may be.
// Where a device answers in the place of each address, a CDN's says nothing.
func (m atlas) weigh(answer policy.Error) (policy.Confidence, string) {
	const sink = "the resolver gives the address of a block page or sinkhole for them"
	elsewhere := len(m.answers[answer]) > 1 || answer == policy.TLSIntercepted && m.inspected
	switch answer {
	case policy.DNSSinkhole:
		return policy.Likely, sink
	case policy.HTTPBlockPage, policy.NotTLSReply:
		if !elsewhere {
			return policy.Likely, sink
		}
		return policy.Guess, sink + ", or a filter answers in the place of an address that they share"
	case policy.TLSIntercepted:
		if elsewhere {
			return "", ""
		}
		return policy.Guess, sink + ", or TLS is inspected on the way to an address that they share"
	}
	if m.passed.n == 0 {
		return "", ""
	}
	return policy.Guess, sink + ", or a filter cuts off the names or the address that they share"
}

// named says whether d is a host name and no bare address.
func named(d *destination) bool {
	_, bare := d.name.Addr()
	return !d.name.IsZero() && !bare
}
