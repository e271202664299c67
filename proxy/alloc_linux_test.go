//go:build !race

package proxy

import (
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestMovingAllocatesNothing: a step of an established tunnel, through the buffer
// and through the kernel, leaves the heap alone.
func TestMovingAllocatesNothing(t *testing.T) {
	for name, full := range map[string]int{"buffer": 0, "splice": bulk} {
		t.Run(name, func(t *testing.T) {
			f, from, to := newFlow(t)
			f.tunnel.decided.Store(true)
			piece, got := make([]byte, 1000), make([]byte, 1000)
			step := func() {
				f.full = full
				if _, err := from.Write(piece); err != nil {
					t.Fatal(err)
				}
				for before := f.bytes.Load(); f.bytes.Load() < before+int64(len(piece)); {
					if _, err := f.next(); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := io.ReadFull(to, got); err != nil {
					t.Fatal(err)
				}
			}
			step()
			require.Zero(t, testing.AllocsPerRun(200, step))
			require.Equal(t, name == "splice", f.pipe != nil, "it took the way that was meant")
		})
	}
}

// newFlow is a flow between two connections; from and to are their far ends.
func newFlow(t testing.TB) (f *flow, from, to *net.TCPConn) {
	from, src := loop(t)
	dst, to := loop(t)
	x := &tunnel{p: New(Config{Index: listing(443)}), client: src}
	x.route.conn = dst
	x.up = flow{tunnel: x, src: src, dst: dst, from: clientSide}
	return &x.up, from, to
}
