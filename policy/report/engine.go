package report

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/egressaudit/egressaudit/policy"
)

// Options say what records are held against.
type Options struct {
	Index    *policy.Index     // compiled from Catalogs; nil: compiled by New
	Catalogs []*policy.Catalog // in the order of the report
	Scopes   []string          // only these count as required; nil: all
	NoProxy  []string          // what goes around us by intent, beside what the ledger says
	// BypassWindow is how long before or after a look-up a connection may come to
	// explain it; 0 is DefaultBypassWindow.
	BypassWindow time.Duration
	// Anew asks that the last session observed something: a run that went on with the
	// ledger of earlier ones is not cleared by those.
	Anew    bool
	Files   []string // the ledgers as the user named them, for the reader
	Version string   // of the program that judges, for the reader
}

// Engine judges a trial while it runs. It keeps what the judgement needs, never
// the records; its memory is bounded (see the package comment). Its methods may
// be called at once.
type Engine struct {
	mu   sync.Mutex
	opt  Options
	book *book
	open map[string]sight // interim records, by id

	sides []*Engine // of each vantage alone
}

const maxOpen = 16384

// sight is one observation on its way into the book.
type sight struct {
	*policy.Observation
	kind   policy.Kind
	seq    uint64
	begun  time.Time
	at     time.Time // when it ended, or was told of
	until  time.Time // how long one that was open is known to have lasted; zero: as long as at
	parent string    // the parent proxy of the session, "" where NO_PROXY led around it

	vantage  string
	stretch  *stretch // of its session
	straight bool     // it is known that no parent stood between
}

// New makes an engine that has seen nothing.
func New(o Options) *Engine {
	if o.Index == nil {
		o.Index = policy.NewIndex(o.Catalogs...)
	}
	return &Engine{opt: o, book: newBook(o.Index, o.BypassWindow), open: map[string]sight{}}
}

// Build is the report over all records. An error among them is damage: it says
// that something is missing, and the verdict can no longer be clear.
func Build(o Options, records iter.Seq2[*policy.Record, error]) *Report {
	e := New(o)
	for r, err := range records {
		if err != nil {
			e.Damage(err)
		}
		if r != nil {
			e.Add(r)
		}
	}
	return e.Report()
}

// Add takes one record, in the order of the ledger. Nothing of r is retained.
func (e *Engine) Add(r *policy.Record) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.book.common(r)
	switch r.Kind {
	case policy.KindStart:
		if !e.book.renews(r) {
			e.settle()
		}
		e.book.start(r)
		e.book.earlier = e.book.sights
	case policy.KindStop:
		e.book.stop(r)
	case policy.KindMark:
		e.book.mark(r.Text, r.Time)
	case policy.KindEvent:
		e.book.befell(r)
	case policy.KindLost:
		e.book.lose(uint64(max(r.Count, 1)), r.Why)
	case policy.KindConnection, policy.KindRequest, policy.KindQuery:
		if r.Observation != nil {
			e.book.known(r)
			e.observe(r)
		}
	default:
		e.book.damage(fmt.Errorf("record %d is of the unknown kind %q", r.Seq, short(string(r.Kind))))
	}
}

// Damage says that the ledger is damaged: what is missing cannot be told.
func (e *Engine) Damage(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.book.damage(err)
}

// Lost says that n records were lost of which the ledger itself could not tell.
func (e *Engine) Lost(n uint64, why string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.book.lose(n, why)
}

// Report is the judgement of what was added so far.
func (e *Engine) Report() *Report { return e.judge().r }

func (e *Engine) judge() *judgement {
	e.mu.Lock()
	defer e.mu.Unlock()
	b, sides := e.book, []*judgement(nil)
	for _, s := range e.sides {
		sides = append(sides, s.judge())
	}
	if len(e.open) > 0 {
		b = b.clone()
		b.countOpen(e.open)
	}
	return judge(e.opt, b, sides)
}

func (e *Engine) observe(r *policy.Record) {
	b := e.book
	s := sight{Observation: r.Observation, seq: r.Seq, kind: r.Kind, parent: b.session.parent, vantage: r.Vantage, stretch: b.stretch}
	direct, _ := r.Detail["direct"].(bool)
	if direct {
		s.parent = ""
	}
	s.straight = s.parent == "" && (direct || b.sessions > 0)
	s.begun, s.at = span(r)
	b.phase(r.Phase, s.begun)
	if b.canary(s) || s.Origin == policy.OriginCanary {
		return
	}
	if s.Origin == policy.OriginProbe {
		b.probe(s)
		return
	}
	if s.ID != "" && s.kind != policy.KindQuery {
		delete(e.open, s.ID)
		if s.Open && len(e.open) < maxOpen {
			s.Observation, s.vantage = keepObservation(s.Observation), keep(s.vantage)
			e.open[s.ID] = s // the kept copy's ID
			return
		}
	}
	b.count(s)
}

// settle counts what is still open of the ledger whose records come: after a restart
// nobody will close it. A session that renews another goes on with what is open.
func (e *Engine) settle() {
	left := map[string]sight{}
	for id, s := range e.open {
		if s.stretch == e.book.stretch {
			left[id] = s
			delete(e.open, id)
		}
	}
	e.book.countOpen(left)
}

// countOpen counts connections that were open up to the latest record of their
// session.
func (b *book) countOpen(open map[string]sight) {
	for _, s := range bySeq(open) {
		s.until = s.stretch.latest
		b.count(s)
	}
}

func bySeq(open map[string]sight) []sight {
	out := make([]sight, 0, len(open))
	for _, s := range open {
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b sight) int {
		return cmp.Or(cmp.Compare(a.seq, b.seq), cmp.Compare(a.ID, b.ID))
	})
	return out
}

// longest bounds how far back a duration may reach: a lie beyond it is no
// duration.
const longest = 366 * 24 * time.Hour

// longestHeld bounds how long a record may say that it waited to be written.
const longestHeld = time.Minute

// span is when the observation of r began and ended: before its record was made,
// where it waited for the name of its client (held_ms).
func span(r *policy.Record) (begun, ended time.Time) {
	ended = stamp(r.Time)
	if ms, ok := amount(r.Detail, "held_ms"); ok && ms <= longestHeld.Milliseconds() {
		ended = stamp(ended.Add(-time.Duration(ms) * time.Millisecond))
	}
	if ms := r.DurationMS; ms > 0 && ms < int64(longest/time.Millisecond) {
		return stamp(ended.Add(-time.Duration(ms) * time.Millisecond)), ended
	}
	return ended, ended
}

// stamp is t in UTC; a time that RFC 3339 cannot write becomes zero.
func stamp(t time.Time) time.Time {
	if t = t.UTC(); t.Year() < 0 || t.Year() > 9999 {
		return time.Time{}
	}
	return t
}
