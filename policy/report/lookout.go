package report

import (
	"net/netip"
	"slices"
	"time"

	"github.com/egressaudit/egressaudit/policy"
)

// DefaultBypassWindow is how long a connection is waited for where
// Options.BypassWindow is zero.
const DefaultBypassWindow = 30 * time.Second

// Limits of what is remembered to tell who goes around us.
const (
	maxParties  = 4096    // clients
	maxSuspects = 8192    // pairs of client and name with look-ups that no connection explains
	maxMarked   = 256     // suspects that one name or address has at a time
	maxSpans    = 1 << 16 // names and addresses that were connected to within the window
	maxAnswers  = 16      // addresses of one answer
	maxMarks    = 64      // of one suspect: as many as a glance has bits
	maxGlances  = maxEvidence
)

// lookout holds look-ups of listed names against connections. The two belong
// together where they have a mark in common, which is the name or an address of
// the answer, and are not further from each other than the window. What is left
// is suspect.
//
// Who asked may have asked for others. That is known of a client where another
// that never asked went to the address of the answer, which it must have had
// from somewhere, or where a look-up lies within the time in which we ourselves
// resolved that name.
type lookout struct {
	window   time.Duration
	parties  map[netip.Addr]party
	suspects map[uint64]*suspect // by client and name
	marks    map[uint64][]marked // by name, and by address
	spans    recency[extent]     // of connections, by whose and what mark
	scratch  []netip.Addr
}

// party is what is known of an address that clients have.
type party struct {
	asked     bool // a DNS question
	connected bool
	forwards  bool // asks for others
}

// extent is a time in which look-ups are explained.
type extent struct{ from, to time.Time }

func (e extent) covers(t time.Time) bool {
	return !t.Before(e.from) && !t.After(e.to) && !e.to.IsZero()
}

func newLookout(window time.Duration) lookout {
	if window <= 0 {
		window = DefaultBypassWindow
	}
	return lookout{
		window: window, parties: map[netip.Addr]party{}, suspects: map[uint64]*suspect{}, marks: map[uint64][]marked{},
		spans: newRecency[extent](window, maxSpans),
	}
}

// clone is a copy in which connections can be counted without a trace; look-ups
// can not.
func (l *lookout) clone() lookout {
	c := *l
	c.parties, c.suspects, c.marks = make(map[netip.Addr]party, len(l.parties)), make(map[uint64]*suspect, len(l.suspects)), make(map[uint64][]marked, len(l.marks))
	for a, p := range l.parties {
		c.parties[a] = p
	}
	copies := make(map[*suspect]*suspect, len(l.suspects))
	for k, s := range l.suspects {
		d := *s
		d.glances = slices.Clone(s.glances)
		copies[s], c.suspects[k] = &d, &d
	}
	for k, list := range l.marks {
		to := make([]marked, len(list))
		for i, m := range list {
			to[i] = marked{copies[m.suspect], m.last}
		}
		c.marks[k] = to
	}
	c.spans, c.scratch = recency[extent]{crowded: l.spans.crowded}, nil
	return c
}

// know changes what is known of a client.
func (l *lookout) know(a netip.Addr, learn func(*party)) {
	p, known := l.parties[a]
	was := p
	learn(&p)
	if p != was && a.IsValid() && (known || len(l.parties) < maxParties) {
		l.parties[a] = p
	}
}

func asked(p *party)     { p.asked = true }
func connected(p *party) { p.connected = true }
func forwards(p *party)  { p.forwards = true }

// Whose a span is where it is no single client's.
const (
	orphan uint64 = 1 // of clients that never asked, and went to an address
	anyone uint64 = 2 // of all the others
)

// other is paired with a name for the time in which a look-up of it is explained
// by another one.
const other uint64 = 3

// lookup enters a look-up of host with success, made while within was recorded. It is false where there is no
// room to follow it.
func (l *lookout) lookup(s sight, host string, addrs []netip.Addr, within *stretch) bool {
	var room [1 + maxAnswers]uint64
	marks := append(room[:0], hashName(host))
	for _, a := range addrs {
		marks = append(marks, hashAddr(a))
	}
	client, shared := machine(s.Client.Addr()), false
	who := hashAddr(client)
	if l.reached(who, hashPair(other, marks[0]), s.at) {
		return true
	}
	for _, m := range marks {
		switch {
		case l.reached(who, m, s.at) || s.Workload != "" && l.reached(hashName(short(s.Workload)), m, s.at):
			l.beside(who, marks[0], s.at)
			return true
		case l.reached(orphan, m, s.at):
			l.know(client, forwards)
			l.beside(who, marks[0], s.at)
			return true
		}
		shared = shared || l.reached(anyone, m, s.at)
	}
	sus := l.suspect(hashPair(who, marks[0]), s, host)
	return sus != nil && l.add(sus, marks, glance{at: s.at, seq: s.seq, shared: shared, within: within})
}

// beside explains the look-ups of who for name that belong to one explained at t:
// clients ask for both families together, and go to one.
func (l *lookout) beside(who, name uint64, t time.Time) {
	v := visit{when: extent{t.Add(-retryTime), t.Add(retryTime)}, at: t}
	l.span(who, hashPair(other, name), v)
	if sus := l.suspects[hashPair(who, name)]; sus != nil {
		sus.explain(v.when, name)
		if len(sus.glances) == 0 {
			l.drop(sus)
		}
	}
}

func (l *lookout) reached(who, mark uint64, t time.Time) bool {
	young, old := l.spans.at(hashPair(who, mark))
	return young.covers(t) || old.covers(t)
}

// visit is a connection as the lookout sees it.
type visit struct {
	client    netip.Addr
	workload  string // "": unknown
	when      extent // the window on both sides included
	orphan    bool   // came to an address, from a client that never asked
	resolving extent // when we resolved the name ourselves; zero: we did not
	at        time.Time
}

// connection enters a connection: it explains what its client looked up, and
// what others looked up on its behalf.
func (l *lookout) connection(s sight) {
	client := machine(s.Client.Addr())
	_, bare := bareTarget(s)
	v := visit{
		client: client, workload: short(s.Workload), when: extent{s.begun.Add(-l.window), s.at.Add(l.window)},
		orphan: bare && !l.parties[client].asked || !client.IsValid(), at: s.at,
	}
	switch {
	case !s.until.IsZero():
		v.when.to = s.until.Add(l.window)
	case s.Open: // one of too many to wait for its end
		v.when.to = s.at.Add(longest)
	}
	if ms := s.ResolveMS; !bare && ms > 0 && ms < longest.Milliseconds() {
		v.resolving = extent{s.begun.Add(-clockSlack), s.begun.Add(time.Duration(ms)*time.Millisecond + clockSlack)}
	}
	l.know(client, connected)
	var room [8]uint64
	for _, m := range marksOf(room[:0], s) {
		l.visit(v, m)
	}
}

// clockSlack is how much the times of two records may be off for durations in
// whole milliseconds.
const clockSlack = 2 * time.Millisecond

func (l *lookout) visit(v visit, mark uint64) {
	list := l.marks[mark]
	for i := len(list) - 1; i >= 0 && !list[i].last.Before(v.when.from); i-- { // drop moves what was visited
		sus := list[i].suspect
		var when []time.Time
		own := sus.client == v.client || v.workload != "" && sus.workload == v.workload
		if own || v.orphan {
			when = sus.explain(v.when, mark)
		}
		if len(when) == 0 {
			when = sus.explain(v.resolving, mark)
		}
		if len(when) == 0 {
			sus.share(v.when, mark)
		} else if !own {
			l.know(sus.client, forwards)
		}
		for _, t := range when {
			l.beside(hashAddr(sus.client), sus.marks[0], t)
		}
		if len(sus.glances) == 0 {
			l.drop(sus)
		}
	}
	l.span(hashAddr(v.client), mark, v)
	if v.workload != "" {
		l.span(hashName(v.workload), mark, v)
	}
	if v.orphan {
		l.span(orphan, mark, v)
	} else {
		l.span(anyone, mark, v)
	}
}

func (l *lookout) span(who, mark uint64, v visit) {
	k := hashPair(who, mark)
	if l.spans.now == nil {
		return
	}
	e, old := l.spans.at(k)
	if e.to.IsZero() {
		e = old
	}
	if e.to.IsZero() || v.when.from.After(e.to) || v.when.to.Before(e.from) {
		e = v.when
	}
	widen(&e.from, &e.to, v.when.from, v.when.to)
	l.spans.put(k, e, v.at)
}

// marksOf appends the hashes of the names and addresses that a connection was
// about.
func marksOf(dst []uint64, s sight) []uint64 {
	texts := [...]string{s.Name, s.Asked, s.SNI, s.Resolved, s.Host}
	for i, t := range texts {
		if t == "" || slices.Contains(texts[:i], t) {
			continue
		}
		n, err := policy.ParseName(t)
		if err != nil {
			continue
		}
		if a, bare := n.Addr(); bare {
			dst = addHash(dst, hashAddr(machine(a)))
		} else {
			dst = addHash(dst, hashName(n.String()))
		}
	}
	if a := machine(s.Address.Addr()); a.IsValid() && s.parent == "" {
		dst = addHash(dst, hashAddr(a))
	}
	return dst
}

func addHash(list []uint64, h uint64) []uint64 {
	if slices.Contains(list, h) {
		return list
	}
	return append(list, h)
}

// bareTarget is the address that the client itself chose; ok is false where it
// asked us for a name, which we resolve.
func bareTarget(s sight) (a netip.Addr, ok bool) {
	if n, err := policy.ParseName(s.Asked); err == nil {
		if a, ok = n.Addr(); ok {
			return machine(a), true
		}
	}
	if s.Listener != "redirect" && s.Listener != "tproxy" {
		return netip.Addr{}, false
	}
	if s.parent != "" {
		return netip.Addr{}, true // its address is the parent's
	}
	return machine(s.Address.Addr()), true
}
