package ledger

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/egressaudit/egressaudit/policy"
)

// Limits of what a Writer holds and takes.
const (
	maxLine    = 1 << 20  // bytes of a record, without its line feed
	maxWaiting = 64 << 20 // bytes that may wait for the disk
	maxPhase   = 256      // bytes of a mark's text, for every record repeats it
	maxPhases  = 1024     // phases that late records can still be given to
)

// Options say how to write. The zero value works.
type Options struct {
	Trial, Vantage string           // written into every record
	Queue          int              // records that may wait for the disk; 0: 65536
	Sync           time.Duration    // at most this long between fsyncs while records come; 0: 200 ms
	Now            func() time.Time // stamps records; nil: time.Now
}

// file is what a Writer needs of the outside world. Write may write a part and
// return an error; the Writer goes on behind that part.
type file interface {
	Write([]byte) (int, error)
	Sync() error
	Close() error
}

// Writer appends records to one ledger. All methods may be called by several
// goroutines at once, and but for Sync, Stop and Close none waits for the disk:
// records are encoded into memory, and one goroutine writes and fsyncs them.
//
// A disk that refuses is asked again and again, from the byte where it stopped;
// meanwhile records wait, and beyond Options.Queue (or 64 MiB) they are dropped
// and counted. As soon as the disk takes more, a lost record tells their number.
//
// The records of a file that is removed meanwhile are counted as lost, and Close says
// so. One that is renamed goes on under its new name.
type Writer struct {
	path     string
	options  Options
	nameless bool          // the file had no name to be removed, or its file system tells none
	closing  chan struct{} // closed once no record can come any more
	wake     chan struct{} // holds a token while the goroutine has something to look at
	done     chan struct{} // closed when the file is

	mu       sync.Mutex
	id       string    // the ledger's UUID
	pending  []byte    // complete lines that the goroutine has not taken yet
	waiting  int       // records accepted and not written, pending or taken
	held     int       // their bytes
	fresh    time.Time // of the oldest record in pending; zero: there is none
	bound    time.Time // of the oldest record that was taken and no fsync covers; zero: there is none
	seq      uint64    // of the last record accepted
	synced   uint64    // the last seq that an fsync covered
	wanted   uint64    // the last seq that a Sync waits for
	last     time.Time // time of the last record
	phases   []phase
	drops    [causes]int // dropped, and no lost record tells it yet
	lost     uint64
	writeErr error         // the last write's
	syncErr  error         // the last fsync's
	closed   bool          // no more records
	finished bool          // the file is closed
	result   error         // of closing
	progress chan struct{} // closed when synced grows or the file is closed; nil: nobody waits
}

type phase struct {
	since time.Time
	name  string
}

// cause is why a record was dropped.
type cause int

const (
	byQueue cause = iota
	byDisk
	byLength
	byKind
	causes
)

// newWriter starts writing to f, behind the record seq.
func newWriter(f file, path, id string, seq uint64, o Options) *Writer {
	if o.Queue <= 0 {
		o.Queue = 1 << 16
	}
	if o.Sync <= 0 {
		o.Sync = 200 * time.Millisecond
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	w := &Writer{
		path: path, options: o, id: id, seq: seq, synced: seq, nameless: removed(f),
		closing: make(chan struct{}), wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	go w.run(f, seq)
	return w
}

// Start appends the record that begins a trial, or goes on with it after a
// restart. It sets s.Ledger to the ledger's UUID, and does not retain s.
func (w *Writer) Start(s *policy.Session) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.session(policy.KindStart, s)
}

// Append accepts o, whose Kind is connection, request or query: nil means that
// it will be written, or counted by Lost if the disk refuses until the end. Any
// error (ErrFull, ErrTooLong, ErrClosed, another kind) means that it was dropped
// and is counted already. The phase is the one that o.Begun lies in; a zero
// Begun stands for now. o is not retained.
func (w *Writer) Append(o *policy.Observation) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch o.Kind {
	case policy.KindConnection, policy.KindRequest, policy.KindQuery:
	default:
		return w.drop(byKind, fmt.Errorf("append to ledger %q: an observation of kind %q", w.path, o.Kind))
	}
	if err := w.room(); err != nil {
		return err
	}
	w.stamp()
	return w.add(&policy.Record{Kind: o.Kind, Phase: w.phaseAt(o.Begun), Observation: o})
}

// Miss appends a lost record, for count observations that a sensor could not make:
// a reader doubts everything then. An error means that it was not accepted.
func (w *Writer) Miss(count int, why string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.room(); err != nil {
		return err
	}
	now := w.stamp()
	return w.add(&policy.Record{Kind: policy.KindLost, Phase: w.phaseAt(now), Count: count, Why: why})
}

// Event appends what befell a workload. An error means that it was dropped, and is
// counted already. e is not retained.
func (w *Writer) Event(e *policy.Event) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.room(); err != nil {
		return err
	}
	now := w.stamp()
	return w.add(&policy.Record{
		Kind: policy.KindEvent, Phase: w.phaseAt(now), Observation: &policy.Observation{Workload: e.Workload},
		Reason: e.Reason, Text: e.Text, Count: e.Count,
	})
}

// Mark begins the phase text: one to 256 bytes.
func (w *Writer) Mark(text string) error {
	if text == "" || len(text) > maxPhase {
		return fmt.Errorf("mark ledger %q: the name of a phase has 1 to %d bytes, this one %d", w.path, maxPhase, len(text))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.room(); err != nil {
		return err
	}
	now := w.stamp()
	if len(w.phases) == maxPhases {
		w.phases = append(w.phases[:0], w.phases[1:]...)
		w.phases[0].since = time.Time{}
	}
	w.phases = append(w.phases, phase{now, text})
	return w.add(&policy.Record{Kind: policy.KindMark, Phase: text, Text: text})
}

// Stop appends the record that ends the trial, the last one of the file, and
// closes as Close does. Like Start it sets s.Ledger.
func (w *Writer) Stop(s *policy.Session) error {
	w.mu.Lock()
	if !w.closed {
		w.tellLost()
	}
	err := w.session(policy.KindStop, s)
	w.shut()
	w.mu.Unlock()
	return errors.Join(err, w.Close())
}

// Renew ends a session and begins another, under other circumstances (a new
// revision of a catalog), without closing: a stop and a start record side by side.
// The phase goes on. Like Start it sets Ledger in both.
func (w *Writer) Renew(stop, start *policy.Session) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tellLost()
	return errors.Join(w.session(policy.KindStop, stop), w.session(policy.KindStart, start))
}

// Close writes and fsyncs what was accepted and closes the file; a disk that
// refuses is asked once more only. The error says what was not written, or not
// told by a lost record, and whether an fsync ever failed. Closing again gives
// the same.
func (w *Writer) Close() error {
	w.mu.Lock()
	w.shut()
	w.mu.Unlock()
	<-w.done
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.result
}

// shut takes no more records.
func (w *Writer) shut() {
	if !w.closed {
		w.closed = true
		close(w.closing)
	}
}

// session adds a start or stop record. There are few of them, so that they
// need no room.
func (w *Writer) session(k policy.Kind, s *policy.Session) error {
	if w.closed {
		return fmt.Errorf("append to ledger %q: %w", w.path, ErrClosed)
	}
	s.Ledger = w.id
	now := w.stamp()
	return w.add(&policy.Record{Kind: k, Phase: w.phaseAt(now), Session: s})
}

// room says whether one more record may wait, and counts it lost if not.
func (w *Writer) room() error {
	switch {
	case w.closed:
		w.lost++
		return fmt.Errorf("append to ledger %q: %w", w.path, ErrClosed)
	case w.waiting < w.options.Queue && w.held < maxWaiting:
		return nil
	case w.writeErr != nil:
		return w.drop(byDisk, ErrFull)
	}
	return w.drop(byQueue, ErrFull)
}

func (w *Writer) drop(why cause, err error) error {
	w.lost++
	w.drops[why]++
	w.poke()
	return err
}

// stamp reads the clock, and moves the time of the next record on: never back,
// whatever the clock does.
func (w *Writer) stamp() time.Time {
	now := w.options.Now()
	if t := now.Round(0).UTC(); t.After(w.last) {
		w.last = t
	}
	return now
}

// phaseAt is the phase that t lies in, "" before the first; the zero time
// stands for now.
func (w *Writer) phaseAt(t time.Time) string {
	for i := len(w.phases) - 1; i >= 0; i-- {
		if p := w.phases[i]; t.IsZero() || !t.Before(p.since) {
			return p.name
		}
	}
	return ""
}

// add encodes r, with the next seq, behind the lines that wait.
func (w *Writer) add(r *policy.Record) error {
	r.Schema, r.Seq, r.Time = policy.SchemaVersion, w.seq+1, w.last
	r.Trial, r.Vantage = w.options.Trial, w.options.Vantage
	start := len(w.pending)
	line := appendRecord(w.pending, r)
	if len(line)-start > maxLine {
		return w.drop(byLength, ErrTooLong)
	}
	w.pending = append(line, '\n')
	if start == 0 {
		w.fresh = w.last
	}
	w.seq++
	w.waiting++
	w.held += len(w.pending) - start
	if start == 0 || w.waiting == w.options.Queue/2 || w.held >= maxWaiting/2 {
		w.poke()
	}
	return nil
}

// poke has the goroutine look.
func (w *Writer) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// tellLost adds a record for each cause of drops, beyond what may wait, for
// without it the loss would be silent.
func (w *Writer) tellLost() {
	if w.drops == [causes]int{} {
		return
	}
	whys := [causes]string{
		byQueue:  fmt.Sprintf("more than %d records waited for the disk", w.options.Queue),
		byDisk:   "the disk refused to write",
		byLength: ErrTooLong.Error(),
		byKind:   "an observation of no known kind",
	}
	for i, n := range w.drops {
		if n == 0 {
			continue
		}
		w.stamp()
		if w.add(&policy.Record{Kind: policy.KindLost, Phase: w.phaseAt(time.Time{}), Count: n, Why: whys[i]}) == nil {
			w.drops[i] = 0
		}
	}
}
