package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestToldAt: a pod was told to end when its grace began, which is what comes first of
// it; what is deleted at last has none.
func TestToldAt(t *testing.T) {
	told, err := toldAt(`a   <none>   <none>
b   <none>   <none>
a   2026-01-01T00:00:25Z   25
a   2026-01-01T00:00:25Z   25
a   2026-01-01T00:00:17Z   0
`)
	require.NoError(t, err)
	require.Equal(t, map[string]time.Time{"a": time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}, told)

	_, err = toldAt("a 2026-01-01 25\n")
	require.ErrorContains(t, err, `what kubectl said of "a"`)
}
