//go:build unix

package ledger

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
)

// TestRemoved: what stood in a file that is removed under the Writer is lost, and what
// comes then, too. One that is renamed loses nothing.
func TestRemoved(t *testing.T) {
	for _, c := range []struct {
		name  string
		do    func(path string) error
		lost  []uint64 // behind two records, and a third
		close string
	}{
		{"removed", os.Remove, []uint64{2, 3}, "the file was removed while it was written, and its 3 records with it"},
		{"replaced", func(path string) error {
			other := path + ".new"
			if err := os.WriteFile(other, nil, 0o600); err != nil {
				return err
			}
			return os.Rename(other, path)
		}, []uint64{2, 3}, "its 3 records with it"},
		{"renamed", func(path string) error { return os.Rename(path, path+".1") }, []uint64{0, 0}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "t.jsonl")
			w, err := Open(path, Options{})
			require.NoError(t, err)
			another := func() {
				require.NoError(t, w.Append(&policy.Observation{Kind: policy.KindConnection}))
				require.NoError(t, w.Sync(t.Context()))
			}
			another()
			require.NoError(t, c.do(path))
			require.Zero(t, w.Lost())
			for _, lost := range c.lost {
				another()
				require.Equal(t, lost, w.Lost())
			}
			require.NoError(t, w.Err(), "nothing that could pass")
			if err = w.Close(); c.close == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, c.close)
			require.ErrorContains(t, err, path)
		})
	}
}
