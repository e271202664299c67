package ledger

import (
	"context"
	"io"
	"iter"
	"os"

	"github.com/egressaudit/egressaudit/policy"
)

// Stream is Read for those who keep nothing: a record and all that it points to
// hold until the next one, whose room they are; only its texts may be kept. It
// allocates next to nothing, and is the faster for it.
func Stream(path string) iter.Seq2[*policy.Record, error] {
	return stream(path, func(f *os.File) io.Reader { return f })
}

// Watch is Stream of a ledger that is being written: at the end it waits for what
// comes, and ends as Follow does. idle is called before each wait; nil: nothing.
func Watch(ctx context.Context, path string, idle func()) iter.Seq2[*policy.Record, error] {
	return stream(path, func(f *os.File) io.Reader { return &growing{ctx: ctx, file: f, path: path, idle: idle} })
}

// stream reads what from makes of the file at path.
func stream(path string, from func(*os.File) io.Reader) iter.Seq2[*policy.Record, error] {
	return func(yield func(*policy.Record, error) bool) {
		f, err := os.Open(path)
		if err != nil {
			yield(nil, readError(path, err))
			return
		}
		defer f.Close()
		r := reader{path: path, yield: func(l Line, err error) bool { return yield(l.Record, err) }}
		r.dec.again = new(parts)
		r.run(from(f))
	}
}
