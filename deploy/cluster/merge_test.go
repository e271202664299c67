package cluster

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMerge(t *testing.T) {
	for _, tc := range []struct{ in, want []netip.Prefix }{
		{ranges("10.244.1.0/24", "10.244.0.0/24"), ranges("10.244.0.0/23")},
		{ranges("10.244.1.0/24", "10.244.2.0/24"), ranges("10.244.1.0/24", "10.244.2.0/24")}, // neighbours, not halves
		{ranges("10.244.3.0/24", "10.244.0.0/24", "10.244.2.0/24", "10.244.1.0/24"), ranges("10.244.0.0/22")},
		{ranges("10.0.0.0/8", "10.1.0.0/16", "10.0.0.0/8"), ranges("10.0.0.0/8")},
		{ranges("10.1.2.3/16"), ranges("10.1.0.0/16")},
		{ranges("0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"), ranges("0.0.0.0/0", "::/0")},
	} {
		require.Equal(t, tc.want, Merge(tc.in))
	}
	require.Empty(t, Merge(nil))
}

// Against a naive oracle: the same addresses, and no two ranges left to join.
func TestMergeKeepsAddresses(t *testing.T) {
	in := func(list []netip.Prefix, a netip.Addr) bool {
		return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		var list []netip.Prefix
		for range r.IntN(8) {
			list = append(list, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(r.IntN(16))}), 28+r.IntN(5)))
		}
		merged := Merge(list)
		for last := range 16 {
			a := netip.AddrFrom4([4]byte{10, 0, 0, byte(last)})
			require.Equal(t, in(list, a), in(merged, a), "%v: %v, %s", list, merged, a)
		}
		for i, p := range merged {
			for _, q := range merged[i+1:] {
				require.False(t, p.Overlaps(q) || halves(p, q), "%v: %v", list, merged)
			}
		}
	}
}
