package ledger

import (
	"context"
	"errors"
	"io"
	"os"
	"time"
)

// followEvery is how often the end of a file is looked at. Asking works on every
// system, and on network file systems, which tell nobody of what others append.
const followEvery = 200 * time.Millisecond

// errEnded says that the reader of a growing file was told to end.
var errEnded = errors.New("told to end")

// growing is a file that somebody appends to: a Read at its end waits. It ends
// with errEnded when ctx is done, and with another error where the file is no
// longer the one that was opened.
type growing struct {
	ctx  context.Context
	file *os.File
	path string
	at   int64 // octets read, and those above
	idle func()
}

func (g *growing) Read(b []byte) (int, error) {
	for g.ctx.Err() == nil {
		n, err := g.file.Read(b)
		g.at += int64(n)
		if n > 0 || err != io.EOF {
			return n, err
		}
		if err := g.wait(); err != nil {
			return 0, err
		}
	}
	return 0, errEnded
}

// wait waits until it is worth looking again, or ctx is done.
func (g *growing) wait() error {
	if g.idle != nil {
		g.idle()
	}
	if err := g.check(); err != nil {
		return err
	}
	select {
	case <-g.ctx.Done():
	case <-time.After(followEvery):
	}
	return nil
}

// check says whether the file can still grow behind what was read.
func (g *growing) check() error {
	now, err := g.file.Stat()
	if err != nil {
		return err
	}
	there, err := os.Stat(g.path)
	switch {
	case now.Size() < g.at:
		return errors.New("it became shorter while it was followed (start again to see what is there now)")
	case errors.Is(err, os.ErrNotExist):
		return errors.New("it was removed while it was followed")
	case err != nil:
		return err
	case !os.SameFile(now, there):
		return errors.New("another file took its place while it was followed (start again to see that one)")
	}
	return nil
}
