package ledger

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/egressaudit/egressaudit/policy"
)

// Open makes the ledger at path, with mode 0600, or continues the one that is
// there: seq goes on after its last complete record, a torn last line is ended
// and kept, and its UUID stays. A file that is no ledger is refused and left as
// it is (ErrNotLedger), and so is one that another Writer has open (ErrLocked).
// The caller ends with Stop or Close.
func Open(path string, o Options) (*Writer, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, openError(path, err)
	}
	w, err := resume(f, path, o)
	if err != nil {
		f.Close()
		return nil, openError(path, err)
	}
	return w, nil
}

// openError names the path once, though errors of os do so too.
func openError(path string, err error) error {
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		err = p.Err
	}
	return fmt.Errorf("open ledger %q: %w", path, err)
}

func resume(f *os.File, path string, o Options) (*Writer, error) {
	if err := lock(f); err != nil {
		return nil, err
	}
	s, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !s.Mode().IsRegular():
		return nil, errors.New("not a regular file")
	case s.Size() == 0:
		syncDir(path)
		return newWriter(f, path, newUUID(), 0, o), nil
	}
	id, err := identify(f, s.Size())
	if err != nil {
		return nil, err
	}
	last, err := lastRecord(f, path, s.Size())
	if err != nil {
		return nil, err
	}
	if err := endLine(f, s.Size()); err != nil {
		return nil, err
	}
	return newWriter(f, path, id, last, o), nil
}

// What to name instead of a file that is no ledger.
const (
	toWrite = "name a new file, or one that egressaudit has written"
	toRead  = "name a file that egressaudit has written with --ledger, such as egressaudit-<UTC time>.jsonl"
)

// identify reads the UUID from the first line, or refuses a file whose first
// line shows that it is no ledger.
func identify(f io.ReaderAt, size int64) (string, error) {
	line, err := bufio.NewReaderSize(io.NewSectionReader(f, 0, size), maxLine+1).ReadSlice('\n')
	if err != nil && err != io.EOF {
		return "", notLedger(errors.New("its first line is too long"), toWrite)
	}
	r, why := new(decoder).decode(line)
	switch {
	case why != nil && err == io.EOF && beginsRecord(line):
	case why != nil:
		return "", notLedger(fmt.Errorf("line 1: %w", why), toWrite)
	case r.Schema > policy.SchemaVersion:
		return "", newer(r.Schema)
	case r.Session != nil && r.Session.Ledger != "":
		return r.Session.Ledger, nil
	}
	return newUUID(), nil
}

// notLedger says why a file is none, and what to name instead.
func notLedger(why error, instead string) error {
	return fmt.Errorf("%w (%w); %s", ErrNotLedger, why, instead)
}

func newer(schema int) error {
	return fmt.Errorf("written by a newer egressaudit (schema %d, this one knows %d); name a new file", schema, policy.SchemaVersion)
}

// lastRecord is the seq of the last complete record: nearly always within the
// last lines, else found by reading all.
func lastRecord(f io.ReaderAt, path string, size int64) (uint64, error) {
	tail := make([]byte, min(size, 2*maxLine+2))
	if _, err := f.ReadAt(tail, size-int64(len(tail))); err != nil && err != io.EOF {
		return 0, err
	}
	if r := lastIn(tail); r != nil {
		if r.Schema > policy.SchemaVersion {
			return 0, newer(r.Schema)
		}
		return r.Seq, nil
	}
	var seq uint64
	for r, err := range Read(path) {
		if r != nil {
			seq = max(seq, r.Seq)
		} else if d := (*Damage)(nil); !errors.As(err, &d) {
			return 0, err
		}
	}
	return seq, nil
}

// lastIn is the last record that stands whole in tail; nil if none does.
func lastIn(tail []byte) *policy.Record {
	d := new(decoder)
	for len(tail) > 0 {
		tail = bytes.TrimSuffix(tail, []byte("\n"))
		start := bytes.LastIndexByte(tail, '\n') + 1
		if r, err := d.decode(tail[start:]); err == nil {
			return r
		}
		tail = tail[:start]
	}
	return nil
}

// endLine ends a torn last line.
func endLine(f *os.File, size int64) error {
	end := make([]byte, 1)
	if _, err := f.ReadAt(end, size-1); err != nil {
		return err
	}
	if end[0] == '\n' {
		return nil
	}
	if _, err := f.Write([]byte("\n")); err != nil {
		return fmt.Errorf("end its torn last line: %w", err)
	}
	return nil
}

// syncDir makes the name of a new file durable, on systems that can.
func syncDir(path string) {
	if d, err := os.Open(filepath.Dir(path)); err == nil {
		_ = d.Sync()
		d.Close()
	}
}

// newUUID makes a random UUID (RFC 9562 section 5.4).
func newUUID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
