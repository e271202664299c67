package ledger

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"os"
	"sync"

	"github.com/egressaudit/egressaudit/policy"
)

// TailOptions say where the end of a ledger begins. The zero value is none of
// the records that are there.
type TailOptions struct {
	Records int                       // how many of the last records that match
	Match   func(*policy.Record) bool // which count; nil: all. It must not keep the record
	Idle    func()                    // of Follow: called before each wait; nil: nothing
}

// Tail streams the end of the ledger at path: all lines from the first of the
// last o.Records on that match. The pairs are those of Lines; damage above that
// end is neither looked for nor told. It reads backwards from the end of the
// file, so that it takes as long as that end is, but a file that does not begin
// as a ledger is ErrNotLedger all the same. Only a regular file has an end.
func Tail(path string, o TailOptions) iter.Seq2[Line, error] {
	return o.tail(path, func(f *os.File, _ int64) io.Reader { return f })
}

// Follow is Tail that waits at the end for what a writer appends, until ctx is
// done: then it ends without an error. A torn last line is no damage before
// something stands behind it. Where the file becomes shorter, is removed, or
// another takes its place, an error ends it.
func Follow(ctx context.Context, path string, o TailOptions) iter.Seq2[Line, error] {
	return o.tail(path, func(f *os.File, at int64) io.Reader {
		return &growing{ctx: ctx, file: f, path: path, at: at, idle: o.Idle}
	})
}

func (o TailOptions) tail(path string, from func(f *os.File, at int64) io.Reader) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		r := reader{path: path, yield: yield}
		f, at, err := o.open(&r)
		if err != nil {
			yield(Line{}, err)
			return
		}
		defer f.Close()
		r.run(from(f, at))
	}
}

// open opens the file of r at the first line to read, and tells r what stands
// above.
func (o TailOptions) open(r *reader) (*os.File, int64, error) {
	f, err := os.Open(r.path)
	if err != nil {
		return nil, 0, readError(r.path, err)
	}
	at, err := o.find(r, f)
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, at, nil
}

func (o TailOptions) find(r *reader, f *os.File) (at int64, err error) {
	s, err := f.Stat()
	switch {
	case err != nil:
		return 0, readError(r.path, err)
	case !s.Mode().IsRegular():
		return 0, readError(r.path, errors.New("not a regular file, which alone has an end"))
	}
	if err := begins(f, r.path, s.Size()); err != nil {
		return 0, err
	}
	if at, r.last, err = o.start(f, s.Size()); err == nil {
		_, err = f.Seek(at, io.SeekStart)
	}
	if err != nil {
		return 0, readError(r.path, err)
	}
	if at > 0 {
		above := io.NewSectionReader(f, 0, at)
		r.ledger, r.above = true, sync.OnceValue(func() int64 { return countLines(above) })
	}
	return at, nil
}

// begins says why a file does not begin as a ledger.
func begins(f io.ReaderAt, path string, size int64) error {
	for _, err := range Lines(io.NewSectionReader(f, 0, size), path) {
		if d := (*Damage)(nil); err == nil || !errors.As(err, &d) {
			return err
		}
	}
	return nil
}

// countLines counts the line feeds in a stream, as far as it can be read.
func countLines(in io.Reader) int64 {
	n, buf := int64(0), make([]byte, 1<<18)
	for {
		k, err := in.Read(buf)
		n += int64(bytes.Count(buf[:k], []byte("\n")))
		if err != nil {
			return n
		}
	}
}

// start is where the end begins in a file of that size, and the seq that stands
// above it.
func (o TailOptions) start(f io.ReaderAt, size int64) (at int64, last uint64, err error) {
	b, d, left := backward{in: f, at: size}, new(decoder), o.Records
	for {
		line, begin, err := b.line()
		if err == io.EOF {
			return 0, 0, nil
		} else if err != nil {
			return 0, 0, err
		}
		r, err := d.decode(line)
		switch {
		case err != nil || r.Schema > policy.SchemaVersion:
			continue
		case left <= 0:
			return begin + int64(len(line)), r.Seq, nil
		case o.Match == nil || o.Match(r):
			left--
		default:
			continue
		}
		if left == 0 {
			return begin, r.Seq - 1, nil
		}
	}
}

// backward reads lines from the end of a file to its beginning.
type backward struct {
	in  io.ReaderAt
	at  int64  // where buf begins
	buf []byte // what stands before the last line taken, as far as it is read
}

// line is the line above the last one, with its line feed, and where it begins;
// io.EOF above the first. It is good until the next call. One that is too long
// may come without its end: it is no record either way.
func (b *backward) line() (line []byte, at int64, err error) {
	for {
		end := len(bytes.TrimSuffix(b.buf, []byte("\n")))
		i := bytes.LastIndexByte(b.buf[:end], '\n') + 1
		switch {
		case i > 0 || b.at == 0 && len(b.buf) > 0:
			line, b.buf = b.buf[i:], b.buf[:i]
			return line, b.at + int64(i), nil
		case b.at == 0:
			return nil, 0, io.EOF
		}
		if err := b.fill(); err != nil {
			return nil, 0, err
		}
	}
}

// fill reads a piece more, before what is there.
func (b *backward) fill() error {
	if len(b.buf) > maxLine+1 {
		b.buf = nil
	}
	n := min(b.at, 1<<18)
	buf := make([]byte, int(n)+len(b.buf))
	copy(buf[n:], b.buf)
	if _, err := b.in.ReadAt(buf[:n], b.at-n); err != nil {
		return err
	}
	b.at, b.buf = b.at-n, buf
	return nil
}
