package ledger

import (
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// The lag is the age of the oldest record that is not on the disk, however many
// come behind it.
func TestLag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{}
		w := d.writer(t, Options{Sync: 100 * time.Millisecond})
		require.Zero(t, w.Lag())
		time.Sleep(time.Hour)
		require.Zero(t, w.Lag(), "nothing waits")
		longest := time.Duration(0)
		for range 100 {
			requireAppend(t, w, 1)
			time.Sleep(7 * time.Millisecond)
			require.LessOrEqual(t, w.Lag(), 100*time.Millisecond+gather)
			longest = max(longest, w.Lag())
		}
		require.GreaterOrEqual(t, longest, 80*time.Millisecond)
		require.NoError(t, w.Sync(bg()))
		require.Zero(t, w.Lag())

		d.change(func() { d.full, d.left = true, 1000 })
		for second := range 60 {
			requireAppend(t, w, 3)
			time.Sleep(time.Second)
			require.Equal(t, time.Duration(second+1)*time.Second, w.Lag())
		}
		require.ErrorIs(t, w.Err(), syscall.ENOSPC)
		d.change(func() { d.full = false })
		time.Sleep(maxPause + 100*time.Millisecond)
		synctest.Wait()
		require.Zero(t, w.Lag())

		d.change(func() { d.syncErr = syscall.EIO })
		requireAppend(t, w, 1)
		time.Sleep(10 * time.Second)
		require.Equal(t, 10*time.Second, w.Lag(), "written, and not on the disk")
		d.change(func() { d.syncErr = nil })
		require.ErrorIs(t, w.Close(), syscall.EIO, "which a later fsync does not mend")
		require.Zero(t, w.Lag())
	})
}
