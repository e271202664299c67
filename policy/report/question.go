package report

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/publicsuffix"

	"github.com/egressaudit/egressaudit/policy"
)

const (
	maxGiven  = 1 << 16 // addresses that look-ups gave
	maxStrays = 64      // names with a search suffix that were answered
	maxAsked  = 1 << 14 // names in no list that were asked within the time of a retry
	maxHints  = 256     // names with hints of HTTP/3 or Encrypted ClientHello
)

// retryTime is how long a stub resolver tries search suffixes for one name.
const retryTime = 5 * time.Second

// questions is what is remembered of DNS questions beside the look-ups of each
// destination.
type questions struct {
	total     int
	given     map[netip.Addr]struct{} // by any answer
	overfull  bool                    // given is not all
	strays    map[pair]stray
	moreStray int
	recent    recency[time.Time]      // names in no list, by client and name
	waiting   recency[[]*destination] // look-ups that failed, by client and each name that may have been meant
	hints     map[string]hint
	moreHint  int
}

// stray is a name that was meant, and what its search suffix gave.
type stray struct {
	evidence
	client netip.Addr
	answer string
}

func newQuestions() questions {
	return questions{
		given: map[netip.Addr]struct{}{}, strays: map[pair]stray{}, hints: map[string]hint{},
		recent: newRecency[time.Time](retryTime, maxAsked), waiting: newRecency[[]*destination](retryTime, maxAsked),
	}
}

// question enters a DNS question.
func (b *book) question(s sight) {
	text := cmp.Or(s.Name, s.Asked)
	n, err := policy.ParseName(text)
	if err == nil {
		text = n.String()
	}
	if text = short(text); text == "" {
		return
	}
	b.total++
	b.lookout.know(machine(s.Client.Addr()), asked)
	q := &question{sight: s, text: text, name: n, addrs: b.readAnswers(s.Answers)}
	switch {
	case family(s.Type) < 0:
		b.hint(q)
	case inCluster(n) && !b.lists(n):
		b.indoors(q)
	default:
		b.lookUp(q)
	}
}

// question is a question on its way into the book.
type question struct {
	sight
	text  string
	name  policy.Name
	addrs []netip.Addr // of the answer
}

func (q *question) succeeded() bool { return q.Outcome == policy.OK && len(q.Answers) > 0 }

// who is the key of q's client and a name.
func (q *question) who(name string) uint64 {
	return hashPair(hashAddr(machine(q.Client.Addr())), hashName(name))
}

// readAnswers are the first addresses in the texts of answers. All of them count
// as given.
func (b *book) readAnswers(answers []string) []netip.Addr {
	b.lookout.scratch = b.lookout.scratch[:0]
	for _, text := range answers {
		for at := 0; at < len(text); {
			end := at
			for end < len(text) && addressByte(text[end]) {
				end++
			}
			if word := text[at:end]; strings.ContainsAny(word, ".:") {
				if a, err := netip.ParseAddr(word); err == nil {
					b.give(machine(a))
				}
			}
			at = end + 1
		}
	}
	return b.lookout.scratch
}

func addressByte(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F' || c == '.' || c == ':'
}

func (b *book) give(a netip.Addr) {
	if l := &b.lookout; len(l.scratch) < maxAnswers && !slices.Contains(l.scratch, a) {
		l.scratch = append(l.scratch, a)
	}
	if _, known := b.given[a]; known {
		return
	}
	if b.overfull = b.overfull || len(b.given) >= maxGiven; !b.overfull {
		b.given[a] = struct{}{}
	}
}

// lookUp enters a look-up of a name outside the cluster.
func (b *book) lookUp(q *question) {
	k := key{host: q.text, lookup: true}
	d := b.dests[k]
	inList := d != nil && d.class == listed || d == nil && b.lists(q.name)
	if !inList && b.retried(q) {
		return
	}
	if !guardDenial(q.sight) {
		b.sights++
	}
	if d = b.destination(k); d == nil {
		b.fold(k, q.sight)
		return
	}
	d.lane.add(q.begun, q.beat())
	d.lookups.add(q.sight)
	switch {
	case !inList:
		b.remember(q, d)
	case q.succeeded():
		d.unfollowed = !b.lookout.lookup(q.sight, d.host, q.addrs, b.stretch) || d.unfollowed
	}
}

// lists says whether a catalog lists n on any port, on any day.
func (b *book) lists(n policy.Name) bool {
	b.scratch = b.index.Match(b.scratch[:0], n, 0)
	return len(b.scratch) > 0
}

// stems calls f for the names that text may have been meant for, if its end is a
// search suffix, the longest first, until f is true.
func stems(text string, f func(stem string) bool) bool {
	for i := strings.LastIndexByte(text, '.'); i > 0; i = strings.LastIndexByte(text[:i], '.') {
		if f(text[:i]) {
			return searchable(text[i+1:])
		}
	}
	return false
}

// searchable says whether suffix can be a search suffix: no public suffix is
// ("quay.io" is not meant by "quay.io.com").
func searchable(suffix string) bool {
	s, icann := publicsuffix.PublicSuffix(suffix)
	return !icann || s != suffix
}

// retried says whether q is out of the count, for a listed name was meant, or
// one that the same client just asked for.
func (b *book) retried(q *question) bool {
	meant, found := b.listedStem(q.text)
	inList := found
	if !found {
		found = stems(q.text, func(stem string) bool { meant = stem; return b.justAsked(q, stem) })
	}
	if found && q.succeeded() {
		b.stray(q, meant, inList)
	}
	return found
}

// listedStem is the name in a catalog that text was meant for.
func (b *book) listedStem(text string) (meant string, found bool) {
	found = stems(text, func(stem string) bool {
		meant = stem
		n, err := policy.ParseName(stem)
		return err == nil && b.lists(n)
	})
	return meant, found
}

func (b *book) justAsked(q *question, name string) bool {
	young, old := b.recent.at(q.who(name))
	return soon(young, q.at) || soon(old, q.at)
}

func soon(a, b time.Time) bool { return !a.IsZero() && a.Sub(b).Abs() <= retryTime }

// remember holds q against later look-ups of the same client: as the name that
// was meant by those that failed just before it, and, where it failed itself, as
// a retry of one that comes just behind.
func (b *book) remember(q *question, d *destination) {
	b.meant(q)
	if d.retry || q.succeeded() || q.Outcome == policy.Denied {
		return
	}
	stems(q.text, func(stem string) bool {
		k := q.who(stem)
		list, old := b.waiting.at(k)
		if list == nil {
			list = old
		}
		if !slices.Contains(list, d) && len(list) < maxWords {
			b.waiting.put(k, append(slices.Clip(list), d), q.at)
		}
		return false
	})
}

// meant marks look-ups that failed just before as retries of q.
func (b *book) meant(q *question) {
	k := q.who(q.text)
	b.recent.put(k, q.at, q.at)
	young, old := b.waiting.at(k)
	for _, list := range [][]*destination{young, old} {
		for _, d := range list {
			d.retry = d.retry || soon(d.lookedLast, q.at) && searchable(d.host[min(len(d.host), len(q.text)+1):])
		}
	}
}

// indoors enters a look-up of a name inside the cluster, which is no matter by
// itself.
func (b *book) indoors(q *question) {
	if q.name.Within("svc") {
		b.meant(q)
	}
	if !q.succeeded() {
		return
	}
	if meant, found := b.listedStem(q.text); found {
		b.stray(q, meant, true)
		return
	}
	stems(q.text, func(stem string) bool {
		d := b.dests[key{host: stem, lookup: true}]
		if d == nil || !b.justAsked(q, stem) {
			return false
		}
		d.indoors = true
		return true
	})
}

// stray notes an answer to a search suffix. Where a catalog lists the name that
// was meant, that one counts as looked up, and as nothing more.
func (b *book) stray(q *question, meant string, listed bool) {
	if listed {
		if d := b.destination(key{host: meant, lookup: true}); d != nil {
			d.strayed = true
			d.questions.add(q.seq)
			widen(&d.lookedFirst, &d.lookedLast, q.begun, q.at)
		}
	}
	b.sights++
	p := pair{q.text, meant}
	n, known := b.strays[p]
	if !known && len(b.strays) >= maxStrays {
		b.moreStray++
		return
	}
	if !known {
		p = pair{keep(p.asked), keep(p.sni)}
		n = stray{client: machine(q.Client.Addr()), answer: keep(q.Answers[0])}
	}
	n.add(q.seq)
	b.strays[p] = n
}
