package report

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strings"
)

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
	byEnd := shelve(come)
	m.one(ChangeRenamed, func(o *entry, free func(*entry) bool) *entry {
		return byEnd.over(o, func(n *entry) bool { return free(n) && o.host.Covers(n.host) }, alike)
	})
	byHost := map[string][]*entry{}
	for _, n := range m.come {
		byHost[n.host.String()] = append(byHost[n.host.String()], n)
	}
	m.one(ChangePort, func(o *entry, _ func(*entry) bool) *entry {
		list := byHost[o.host.String()]
		if len(list) == 0 {
			return nil
		}
		byHost[o.host.String()] = list[1:]
		return list[0]
	})
	wide, parts := split(m.gone, m.come)
	m.many(ChangeNarrowed, wide, parts)
	wide, parts = split(m.come, m.gone)
	m.many(ChangeWidened, wide, parts)
	return m
}

// shelf finds the endpoints that cover another without asking each: by the
// literal end of their hosts, and their port.
type shelf map[string][]*entry

func shelve(list []*entry) shelf {
	s := shelf{}
	for _, e := range list {
		k := shelfKey(e.host.Suffix(), e.port)
		s[k] = append(s[k], e)
	}
	return s
}

func shelfKey(end string, port uint16) string { return fmt.Sprint(port, " ", end) }

// near are the entries that may cover e: no others do.
func (s shelf) near(e *entry) iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		for end, more := e.host.String(), true; more; {
			for _, o := range s[shelfKey(end, e.port)] {
				if !yield(o) {
					return
				}
			}
			more = end != ""
			_, end, _ = strings.Cut(end, ".")
		}
	}
}

// over is the entry that covers e and fits, of several the greatest by rank, and
// of those the first one of its catalog; nil where there is none.
func (s shelf) over(e *entry, fits func(*entry) bool, rank func(a, b *entry) int) *entry {
	var best *entry
	for o := range s.near(e) {
		if o.host.Covers(e.host) && fits(o) && (best == nil || cmp.Or(rank(o, best), best.place-o.place) > 0) {
			best = o
		}
	}
	return best
}

func anyEntry(*entry) bool  { return true }
func alike(_, _ *entry) int { return 0 }

// one pairs each entry that is gone with the one that find gives for it; free
// says of an entry that nobody took it.
func (m *matching) one(k ChangeKind, find func(o *entry, free func(*entry) bool) *entry) {
	taken := map[*entry]bool{}
	m.gone = slices.DeleteFunc(slices.Clone(m.gone), func(o *entry) bool {
		n := find(o, func(n *entry) bool { return !taken[n] })
		if n == nil {
			return false
		}
		taken[n] = true
		m.pairs = append(m.pairs, pairing{k, []*entry{o}, []*entry{n}})
		return true
	})
	m.come = slices.DeleteFunc(slices.Clone(m.come), func(n *entry) bool { return taken[n] })
}

// split finds, for each of hosts, the most specific of all that covers it.
// wide are those that cover any.
func split(all, hosts []*entry) (wide []*entry, parts map[*entry][]*entry) {
	parts = map[*entry][]*entry{}
	byEnd := shelve(all)
	for _, h := range hosts {
		best := byEnd.over(h, anyEntry, func(a, b *entry) int { return a.host.Compare(b.host) })
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
