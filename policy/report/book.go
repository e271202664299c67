package report

import (
	"maps"
	"slices"
	"time"

	"github.com/egressaudit/egressaudit/policy"
)

// Limits of what clients can make us remember.
const (
	maxHosts    = 512  // of an endpoint
	maxUnlisted = 4096 // destinations that no catalog lists
	maxLookups  = 4096 // unlisted names that were looked up
	maxInside   = 1024 // destinations inside the cluster
	maxProbes   = 4096 // destinations that we probed
	maxPairs    = 64   // of names asked for and said in the ClientHello
)

// otherHosts is the host of the row for what is above a limit.
const otherHosts = "(other)"

// book is everything that is remembered of the observations.
type book struct {
	index    *policy.Index
	dests    map[key]*destination
	hosts    map[*policy.Endpoint]int          // destinations of an endpoint
	sizes    [classes]int                      // destinations that no endpoint has
	more     map[*policy.Endpoint]*destination // folded hosts of an endpoint
	other    [classes]*destination             // folded destinations that no endpoint has
	probes   map[key]note                      // issuers that our own handshakes saw
	pairs    map[pair]note
	morePair int
	sights   int // observations of clients, guard denials apart
	earlier  int // sights of the sessions before the last
	questions
	events  events
	lookout lookout
	hard    hardcoded
	doors   doors
	unseen  struct{ ech, bare, unparsed int }
	trial
	scratch []*policy.Endpoint
}

// key is where an attempt went. Look-ups have a key of their own, without port.
type key struct {
	host   string
	port   uint16
	lookup bool
}

// class says which limit holds for a destination.
type class int

const (
	unlisted class = iota
	lookedUp
	inside
	classes
	listed
)

// limits are those of the classes that no endpoint bounds.
var limits = [classes]int{unlisted: maxUnlisted, lookedUp: maxLookups, inside: maxInside}

// pair is a name that was asked for, and another that the ClientHello said.
type pair struct{ asked, sni string }

// note is a text with the records that show it.
type note struct {
	text string
	evidence
}

// destination is what is remembered of one key.
type destination struct {
	key
	name      policy.Name // zero: the host is no name
	endpoints []*policy.Endpoint
	class     class
	folded    bool // stands for many
	mute      int  // of what is folded: connections that were abandoned
	tally
	lookups
	lane lane
}

func newBook(x *policy.Index, window time.Duration) *book {
	return &book{
		index:  x,
		dests:  map[key]*destination{},
		hosts:  map[*policy.Endpoint]int{},
		more:   map[*policy.Endpoint]*destination{},
		probes: map[key]note{},
		pairs:  map[pair]note{},

		questions: newQuestions(), lookout: newLookout(window), hard: newHardcoded(), doors: newDoors(),
		trial: trial{stretch: &stretch{}},
	}
}

// clone is a copy on which open connections can be counted without a trace.
func (b *book) clone() *book {
	c := *b
	c.dests = maps.Clone(b.dests)
	for k, d := range c.dests {
		c.dests[k] = d.clone()
	}
	c.hosts = maps.Clone(b.hosts)
	c.more = maps.Clone(b.more)
	for e, d := range c.more {
		c.more[e] = d.clone()
	}
	for i, d := range c.other {
		if d != nil {
			c.other[i] = d.clone()
		}
	}
	c.pairs = maps.Clone(b.pairs)
	c.lookout, c.hard, c.doors = b.lookout.clone(), b.hard.clone(), b.doors.clone()
	c.scratch = nil
	return &c
}

// clone shares what is only ever appended to, clipped so that both may go on.
func (d *destination) clone() *destination {
	c := *d
	c.workloads = slices.Clip(c.workloads)
	for _, e := range []*evidence{&c.seen, &c.failures, &c.intercepts, &c.questions, &c.misses} {
		e.seqs = slices.Clip(e.seqs)
	}
	c.traces = d.traces.clone()
	c.lane = d.lane.clone()
	return &c
}

// count enters one observation of a client.
func (b *book) count(s sight) {
	b.doors.enter(s)
	if s.kind == policy.KindQuery {
		b.question(s)
		return
	}
	k, name, ok := destinationOf(s)
	if !ok {
		return
	}
	if !guardDenial(s) {
		b.sights++
	}
	b.look(s, name)
	b.lookout.connection(s)
	if b.session.dns {
		b.hard.connection(s, b.given)
	}
	if d := b.destination(k); d != nil {
		d.enter(s)
		return
	}
	b.fold(k, s)
}

// destination is what is remembered of k, made where there is room for it. It
// is nil where there is none: scratch then has the endpoints of k.
func (b *book) destination(k key) *destination {
	if d := b.dests[k]; d != nil {
		return d
	}
	k.host = keep(k.host)
	name, _ := policy.ParseName(k.host)
	d := &destination{key: k, name: name}
	b.scratch = b.match(b.scratch[:0], d)
	d.class = classify(d, len(b.scratch) > 0)
	if d.class != listed && b.sizes[d.class] >= limits[d.class] ||
		slices.ContainsFunc(b.scratch, func(e *policy.Endpoint) bool { return b.hosts[e] >= maxHosts }) {
		return nil
	}
	if d.class != listed {
		b.sizes[d.class]++
	}
	for _, e := range b.scratch {
		b.hosts[e]++
	}
	d.endpoints = slices.Clone(b.scratch)
	b.dests[k] = d
	return d
}

// fold enters s at the endpoints in scratch, or at its class, without its host.
func (b *book) fold(k key, s sight) {
	if len(b.scratch) == 0 {
		name, _ := policy.ParseName(k.host)
		c := classify(&destination{key: k, name: name}, false)
		b.enterOther(&b.other[c], c, s)
		return
	}
	for _, e := range inForce(b.scratch, s.at, s.at) {
		d := b.more[e]
		b.enterOther(&d, listed, s)
		d.endpoints = []*policy.Endpoint{e}
		b.more[e] = d
	}
}

func (b *book) enterOther(d **destination, c class, s sight) {
	if *d == nil {
		*d = &destination{key: key{host: otherHosts}, class: c, folded: true}
	}
	before := (*d).abandoned
	if s.kind == policy.KindQuery {
		s.Observation = folded(s.Observation)
	}
	(*d).enter(s)
	if s.kind != policy.KindQuery {
		(*d).mute += (*d).abandoned - before
	}
}

// match appends the endpoints of every catalog that d meets, whatever their
// days. A look-up meets an endpoint with any port; a connection without a port
// is a malformed record and meets none, for port 0 is any port to the index.
func (b *book) match(dst []*policy.Endpoint, d *destination) []*policy.Endpoint {
	if d.name.IsZero() || d.port == 0 && !d.lookup {
		return dst
	}
	return b.index.Match(dst, d.name, d.port)
}

// inForce reduces found to the endpoints that hold at some time of the trial,
// and of those to the most specific ones of each catalog (Index.Best, which
// knows neither days nor look-ups without a port).
func inForce(found []*policy.Endpoint, from, to time.Time) []*policy.Endpoint {
	valid := make([]*policy.Endpoint, 0, len(found))
	for _, e := range found {
		if holds(e.Requirement, from, to) {
			valid = append(valid, e)
		}
	}
	out := make([]*policy.Endpoint, 0, len(valid))
	for _, e := range valid {
		if !slices.ContainsFunc(valid, func(o *policy.Endpoint) bool {
			return o.Catalog == e.Catalog && o.Port == e.Port && o.Host.Compare(e.Host) > 0
		}) {
			out = append(out, e)
		}
	}
	return out
}

// holds says whether r holds at any time between from and to.
func holds(r *policy.Requirement, from, to time.Time) bool {
	return (r.From.IsZero() || !to.Before(r.From)) && (r.Until.IsZero() || from.Before(r.Until))
}

// look takes from a connection what is not about its destination.
func (b *book) look(s sight, name policy.Name) {
	_, bare := name.Addr()
	switch s.SNIState {
	case policy.SNIECH:
		b.unseen.ech++
	case policy.SNIUnparsed:
		b.unseen.unparsed++
	case policy.SNIAbsent:
		if bare {
			b.unseen.bare++
		}
	}
	if s.SNI == "" || s.Asked == "" || s.SNI == s.Asked {
		return
	}
	asked, err := policy.ParseName(s.Asked)
	if err != nil {
		return
	}
	if _, bare := asked.Addr(); bare {
		if s.Detail["sni_elsewhere"] == true {
			b.mismatch(pair{asked.String(), short(s.SNI)}, s.seq)
		}
		return
	}
	if sni, err := policy.ParseName(s.SNI); err != nil || sni != asked {
		b.mismatch(pair{asked.String(), short(s.SNI)}, s.seq)
	}
}

func (b *book) mismatch(p pair, seq uint64) {
	n, ok := b.pairs[p]
	if !ok && len(b.pairs) >= maxPairs {
		b.morePair++
		return
	}
	if !ok {
		p = pair{keep(p.asked), keep(p.sni)}
	}
	n.seqs = slices.Clip(n.seqs)
	n.add(seq)
	b.pairs[p] = n
}

// probe remembers what a handshake of our own saw of a destination. It is no
// attempt of a client.
func (b *book) probe(s sight) {
	k, _, ok := destinationOf(s)
	if !ok || s.Error != policy.TLSIntercepted && s.Detail["trusted"] != false {
		return
	}
	n, known := b.probes[k]
	if !known && len(b.probes) >= maxProbes {
		return
	}
	k.host = keep(k.host)
	if n.text == "" {
		n.text = keep(fact(s.Detail, "issuer"))
	}
	n.seqs = slices.Clip(n.seqs)
	n.add(s.seq)
	b.probes[k] = n
}
