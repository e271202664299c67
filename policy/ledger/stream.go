package ledger

import (
	"bytes"
	"context"
	"io"
	"iter"
	"os"

	"github.com/egressaudit/egressaudit/policy"
)

// Stream is Read for those who keep nothing: a record and all that it points to
// hold until the next one, whose room they may be; only its texts may be kept. It
// allocates next to nothing, reads ahead in a goroutine of its own while its user
// works, and is the faster for both.
func Stream(path string) iter.Seq2[*policy.Record, error] {
	return ahead(stream{rooms: aheadRooms}.of(path))
}

// Sessions is Stream of the records of kind start and stop alone, and of those that
// look like them: the others are passed over unread, which makes it many times
// faster. What it tells of damage is of no use, for all that it passes over is a hole.
func Sessions(path string) iter.Seq2[*policy.Record, error] {
	return stream{wanted: mayBeSession, rooms: 1}.of(path)
}

// mayBeSession is false only for lines that hold no record of kind start or stop as
// any writer of JSON writes it.
func mayBeSession(line []byte) bool {
	return bytes.Contains(line, []byte(`"start"`)) || bytes.Contains(line, []byte(`"stop"`))
}

// Watch is Stream of a ledger that is being written: at the end it waits for what
// comes, and ends as Follow does. idle is called before each wait; nil: nothing.
func Watch(ctx context.Context, path string, idle func()) iter.Seq2[*policy.Record, error] {
	return stream{rooms: 1, from: func(f *os.File) io.Reader {
		return &growing{ctx: ctx, file: f, path: path, idle: idle}
	}}.of(path)
}

// stream is a way of reading a file.
type stream struct {
	rooms  int                      // for as many records, by turns
	wanted func(line []byte) bool   // nil: every line
	from   func(*os.File) io.Reader // nil: the file itself
}

func (s stream) of(path string) iter.Seq2[*policy.Record, error] {
	return func(yield func(*policy.Record, error) bool) {
		f, err := os.Open(path)
		if err != nil {
			yield(nil, readError(path, err))
			return
		}
		defer f.Close()
		in := io.Reader(f)
		if s.from != nil {
			in = s.from(f)
		}
		r := reader{path: path, wanted: s.wanted, yield: func(l Line, err error) bool { return yield(l.Record, err) }}
		r.dec.again = make([]parts, s.rooms)
		r.run(in)
	}
}

// Pairs go from one goroutine to the other by the batch. Of three batches one is
// being filled, one waits, and one is read. A record of the last one may have been
// made while the batch before it was filled, so that rooms for four are never
// taken again too early.
const (
	batchPairs = 64
	batches    = 3
	aheadRooms = 4 * batchPairs
)

type pair struct {
	rec *policy.Record
	err error
}

// ahead yields what seq does, which runs in a goroutine of its own and has ended
// when ahead does.
func ahead(seq iter.Seq2[*policy.Record, error]) iter.Seq2[*policy.Record, error] {
	return func(yield func(*policy.Record, error) bool) {
		full, enough := make(chan []pair, batches-2), make(chan struct{})
		go readAhead(seq, full, enough)
		defer func() {
			close(enough)
			for range full { // until it has ended
			}
		}()
		for batch := range full {
			for _, p := range batch {
				if !yield(p.rec, p.err) {
					return
				}
			}
		}
	}
}

// readAhead sends what seq yields until that ends, or somebody has had enough.
func readAhead(seq iter.Seq2[*policy.Record, error], full chan<- []pair, enough <-chan struct{}) {
	defer close(full)
	var rooms [batches][batchPairs]pair
	turn, batch := 0, rooms[0][:0]
	send := func() bool {
		select {
		case full <- batch:
		case <-enough:
			return false
		}
		turn++
		batch = rooms[turn%batches][:0]
		return true
	}
	for rec, err := range seq {
		batch = append(batch, pair{rec, err})
		if len(batch) == batchPairs && !send() {
			return
		}
	}
	send()
}
