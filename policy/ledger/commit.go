package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"
)

// What the goroutine that writes is bound by.
const (
	maxChunk = 1 << 20                 // bytes of one write
	maxSpare = 8 << 20                 // bytes of a buffer that is kept for reuse
	minPause = 50 * time.Millisecond   // before a refused write or fsync is tried again
	maxPause = 2000 * time.Millisecond // the pause doubles up to this
	gather   = 50 * time.Millisecond   // that a write waits for more records, unless somebody waits for it
)

// committer is what the goroutine that writes knows alone. Of each batch all is
// written before another is taken, so that a refused write is continued at the
// very byte.
type committer struct {
	*Writer
	file    file
	timer   *time.Timer
	batch   []byte    // lines taken from pending
	off     int       // how much of batch is written
	written uint64    // seq of the last line written whole
	covered uint64    // seq of the last line that an fsync covered
	due     time.Time // of the next fsync, when covered < written
	retry   pause     // of writes
	resync  pause     // of fsyncs
	gone    uint64    // seq of the last line that went with a file that was removed
	doubt   error     // the first fsync's that failed: what it was to cover may be gone, whatever the next one says
}

// run writes behind the record seq until the Writer is closing, then what is
// left, and closes f.
func (w *Writer) run(f file, seq uint64) {
	defer close(w.done)
	c := committer{Writer: w, file: f, timer: time.NewTimer(0), written: seq, covered: seq}
	defer c.timer.Stop()
	for closing := false; !closing; {
		closing = c.wait()
		for c.take() && c.write(closing) {
			c.commit(false)
		}
		c.commit(closing)
	}
	c.finish(f.Close())
}

// wait waits for something to do, and says whether it is the last time.
func (c *committer) wait() (closing bool) {
	var after <-chan time.Time
	if next, ok := c.next(); ok {
		c.timer.Reset(time.Until(next))
		after = c.timer.C
	}
	select {
	case <-c.closing:
		return true
	case <-c.wake:
		c.gather()
	case <-after:
	}
	return false
}

// gather lets more records come, so that one write takes what would else be a
// hundred: each costs a wake-up and a system call.
func (c *committer) gather() {
	c.timer.Reset(gather)
	for !c.hurried() {
		select {
		case <-c.closing:
			return
		case <-c.timer.C:
			return
		case <-c.wake:
		}
	}
}

// hurried says that somebody waits, or that the queue is half full.
func (c *committer) hurried() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wanted > c.synced || c.waiting >= c.options.Queue/2 || c.held >= maxWaiting/2
}

// next is when to look again without being woken.
func (c *committer) next() (t time.Time, ok bool) {
	if c.covered < c.written {
		t, ok = c.due, true
	}
	if c.off < len(c.batch) && (!ok || c.retry.until.Before(t)) {
		t, ok = c.retry.until, true
	}
	return t, ok
}

// take swaps an empty batch for the pending lines, behind which lost records
// tell what was dropped meanwhile, and says whether there is something to write.
func (c *committer) take() bool {
	if c.off < len(c.batch) {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tellLost()
	spare := c.batch[:0]
	if cap(spare) > maxSpare {
		spare = nil
	}
	c.batch, c.off, c.pending = c.pending, 0, spare
	if c.bound.IsZero() {
		c.bound = c.fresh
	}
	c.fresh = time.Time{}
	return len(c.batch) > 0
}

// write writes the batch, and says whether all of it is written. New records are
// no reason to ask a refusing disk before its pause is over; now is one.
func (c *committer) write(now bool) bool {
	if !now && !c.retry.over() {
		return false
	}
	for c.off < len(c.batch) {
		n, err := c.file.Write(chunk(c.batch[c.off:]))
		if n == 0 && err == nil {
			err = io.ErrShortWrite
		}
		c.wrote(n)
		if err != nil {
			c.retry.extend()
			c.told(&c.writeErr, err)
			return false
		}
	}
	if c.retry.length > 0 {
		c.retry = pause{}
		c.told(&c.writeErr, nil)
	}
	return true
}

// chunk is the lines of b that one write takes; at least the first.
func chunk(b []byte) []byte {
	if len(b) <= maxChunk {
		return b
	}
	if i := bytes.LastIndexByte(b[:maxChunk], '\n'); i >= 0 {
		return b[:i+1]
	}
	return b[:maxChunk]
}

// wrote counts n more bytes of the batch as written. Every line has one seq, so
// that line feeds count records.
func (c *committer) wrote(n int) {
	lines := bytes.Count(c.batch[c.off:c.off+n], []byte{'\n'})
	if c.covered == c.written && lines > 0 {
		c.due = time.Now().Add(c.options.Sync - gather) // the oldest has gathered that long
	}
	c.off += n
	c.written += uint64(lines)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting -= lines
	c.held -= n
}

// told sets one of the Writer's errors.
func (c *committer) told(field *error, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*field = err
}

// commit fsyncs what is written, when it is due, a Sync waits for it, or now.
func (c *committer) commit(now bool) {
	if c.covered == c.written || !now && !c.wants() && time.Now().Before(c.due) {
		return
	}
	if err := c.file.Sync(); err != nil {
		c.resync.extend()
		c.due = c.resync.until
		if c.doubt == nil {
			c.doubt = err
		}
		c.told(&c.syncErr, err)
		return
	}
	c.resync, c.covered = pause{}, c.written
	gone := !c.nameless && removed(c.file)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.syncErr, c.synced = nil, c.covered
	if gone {
		c.lost += c.covered - c.gone
		c.gone = c.covered
	}
	if c.off == len(c.batch) {
		c.bound = time.Time{}
	}
	c.advance()
}

// wants says whether a Sync waits, and an fsync now would content it. A disk
// that refuses to fsync is not asked sooner for it.
func (c *committer) wants() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.syncErr == nil && c.wanted > c.covered && c.wanted <= c.written
}

// advance wakes who waits in Sync.
func (w *Writer) advance() {
	if w.progress != nil {
		close(w.progress)
		w.progress = nil
	}
}

// finish counts what is left as lost, and sets the result of closing.
func (c *committer) finish(closeErr error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	if c.waiting > 0 {
		errs = append(errs, fmt.Errorf("close ledger %q: %d records are not written: %w", c.path, c.waiting, c.writeErr))
		c.lost += uint64(c.waiting)
	}
	if n := sum(c.drops); n > 0 {
		errs = append(errs, fmt.Errorf("close ledger %q: %d records were dropped, and no lost record tells it", c.path, n))
	}
	if c.gone > 0 {
		errs = append(errs, fmt.Errorf("close ledger %q: the file was removed while it was written, and its %d records with it", c.path, c.gone))
	}
	if c.doubt != nil {
		errs = append(errs, fmt.Errorf("close ledger %q: records may not have reached the disk: %w", c.path, c.doubt))
	}
	if closeErr != nil {
		errs = append(errs, fmt.Errorf("close ledger %q: %w", c.path, closeErr))
	}
	c.result, c.finished = errors.Join(errs...), true
	c.pending, c.batch = nil, nil
	c.advance()
}

func sum(ns [causes]int) (total int) {
	for _, n := range ns {
		total += n
	}
	return total
}

// pause is how long to leave a refusing disk alone: each time twice as long.
type pause struct {
	length time.Duration
	until  time.Time
}

func (p *pause) over() bool { return !time.Now().Before(p.until) }

func (p *pause) extend() {
	p.length = min(max(2*p.length, minPause), maxPause)
	p.until = time.Now().Add(p.length)
}
