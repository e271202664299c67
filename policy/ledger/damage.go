package ledger

import (
	"errors"
	"fmt"
)

// Errors that can be tested for with errors.Is.
var (
	// ErrFull says that a record was dropped because too many wait for the disk.
	// It is counted, and a lost record will tell it.
	ErrFull = errors.New("too many records wait for the disk")
	// ErrClosed says that the Writer is closed.
	ErrClosed = errors.New("ledger is closed")
	// ErrTooLong says that a record was dropped because its line would be longer
	// than a reader takes (1 MiB). It is counted like ErrFull.
	ErrTooLong = errors.New("record longer than 1 MiB")
	// ErrNotLedger says that a file is none.
	ErrNotLedger = errors.New("not a ledger")
	// ErrLocked says that another Writer has the file open.
	ErrLocked = errors.New("another egressaudit is writing it; name another file")
)

// The kinds of Damage.
const (
	Hole    = "hole"     // records are missing before this line
	BadLine = "bad_line" // the line is no record, or longer than 1 MiB
	Torn    = "torn"     // the last line has no end
	Schema  = "schema"   // the record is of a newer schema than this program knows
	Order   = "order"    // the record's seq was there before, or stands out of order
)

// Damage is an error about one line of a ledger; the lines after it are still
// good to read. A ledger with any damage cannot prove that nothing is missing.
type Damage struct {
	Path string
	Line int64 // counted from 1
	// Seq is the record's own for Order and Schema, the first missing one for
	// Hole, and the one that was due there for BadLine and Torn.
	Seq     uint64
	Kind    string // Hole, BadLine, Torn, Schema or Order
	Missing uint64 // how many records are missing, for Hole
	Why     string // plain words
}

// Error names file, line and what is wrong there.
func (d *Damage) Error() string {
	return fmt.Sprintf("ledger %q: line %d: %s", d.Path, d.Line, d.Why)
}
