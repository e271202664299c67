package report

import (
	"net/netip"
	"slices"
	"time"
)

// suspect is one client and a name that it looked up, as far as no connection
// explains it.
type suspect struct {
	client   netip.Addr // zero: unknown
	workload string     // "": not known
	owner    string     // of it
	host     string
	marks    []uint64 // of the name, and of the addresses of the answers
	crowded  bool     // there were more addresses
	glances  []glance // the first ones, and the last
	more     int      // between them
}

// glance is one look-up.
type glance struct {
	at     time.Time
	seq    uint64
	marks  uint64   // bit i: it has marks[i] of its suspect
	shared bool     // others went there meanwhile
	within *stretch // of recording
}

// marked is a suspect in the list of one of its marks, and when its last look-up
// with that mark was. The list is in the order of that time, so that a connection
// visits those alone that it may explain.
type marked struct {
	*suspect
	last time.Time
}

// suspect is the one with key k, made where there is room for it, else nil.
func (l *lookout) suspect(k uint64, s sight, host string) *suspect {
	sus := l.suspects[k]
	if sus == nil && len(l.suspects) < maxSuspects {
		sus = &suspect{client: machine(s.Client.Addr()), host: host}
		l.suspects[k] = sus
	}
	if sus != nil && sus.workload == "" {
		sus.workload, sus.owner = keep(s.Workload), keep(fact(s.Detail, "owner"))
	}
	return sus
}

// add enters a look-up that nothing explains yet. It is false, and the suspect
// dropped, where a connection could not find it by one of its marks.
func (l *lookout) add(s *suspect, marks []uint64, g glance) bool {
	for _, m := range marks {
		i := slices.Index(s.marks, m)
		switch {
		case i >= 0:
		case len(s.marks) >= maxMarks:
			s.crowded = true
			continue
		case len(l.marks[m]) >= maxMarked:
			l.drop(s)
			return false
		default:
			i = len(s.marks)
			s.marks = append(s.marks, m)
			l.marks[m] = append(l.marks[m], marked{s, g.at})
		}
		rise(l.marks[m], s, g.at)
		g.marks |= 1 << i
	}
	if n := len(s.glances); n < maxGlances {
		if n == cap(s.glances) && n >= maxGlances/3 { // no room for more than there can be
			s.glances = slices.Grow(s.glances, maxGlances-n)
		}
		s.glances = append(s.glances, g)
		return true
	}
	s.more++
	s.glances[maxGlances-1] = g
	return true
}

// rise moves s in the list of a mark to where a look-up at t belongs.
func rise(list []marked, s *suspect, t time.Time) {
	i := entryOf(list, s)
	e := list[i]
	if t.After(e.last) {
		e.last = t
	}
	for ; i+1 < len(list) && list[i+1].last.Before(e.last); i++ {
		list[i] = list[i+1]
	}
	for ; i > 0 && list[i-1].last.After(e.last); i-- {
		list[i] = list[i-1]
	}
	list[i] = e
}

// entryOf is the index of s in the list of a mark, or -1.
func entryOf(list []marked, s *suspect) int {
	i := len(list) - 1
	for i >= 0 && list[i].suspect != s {
		i--
	}
	return i
}

// drop forgets s.
func (l *lookout) drop(s *suspect) {
	delete(l.suspects, hashPair(hashAddr(s.client), hashName(s.host)))
	for _, m := range s.marks {
		l.unmark(s, m)
	}
}

func (l *lookout) unmark(s *suspect, m uint64) {
	list := l.marks[m]
	i := entryOf(list, s)
	if i < 0 {
		return
	}
	if l.marks[m] = slices.Delete(list, i, i+1); len(list) == 1 {
		delete(l.marks, m)
	}
}

// having is a test for look-ups of a time that have a mark of s.
func (s *suspect) having(e extent, mark uint64) func(glance) bool {
	bit := uint64(1) << slices.Index(s.marks, mark)
	return func(g glance) bool { return g.marks&bit != 0 && e.covers(g.at) }
}

// explain takes away the look-ups of a time that have a mark of s, and says when
// they were.
func (s *suspect) explain(e extent, mark uint64) (when []time.Time) {
	has := s.having(e, mark)
	s.glances = slices.DeleteFunc(s.glances, func(g glance) bool {
		if !has(g) {
			return false
		}
		when = append(when, g.at)
		return true
	})
	if len(when) > 0 {
		s.more = 0 // how many of them are left cannot be told
	}
	return when
}

func (s *suspect) share(e extent, mark uint64) {
	has := s.having(e, mark)
	for i, g := range s.glances {
		s.glances[i].shared = g.shared || has(g)
	}
}
