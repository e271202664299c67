package ledger

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
)

// TestNameless: a file that never had a name (memory, a file system that counts no
// links) was removed by nobody: who gave it keeps it.
func TestNameless(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "t.jsonl"))
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, os.Remove(f.Name()))
	w, err := Open(fmt.Sprintf("/dev/fd/%d", f.Fd()), Options{})
	require.NoError(t, err)
	require.NoError(t, w.Append(&policy.Observation{Kind: policy.KindConnection}))
	require.NoError(t, w.Sync(t.Context()))
	require.Zero(t, w.Lost())
	require.NoError(t, w.Close())
	i, err := f.Stat()
	require.NoError(t, err)
	require.NotZero(t, i.Size())
}
