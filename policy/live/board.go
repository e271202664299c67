package live

import (
	"context"
	"fmt"
	"html/template"
	"iter"
	"sync"
	"time"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/policy/report"
)

// Records are those of a recording from its first one on, and then those that are
// written, until ctx is done: pairs as report.Build takes them. A record holds until
// the next one, but for its texts. idle is called whenever all that is there was
// read, and what comes is waited for.
type Records func(ctx context.Context, idle func()) iter.Seq2[*policy.Record, error]

const (
	beatTime   = 250 * time.Millisecond // between events
	reportTime = time.Second            // between reports
)

// board is one recording held against one set of catalogs. It reads the records
// by itself, beside whatever writes them.
type board struct {
	engine *report.Engine
	hello  func(b *board) any // what a browser is told first
	stop   context.CancelFunc
	caught chan struct{} // closed when all that was there at first was read
	idled  chan struct{} // takes a value whenever somebody waits for all to be read
	ended  chan struct{} // closed when nothing is read any more

	judging sync.Mutex // one report at a time; taken before mu
	made    *report.Report
	parts   map[string]template.HTML
	madeAt  time.Time
	madeOf  uint64 // records

	mu       sync.Mutex
	read     uint64 // records
	ledger   string // its UUID
	phase    string
	broken   string // why nothing more is read
	rows     rows
	begun    bool                     // they know any
	told     uint64                   // rows that they know
	shown    map[string]template.HTML // sections that browsers know
	state    state                    // that they know
	watchers map[*watcher]bool        // nil: none are taken any more
}

// open makes a board, and lets it read.
func open(records Records, against report.Options, hello func(*board) any) *board {
	ctx, stop := context.WithCancel(context.Background())
	b := &board{
		engine: report.New(against), hello: hello, stop: stop,
		caught: make(chan struct{}), idled: make(chan struct{}), ended: make(chan struct{}), watchers: map[*watcher]bool{},
	}
	go b.follow(ctx, records)
	go b.pulse(ctx)
	return b
}

// close ends reading, and all browsers' streams.
func (b *board) close() {
	b.stop()
	b.mu.Lock()
	defer b.mu.Unlock()
	for w := range b.watchers {
		close(w.frames)
	}
	b.watchers = nil
}

// follow takes the records in.
func (b *board) follow(ctx context.Context, records Records) {
	defer close(b.ended)
	caughtUp := sync.OnceFunc(func() { close(b.caught) })
	defer caughtUp()
	var last error
	for r, err := range records(ctx, func() { caughtUp(); b.idle() }) {
		if last = err; err != nil {
			b.engine.Damage(err)
			b.count(nil)
			continue
		}
		b.engine.Add(r)
		b.count(r)
	}
	if ctx.Err() == nil {
		b.breakOff(last)
	}
}

// breakOff says that the page is no longer renewed, and that the trial cannot be
// cleared by it.
func (b *board) breakOff(err error) {
	if err == nil {
		err = fmt.Errorf("its records have an end")
		b.engine.Damage(fmt.Errorf("the recording can no longer be read: %w", err))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.broken = report.Escape(err.Error())
	b.read++
}

// idle wakes whoever waits for all to be read.
func (b *board) idle() {
	select {
	case b.idled <- struct{}{}:
	default:
	}
}

// count notes what the stream tells of a record; nil is damage.
func (b *board) count(r *policy.Record) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.read++
	if r == nil {
		return
	}
	switch r.Kind { // the phase of other records is the one in which they began
	case policy.KindMark:
		b.phase = r.Text
	case policy.KindStart:
		b.phase = ""
		if r.Session != nil {
			b.ledger = r.Session.Ledger
		}
	}
	if row, ok := rowOf(r); ok {
		b.rows.add(row)
	}
}

// up says whether all that was there at first was read.
func (b *board) up() bool {
	select {
	case <-b.caught:
		return true
	default:
		return false
	}
}

// await waits until up, ctx is done or the time is over, and says which.
func (b *board) await(ctx context.Context, most time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	select {
	case <-b.caught:
		return true
	case <-ctx.Done():
		return false
	}
}

// level waits until all that is written by now was read, or ctx is done.
func (b *board) level(ctx context.Context) {
	for range 2 { // one may have looked before the last record was written
		select {
		case <-b.idled:
		case <-b.ended:
		case <-ctx.Done():
		}
	}
}

// report is the judgement as of a second ago at most, and the sections of the page
// that show it.
func (b *board) report() (*report.Report, map[string]template.HTML, error) {
	return b.judge(reportTime)
}

// judge makes a report, unless there is one that is young enough, or of the same
// records.
func (b *board) judge(young time.Duration) (*report.Report, map[string]template.HTML, error) {
	b.judging.Lock()
	defer b.judging.Unlock()
	b.mu.Lock()
	read, phase := b.read, b.phase
	b.mu.Unlock()
	if b.made != nil && (b.madeOf == read || time.Since(b.madeAt) < young) {
		return b.made, b.parts, nil
	}
	r := b.engine.Report()
	parts, err := r.Sections()
	if err != nil {
		return nil, nil, err
	}
	if parts["phases"], err = phases(r.Trial.Phases, phase); err != nil {
		return nil, nil, err
	}
	b.made, b.parts, b.madeOf, b.madeAt = r, parts, read, time.Now()
	return r, parts, nil
}

// state is how the page stands to the recording.
type state struct {
	State string `json:"state"` // reading, live, broken
	Text  string `json:"text"`
}

// standing is the state now; mu is held.
func (b *board) standing() state {
	switch {
	case b.broken != "":
		return state{"broken", "no longer renewed: " + b.broken}
	case !b.up():
		return state{"reading", fmt.Sprintf("reading the recording: %d records so far", b.read)}
	}
	return state{"live", "live"}
}
