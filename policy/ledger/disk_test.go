package ledger

import (
	"errors"
	"sync"
	"syscall"
	"testing"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/stretchr/testify/require"
)

// state is what became of a disk.
type state struct {
	data   []byte
	synced int // bytes that an fsync covered
	syncs  int // fsyncs asked for
	writes int // writes asked for
}

// disk is a file that refuses on order.
type disk struct {
	mu sync.Mutex
	state
	left    int   // bytes it still takes before ENOSPC, if full
	full    bool  // whether left holds
	dribble int   // bytes that a write takes before EIO, and only each other write takes any; 0: all
	syncErr error // what an fsync says
	gate    chan struct{}
}

func (d *disk) Write(b []byte) (int, error) {
	if d.gate != nil {
		<-d.gate
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.writes++
	n, err := len(b), error(nil)
	if d.full && n > d.left {
		n, err = d.left, syscall.ENOSPC
	}
	if d.dribble > 0 {
		n, err = min(n, d.dribble)*(d.writes%2), syscall.EIO
		if n == len(b) {
			err = nil
		}
	}
	d.left -= n
	d.data = append(d.data, b[:n]...)
	return n, err
}

func (d *disk) Sync() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.syncs++
	if d.syncErr == nil {
		d.synced = len(d.data)
	}
	return d.syncErr
}

func (d *disk) Close() error { return nil }

// change changes d while a Writer uses it.
func (d *disk) change(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
}

// look is how d stands now.
func (d *disk) look() state {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.state
}

// records are those of an undamaged ledger that the disk holds.
func (d *disk) records(t testing.TB) []*policy.Record {
	t.Helper()
	path := newPath(t)
	requireWrite(t, path, d.look().data)
	return requireWhole(t, path)
}

var errWorn = errors.New("worn out")

// writer is a new Writer that writes to d.
func (d *disk) writer(t testing.TB, o Options) *Writer {
	w := newWriter(d, "disk", "uuid", 0, o)
	t.Cleanup(func() { w.Close() })
	return w
}

func requireAppend(t testing.TB, w *Writer, n int) {
	t.Helper()
	for range n {
		require.NoError(t, w.Append(connection("c")))
	}
}
