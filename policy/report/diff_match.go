package report

import "slices"

// pairing is endpoints of an old catalog, and those of the new one that took
// their place.
type pairing struct {
	kind ChangeKind
	old  []*entry
	now  []*entry
}

// matching brings together what is gone and what has come.
type matching struct {
	gone, come []*entry // nothing took their place; they took nobody's
	pairs      []pairing
}

// match pairs what means the same, then what is on another port, then wildcards
// and the hosts within them.
func match(gone, come []*entry) matching {
	m := matching{gone: gone, come: come}
	m.one(ChangeRenamed, func(o, n *entry) bool {
		return o.port == n.port && o.host.Covers(n.host) && n.host.Covers(o.host)
	})
	m.one(ChangePort, func(o, n *entry) bool { return o.host.String() == n.host.String() })
	wide, parts := split(m.gone, m.come)
	m.many(ChangeNarrowed, wide, parts)
	wide, parts = split(m.come, m.gone)
	m.many(ChangeWidened, wide, parts)
	return m
}

// one pairs each entry that is gone with the first that fits.
func (m *matching) one(k ChangeKind, fits func(o, n *entry) bool) {
	m.gone = slices.DeleteFunc(slices.Clone(m.gone), func(o *entry) bool {
		i := slices.IndexFunc(m.come, func(n *entry) bool { return fits(o, n) })
		if i < 0 {
			return false
		}
		m.pairs = append(m.pairs, pairing{k, []*entry{o}, []*entry{m.come[i]}})
		m.come = slices.Delete(slices.Clone(m.come), i, i+1)
		return true
	})
}

// split finds, for each of hosts, the most specific of all that covers it.
// wide are those that cover any.
func split(all, hosts []*entry) (wide []*entry, parts map[*entry][]*entry) {
	parts = map[*entry][]*entry{}
	for _, h := range hosts {
		var best *entry
		for _, w := range all {
			if w.port == h.port && w.host.Covers(h.host) && (best == nil || w.host.Compare(best.host) > 0) {
				best = w
			}
		}
		if best != nil {
			parts[best] = append(parts[best], h)
		}
	}
	for _, w := range all {
		if parts[w] != nil {
			wide = append(wide, w)
		}
	}
	return wide, parts
}

// many enters each of wide with its parts.
func (m *matching) many(k ChangeKind, wide []*entry, parts map[*entry][]*entry) {
	taken := map[*entry]bool{}
	for _, w := range wide {
		p := pairing{k, []*entry{w}, parts[w]}
		if k == ChangeWidened {
			p.old, p.now = p.now, p.old
		}
		m.pairs = append(m.pairs, p)
		for _, e := range append(slices.Clone(parts[w]), w) {
			taken[e] = true
		}
	}
	left := func(list []*entry) []*entry {
		return slices.DeleteFunc(slices.Clone(list), func(e *entry) bool { return taken[e] })
	}
	m.gone, m.come = left(m.gone), left(m.come)
}
