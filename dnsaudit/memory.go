package dnsaudit

import (
	"container/list"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// sharedBy is how many names one address is remembered for, the latest ones.
	sharedBy = 16
	// Clients keep answers for a while whatever the TTL says, and none keeps one
	// for ever.
	rememberAtLeast = time.Minute
	rememberAtMost  = 24 * time.Hour
	// defaultMemory is how many addresses NewMemory(0) holds.
	defaultMemory = 1 << 16
)

// Memory knows for a while which names an address was the answer to: enough to
// tell what a bare address may have meant, never to decide by. Safe for use by
// several goroutines at once.
type Memory struct {
	max int

	mu     sync.Mutex
	places map[string]*places // by name
	known  map[netip.Addr]*list.Element
	latest *list.List // of *remembered, the one learned last in front
}

// remembered is what is known of one address, the latest name in front.
type remembered struct {
	addr  netip.Addr
	names []alias
}

type alias struct {
	name  string
	until time.Time
}

// places are the addresses that a name was answered with.
type places struct {
	addrs  []netip.Addr
	more   bool // than are kept
	linked bool // by a private link
	until  time.Time
}

// maxPlaces is how many addresses are kept of one name.
const maxPlaces = 32

// NewMemory makes a Memory of at most max addresses, 65536 for 0: beyond it, the
// one that was the answer least recently is forgotten. Each is remembered for
// the 16 latest names, and as many names for their addresses as there may be
// addresses.
func NewMemory(max int) *Memory {
	if max <= 0 {
		max = defaultMemory
	}
	return &Memory{max: max, places: make(map[string]*places), known: make(map[netip.Addr]*list.Element), latest: list.New()}
}

// Learn remembers that name was answered with addrs at a time, for as long as
// ttl says, a minute at least and a day at most; linked says that the answer went
// through a private link. Names are lower case without the final dot, as in an
// Observation.
func (m *Memory) Learn(name string, addrs []netip.Addr, linked bool, ttl time.Duration, now time.Time) {
	until := now.Add(min(max(ttl, rememberAtLeast), rememberAtMost))
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range addrs {
		m.entry(a.Unmap()).learn(alias{name, until}, now)
	}
	for len(m.known) > m.max {
		m.forget(m.latest.Back())
	}
	p := m.place(name, addrs, until, now)
	p.linked = p.linked || linked
}

// place remembers the addresses of a name, beside those that still count.
func (m *Memory) place(name string, addrs []netip.Addr, until, now time.Time) *places {
	p := m.places[name]
	if p == nil || !now.Before(p.until) {
		for other := range m.places { // any one, where there are too many
			if len(m.places) < m.max {
				break
			}
			delete(m.places, other)
		}
		p = &places{}
		m.places[name] = p
	}
	for _, a := range addrs {
		switch a = a.Unmap(); {
		case slices.Contains(p.addrs, a):
		case len(p.addrs) == maxPlaces:
			p.more = true
		default:
			p.addrs = append(p.addrs, a)
		}
	}
	if until.After(p.until) {
		p.until = until
	}
	return p
}

// Elsewhere says that name was lately answered with other addresses than addr,
// and never with that one.
func (m *Memory) Elsewhere(name string, addr netip.Addr, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.places[name]
	return p != nil && now.Before(p.until) && !p.more && !slices.Contains(p.addrs, addr.Unmap())
}

// Unlinked says that name was lately answered with addr, and by no private link.
func (m *Memory) Unlinked(name string, addr netip.Addr, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.places[name]
	return p != nil && now.Before(p.until) && !p.linked && slices.Contains(p.addrs, addr.Unmap())
}

// Names are the names that addr was the answer to, and still is at now, the
// latest first; nil where there are none. The slice is the caller's.
func (m *Memory) Names(addr netip.Addr, now time.Time) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, known := m.known[addr.Unmap()]
	if !known {
		return nil
	}
	var names []string
	for _, a := range e.Value.(*remembered).names {
		if now.Before(a.until) {
			names = append(names, a.name)
		}
	}
	if names == nil {
		m.forget(e)
	}
	return names
}

func (m *Memory) entry(a netip.Addr) *remembered {
	e, known := m.known[a]
	if !known {
		e = m.latest.PushFront(&remembered{addr: a})
		m.known[a] = e
	}
	m.latest.MoveToFront(e)
	return e.Value.(*remembered)
}

func (m *Memory) forget(e *list.Element) {
	delete(m.known, m.latest.Remove(e).(*remembered).addr)
}

// learn puts a in front, and keeps the longer time where the name was known.
func (r *remembered) learn(a alias, now time.Time) {
	if i := slices.IndexFunc(r.names, func(b alias) bool { return b.name == a.name }); i >= 0 {
		if r.names[i].until.After(a.until) {
			a.until = r.names[i].until
		}
		r.names = slices.Delete(r.names, i, i+1)
	}
	r.names = slices.DeleteFunc(r.names, func(b alias) bool { return !now.Before(b.until) })
	r.names = slices.Insert(r.names, 0, a)
	r.names = r.names[:min(len(r.names), sharedBy)]
}
