package ledger

import (
	"bytes"
	"context"
	"fmt"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/stretchr/testify/require"
)

func TestGroupCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{}
		w := d.writer(t, Options{Sync: 10 * gather})
		for range 5 {
			requireAppend(t, w, 5)
			time.Sleep(gather + time.Millisecond) // not the very moment of the write
		}
		synctest.Wait()
		require.Len(t, d.records(t), 25, "written soon")
		require.LessOrEqual(t, d.look().writes, 5, "one write for all that gathered")
		time.Sleep(5*gather - 5*time.Millisecond)
		synctest.Wait()
		require.Equal(t, 1, d.look().syncs, "one fsync for all of an interval")
		require.Equal(t, len(d.look().data), d.look().synced)

		time.Sleep(time.Hour)
		require.Equal(t, 1, d.look().syncs, "nothing to fsync while nothing comes")
		requireAppend(t, w, 1)
		time.Sleep(10*gather - time.Millisecond)
		require.Equal(t, 1, d.look().syncs)
		time.Sleep(time.Millisecond)
		synctest.Wait()
		require.Equal(t, 2, d.look().syncs)
	})
}

func TestSyncDoesNotWaitForTheInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{}
		w := d.writer(t, Options{Sync: time.Hour})
		begun := time.Now()
		for n := range 3 {
			requireAppend(t, w, 7)
			require.NoError(t, w.Sync(bg()))
			require.Equal(t, len(d.look().data), d.look().synced)
			require.Equal(t, n+1, d.look().syncs)
		}
		require.NoError(t, w.Sync(bg()), "nothing new: no fsync")
		require.Equal(t, 3, d.look().syncs)
		require.Zero(t, time.Since(begun))
	})
}

func TestRefusingDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{full: true, left: 1000} // one line and a part of the next
		w := d.writer(t, Options{})
		requireAppend(t, w, 5)
		time.Sleep(gather)
		synctest.Wait()
		require.ErrorIs(t, w.Err(), syscall.ENOSPC)
		require.Len(t, d.look().data, 1000)
		ctx, cancel := context.WithTimeout(bg(), time.Minute)
		defer cancel()
		err := w.Sync(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, syscall.ENOSPC)
		synctest.Wait()
		require.Less(t, d.look().writes, 60, "the pause grows")
		asked := d.look().writes
		requireAppend(t, w, 5)
		synctest.Wait()
		require.Equal(t, asked, d.look().writes, "a new record is no reason to ask earlier")

		d.change(func() { d.full = false })
		require.NoError(t, w.Sync(bg()))
		require.NoError(t, w.Err())
		require.Len(t, d.records(t), 10)
		require.Zero(t, w.Lost())
		require.NoError(t, w.Close())
	})
}

// A disk that breaks each write after any number of bytes tears no line.
func TestEveryPartialWrite(t *testing.T) {
	for n := 1; n < 100; n++ {
		synctest.Test(t, func(t *testing.T) {
			d := &disk{dribble: n}
			w := d.writer(t, Options{})
			require.NoError(t, w.Mark("one"))
			require.NoError(t, w.Mark("two"))
			require.NoError(t, w.Sync(bg()))
			d.change(func() { d.dribble = 0 })
			require.NoError(t, w.Mark("done"))
			require.NoError(t, w.Close())
			require.Len(t, d.records(t), 3)
		})
	}
}

func TestQueueOfOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{gate: make(chan struct{})}
		w := d.writer(t, Options{Queue: 1})
		requireAppend(t, w, 1)
		synctest.Wait() // it hangs in the write
		for n := range 3 {
			require.ErrorIs(t, w.Append(connection("c")), ErrFull)
			require.EqualValues(t, n+1, w.Lost())
		}
		require.ErrorIs(t, w.Mark("full"), ErrFull)
		close(d.gate)
		synctest.Wait()
		requireAppend(t, w, 1)
		require.NoError(t, w.Close())
		rs := d.records(t)
		require.Equal(t, []policy.Kind{"connection", "lost", "connection"}, kinds(rs))
		require.Equal(t, 4, rs[1].Count)
		require.Equal(t, "more than 1 records waited for the disk", rs[1].Why)
		require.EqualValues(t, 4, w.Lost())
	})
}

func TestLostToTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{full: true}
		w := d.writer(t, Options{Queue: 4})
		requireAppend(t, w, 4)
		synctest.Wait()
		for range 1000 {
			require.ErrorIs(t, w.Append(connection("c")), ErrFull)
		}
		d.change(func() { d.full = false })
		time.Sleep(maxPause)
		synctest.Wait()
		rs := d.records(t)
		require.Equal(t, []policy.Kind{"connection", "connection", "connection", "connection", "lost"}, kinds(rs))
		require.Equal(t, 1000, rs[4].Count)
		require.Equal(t, "the disk refused to write", rs[4].Why)
		require.NoError(t, w.Close())
	})
}

func TestFsyncRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{syncErr: errWorn}
		w := d.writer(t, Options{Sync: time.Millisecond})
		synced := make(chan error, 1)
		for n := range 1000 {
			requireAppend(t, w, 1)
			time.Sleep(10 * time.Millisecond)
			if n == 0 {
				go func() { synced <- w.Sync(bg()) }()
			}
		}
		require.ErrorIs(t, w.Err(), errWorn)
		require.Less(t, d.look().syncs, 20, "the pause grows")
		require.Len(t, d.records(t), 1000, "writing goes on")
		require.Empty(t, synced)
		d.change(func() { d.syncErr = nil })
		require.NoError(t, <-synced)
		require.NoError(t, w.Err())
		require.ErrorIs(t, w.Close(), errWorn, "what the failed fsync covered may be gone")
	})
}

func TestCloseOnARefusingDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{full: true, left: 1000}
		w := d.writer(t, Options{Queue: 5})
		requireAppend(t, w, 5)
		synctest.Wait()
		requireAppend(t, w, 1) // in the place of the line that is written
		require.ErrorIs(t, w.Append(connection("c")), ErrFull)
		begun := time.Now()
		err := w.Stop(&policy.Session{})
		require.ErrorIs(t, err, syscall.ENOSPC)
		require.ErrorContains(t, err, `close ledger "disk": 7 records are not written`) // five, lost and stop
		require.Zero(t, time.Since(begun), "it does not wait for a disk that may never come back")
		require.EqualValues(t, 8, w.Lost())
		require.Equal(t, len(d.look().data), d.look().synced)

		path := newPath(t)
		requireWrite(t, path, d.look().data)
		rs, damage := readAll(t, path)
		require.Len(t, rs, 1)
		require.Equal(t, []string{"torn 2 2"}, damage)
	})
}

// Closing asks the disk once more, however long the pause has grown.
func TestCloseOnARecoveredDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{full: true, left: 1000}
		w := d.writer(t, Options{Queue: 5})
		requireAppend(t, w, 5)
		synctest.Wait()
		requireAppend(t, w, 1)
		require.ErrorIs(t, w.Append(connection("c")), ErrFull)
		time.Sleep(time.Hour + time.Millisecond)
		d.change(func() { d.full = false })
		begun := time.Now()
		require.NoError(t, w.Stop(&policy.Session{}))
		require.Zero(t, time.Since(begun))
		rs := d.records(t)
		require.Equal(t, []policy.Kind{"lost", "stop"}, kinds(rs)[6:])
		require.Equal(t, 1, rs[6].Count)
	})
}

// Without a disk that takes a lost record, the error of closing tells it.
func TestDropsThatNoRecordTells(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := (&disk{full: true}).writer(t, Options{Queue: 1})
		requireAppend(t, w, 1)
		synctest.Wait()
		require.ErrorIs(t, w.Append(connection("c")), ErrFull)
		err := w.Close()
		require.ErrorContains(t, err, "1 records are not written")
		require.ErrorContains(t, err, "1 records were dropped, and no lost record tells it")
		require.EqualValues(t, 2, w.Lost())
	})
}

func TestClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := (&disk{}).writer(t, Options{})
		requireAppend(t, w, 1)
		require.NoError(t, w.Close())
		require.NoError(t, w.Close())
		require.ErrorIs(t, w.Append(connection("c")), ErrClosed)
		require.ErrorIs(t, w.Mark("late"), ErrClosed)
		require.ErrorIs(t, w.Start(&policy.Session{}), ErrClosed)
		require.ErrorIs(t, w.Stop(&policy.Session{}), ErrClosed)
		require.NoError(t, w.Sync(bg()), "all that was accepted is on the disk")
		require.EqualValues(t, 2, w.Lost())
	})
}

// Who waits for a disk that hangs is told when the writer closes without.
func TestSyncWhileClosing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := (&disk{full: true}).writer(t, Options{})
		requireAppend(t, w, 1)
		synced := make(chan error)
		go func() { synced <- w.Sync(bg()) }()
		synctest.Wait()
		require.Error(t, w.Close())
		err := <-synced
		require.ErrorIs(t, err, ErrClosed)
		require.ErrorIs(t, err, syscall.ENOSPC)
	})
}

// However long the lines are, they do not fill the memory.
func TestBytesThatMayWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{gate: make(chan struct{})}
		w := d.writer(t, Options{})
		big := connection("c")
		big.Asked = string(bytes.Repeat([]byte("a"), maxLine-2000))
		n := 0
		for ; w.Append(big) == nil; n++ {
			require.Less(t, n, 100)
		}
		require.Greater(t, n, 60)
		close(d.gate)
		require.NoError(t, w.Sync(bg()))
		require.Len(t, d.records(t), n+1)
		w.mu.Lock()
		defer w.mu.Unlock()
		require.Zero(t, w.held)
		require.Zero(t, w.waiting)
	})
}

func TestChunkEndsWithALine(t *testing.T) {
	line := append(bytes.Repeat([]byte("a"), 1000), '\n')
	b := bytes.Repeat(line, 3000)
	for len(b) > maxChunk {
		c := chunk(b)
		require.Zero(t, len(c)%len(line))
		require.Greater(t, len(c), maxChunk-2*len(line))
		b = b[len(c):]
	}
	require.Equal(t, b, chunk(b))
	longest := append(bytes.Repeat([]byte("a"), maxLine), fmt.Sprintln("b")...)
	require.Len(t, chunk(longest), maxChunk)
}
