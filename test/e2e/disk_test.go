//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/test/suite"
)

// tinyDisk makes a file system of so many KiB. It has no place in the tree of
// folders any more when this returns: only an open file holds it, so that it
// goes with the test, however that ends.
func (w *world) tinyDisk(t *testing.T, kib string) string {
	t.Helper()
	dir := filepath.Join(w.dir, "disk")
	require.NoError(t, os.Mkdir(dir, 0o755))
	require.NoError(t, syscall.Mount("egressaudit-e2e", dir, "tmpfs", 0, "size="+kib+"k,nr_inodes=16"))
	f, err := os.Open(dir)
	require.NoError(t, errors.Join(err, syscall.Unmount(dir, syscall.MNT_DETACH)))
	t.Cleanup(func() { f.Close() })
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd())
}

// fill writes until the disk is full, but for so many of its last pages.
func fill(t *testing.T, dir string, spare int64) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "filling"))
	require.NoError(t, err)
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	require.ErrorIs(t, err, syscall.ENOSPC)
	s, err := f.Stat()
	require.NoError(t, err)
	require.NoError(t, f.Truncate(s.Size()-spare*4096))
}

// TestDiskFull lets the ledger's disk fill up during a trial in which all that
// is required works. It must not be cleared, for nobody can know what was lost.
func TestDiskFull(t *testing.T) {
	suite.Need(t, "curl")
	t.Parallel()
	w := newWorld(t)
	disk := w.tinyDisk(t, "512")
	fill(t, disk, 4)
	ledger := filepath.Join(disk, "trial.jsonl")
	x, status := w.run(t, nil, []string{"--ledger", ledger}, "curl", "-sS", "-o", "/dev/null", "http://web.egress.test/[1-200]")
	require.Equal(t, 3, status, x.said())
	r := x.judged(t)
	require.EqualValues(t, "cannot-tell", r.Verdict)
	require.Contains(t, strings.Join(r.BlindSpots, "\n"), "no space left on device")

	p := w.command(t, nil, suite.Program(t), "report", "--catalog", w.catalog, ledger).start()
	require.Equal(t, 3, p.wait(), "judged later, by somebody who was not there: %s", p.stdout.String())
	require.NotContains(t, p.stdout.String(), "CLEAR")
}

// TestDiskFullForAWhile frees the disk before the trial ends: what waited is
// written, and nothing is missing.
func TestDiskFullForAWhile(t *testing.T) {
	suite.Need(t, "curl")
	t.Parallel()
	w := newWorld(t)
	disk := w.tinyDisk(t, "512")
	fill(t, disk, 4)
	ledger := filepath.Join(disk, "trial.jsonl")
	x, status := w.run(t, nil, []string{"--ledger", ledger}, "sh", "-c",
		`curl -sS -o /dev/null "$0"; rm "$1"`, "http://web.egress.test/[1-200]", filepath.Join(disk, "filling"))
	require.Zero(t, status, x.said())
	require.EqualValues(t, "clear", x.judged(t).Verdict)
	records := readLedger(t, ledger)
	require.Len(t, closing(records), 200)
	require.Equal(t, policy.KindStop, records[len(records)-1].Kind)
	for i, r := range records {
		require.EqualValues(t, i+1, r.Seq)
	}
}

// TestDiskFullAtTheStart has not a byte to spare for the ledger.
func TestDiskFullAtTheStart(t *testing.T) {
	suite.Need(t, "curl")
	t.Parallel()
	w := newWorld(t)
	disk := w.tinyDisk(t, "64")
	fill(t, disk, 0)
	x, status := w.run(t, nil, []string{"--ledger", filepath.Join(disk, "trial.jsonl")}, "curl", "-sS", "http://web.egress.test/")
	require.Contains(t, []int{2, 3}, status, "refused, or not told: %s", x.said())
	if exists(x.report) {
		r := x.judged(t)
		require.EqualValues(t, "cannot-tell", r.Verdict)
		require.Contains(t, strings.Join(r.BlindSpots, "\n"), "no space left on device")
	} else {
		require.Contains(t, x.said(), "no space left on device")
	}
}
