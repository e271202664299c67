//go:build !race

package capture

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestAllocations: what comes behind a hello leaves the heap alone.
func TestAllocations(t *testing.T) {
	m := clientHello(t, "a.example", "h3")
	first := initial(shot{dcid: idA, scid: idB, frames: crypto(m, 0, len(m))})
	r, _ := feed(t, first)
	later := initial(shot{keyID: idA, dcid: idB, frames: []byte{frameAck, 0, 0, 0, 0}})
	short := []byte("\x41 1-RTT")
	require.Zero(t, testing.AllocsPerRun(100, func() { r.Owns(later); r.Owns(short) }), "behind the decision")
	require.LessOrEqual(t, testing.AllocsPerRun(100, func() { new(Initials).Feed(first) }), 80.0, "a first flight")
}
