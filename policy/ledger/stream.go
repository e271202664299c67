package ledger

import (
	"iter"
	"os"

	"github.com/egressaudit/egressaudit/policy"
)

// Stream is Read for those who keep nothing: a record and all that it points to
// hold until the next one, whose room they are; only its texts may be kept. It
// allocates next to nothing, and is the faster for it.
func Stream(path string) iter.Seq2[*policy.Record, error] {
	return func(yield func(*policy.Record, error) bool) {
		f, err := os.Open(path)
		if err != nil {
			yield(nil, readError(path, err))
			return
		}
		defer f.Close()
		r := reader{path: path, yield: func(l Line, err error) bool { return yield(l.Record, err) }}
		r.dec.again = new(parts)
		r.run(f)
	}
}
