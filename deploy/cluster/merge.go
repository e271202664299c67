package cluster

import (
	"cmp"
	"net/netip"
	"slices"
)

// Merge is the shortest list of ranges, masked and sorted, that has the same
// addresses: what lies in another range is left out, and two halves of a range
// become that range.
func Merge(ranges []netip.Prefix) []netip.Prefix {
	sorted := make([]netip.Prefix, 0, len(ranges))
	for _, r := range ranges {
		sorted = append(sorted, r.Masked())
	}
	slices.SortFunc(sorted, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	var out []netip.Prefix
	for _, r := range sorted {
		if n := len(out); n > 0 && out[n-1].Overlaps(r) {
			continue // sorted, so it lies inside
		}
		for n := len(out); n > 0 && halves(out[n-1], r); n = len(out) {
			out, r = out[:n-1], netip.PrefixFrom(r.Addr(), r.Bits()-1).Masked()
		}
		out = append(out, r)
	}
	return out
}

// halves says whether a and b are the two halves of one range.
func halves(a, b netip.Prefix) bool {
	if a.Bits() != b.Bits() || a.Bits() == 0 || a.Addr().BitLen() != b.Addr().BitLen() {
		return false
	}
	whole := netip.PrefixFrom(a.Addr(), a.Bits()-1).Masked()
	return a != b && whole.Contains(b.Addr())
}
