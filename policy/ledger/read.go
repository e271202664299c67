package ledger

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"

	"github.com/egressaudit/egressaudit/policy"
)

// maxDoubt is how many bad lines may stand before the first record of a ledger;
// a file with more is taken for something else.
const maxDoubt = 16

// Read streams the records of the ledger at path, in the order of the file and
// in memory that does not grow with it. Each pair is either a record or an
// error. A *Damage (errors.As) tells of one line, and reading goes on; any other
// error (no such file, ErrNotLedger, a failing disk) is the last pair. An empty
// file is a ledger without records. A record behind a hole, out of order or
// without its line feed follows its *Damage; a bad line or a newer schema has
// none.
//
// Every record is new: it may be kept and changed. A record of kind start or
// stop has a Session; one of kind connection, request or query an Observation
// with the same Kind. Kinds that this program does not know are passed on. A
// ledger that is still being written may be read; its last line may then be
// torn.
func Read(path string) iter.Seq2[*policy.Record, error] {
	return func(yield func(*policy.Record, error) bool) {
		f, err := os.Open(path)
		if err != nil {
			yield(nil, readError(path, err))
			return
		}
		defer f.Close()
		for l, err := range Lines(f, path) {
			if !yield(l.Record, err) {
				return
			}
		}
	}
}

// Line is a record, and the line in which it stands.
type Line struct {
	Record *policy.Record
	Text   []byte // octet for octet, without its line feed; good until the next pair
}

// Lines is Read of a stream, with the line of each record. path stands only in
// errors. in is read in pieces of 1 MiB at most, and only when all that came
// before has been yielded.
func Lines(in io.Reader, path string) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		r := reader{path: path, yield: yield}
		r.run(in)
	}
}

func readError(path string, err error) error {
	if p := (*os.PathError)(nil); errors.As(err, &p) {
		err = p.Err
	}
	return fmt.Errorf("read ledger %q: %w", path, err)
}

type reader struct {
	path   string
	in     *bufio.Reader
	yield  func(Line, error) bool
	dec    decoder
	line   int64                  // counted from 1, behind above
	above  func() int64           // the lines above the first one read; nil: none
	last   uint64                 // the highest seq
	bad    uint64                 // lines since it that may have been records
	ledger bool                   // a record was seen
	doubts []*Damage              // held back until one is seen
	wanted func(line []byte) bool // lines to read, once a record was seen; nil: all
}

func (r *reader) run(in io.Reader) {
	r.in = bufio.NewReaderSize(in, maxLine+1)
	for r.step() {
	}
}

// step reads a line, yields what it holds, and says whether to go on.
func (r *reader) step() bool {
	line, err := r.in.ReadSlice('\n')
	r.line++
	switch {
	case err == nil && r.ledger && r.wanted != nil && !r.wanted(line):
		return true
	case err == nil:
		return r.judge(line, false)
	case err == bufio.ErrBufferFull:
		return r.tooLong()
	case err != io.EOF:
		return r.fail(err)
	case len(line) > 0 && !r.judge(line, true):
		return false
	case !r.ledger && len(r.doubts) > 0:
		r.refuse(r.doubts[0].Why)
	}
	return false
}

// tooLong skips the rest of a line that does not fit.
func (r *reader) tooLong() bool {
	if !r.ledger {
		return r.refuse(ErrTooLong.Error())
	}
	var err error
	for err = bufio.ErrBufferFull; err == bufio.ErrBufferFull; {
		_, err = r.in.ReadSlice('\n')
	}
	switch err {
	case nil:
		return r.damage(BadLine, ErrTooLong.Error())
	case io.EOF:
		r.damage(Torn, "longer than 1 MiB, and it has no end")
	default:
		r.fail(err)
	}
	return false
}

// fail ends reading with an error of the file, or without one if that was told
// to end.
func (r *reader) fail(err error) bool {
	if err != errEnded {
		r.yield(Line{}, readError(r.path, err))
	}
	return false
}

// judge yields the record of a line, behind the damage that it shows.
func (r *reader) judge(line []byte, torn bool) bool {
	rec, err := r.dec.decode(line)
	switch {
	case err != nil && torn:
		r.ledger = r.ledger || beginsRecord(line)
		return r.damage(Torn, "the last line is torn: the writer was killed, or is still writing")
	case err != nil:
		return r.damage(BadLine, "not a record: "+err.Error())
	}
	if !r.believe() || !r.place(rec.Seq) {
		return false
	}
	if torn && !r.tell(&Damage{Seq: rec.Seq, Kind: Torn, Why: "the last line has no end, though its record is complete"}) {
		return false
	}
	if rec.Schema > policy.SchemaVersion {
		return r.tell(&Damage{Seq: rec.Seq, Kind: Schema,
			Why: fmt.Sprintf("schema %d is newer than this program, which knows %d", rec.Schema, policy.SchemaVersion)})
	}
	return r.yield(Line{rec, bytes.TrimSuffix(line, []byte("\n"))}, nil)
}

// believe takes the file for a ledger, and yields what was held back.
func (r *reader) believe() bool {
	r.ledger = true
	for _, d := range r.doubts {
		if !r.yield(Line{}, d) {
			return false
		}
	}
	r.doubts = nil
	return true
}

// place checks seq against the one that is due. Bad lines since the last record
// stand for as many seqs, or for none, if they were torn.
func (r *reader) place(seq uint64) bool {
	due := r.last + 1
	latest := due + r.bad
	if seq < due {
		return r.tell(&Damage{Seq: seq, Kind: Order, Why: fmt.Sprintf("seq %d stands behind seq %d", seq, r.last)})
	}
	r.last, r.bad = seq, 0
	if seq <= latest {
		return true
	}
	return r.tell(&Damage{Seq: latest, Kind: Hole, Missing: seq - latest,
		Why: fmt.Sprintf("records are missing: seq %d to %d", latest, seq-1)})
}

// damage tells of a line that is no record.
func (r *reader) damage(kind, why string) bool {
	d := &Damage{Seq: r.last + r.bad + 1, Kind: kind, Why: why}
	r.bad++
	return r.tell(d)
}

func (r *reader) tell(d *Damage) bool {
	d.Path, d.Line = r.path, r.line
	if r.above != nil {
		d.Line += r.above()
	}
	if r.ledger {
		return r.yield(Line{}, d)
	}
	r.doubts = append(r.doubts, d)
	if len(r.doubts) >= maxDoubt {
		return r.refuse(r.doubts[0].Why)
	}
	return true
}

// refuse ends reading a file that is no ledger.
func (r *reader) refuse(why string) bool {
	r.yield(Line{}, readError(r.path, notLedger(fmt.Errorf("line 1: %s", why), toRead)))
	r.doubts = nil
	return false
}

// beginsRecord says whether a torn line was about to become a record.
func beginsRecord(line []byte) bool { return bytes.HasPrefix(line, []byte(`{"schema":1,`)) }
