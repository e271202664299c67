package nftables

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// block is a part of a table as Render writes it, one line each: of a set what it
// is, of a chain its hook and its rules; a counter has none.
type block struct {
	kind, name string
	lines      []string
}

// blocks are the parts of a table in order. Comments are left out, and so is what
// only nft(8) needs: the removal of the table that was there.
func blocks(text string) ([]block, error) {
	var out []block
	open := false
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		switch {
		case len(words) == 0 || words[0][0] == '#' || slices.Contains(words[:min(2, len(words))], "table"):
		case words[0] == "}":
			open = false
		case open:
			last := &out[len(out)-1]
			last.lines = append(last.lines, strings.Join(words, " "))
		case len(words) == 3 && strings.HasPrefix(words[2], "{"):
			out = append(out, block{kind: words[0], name: words[1]})
			open = words[2] == "{"
		default:
			return nil, fmt.Errorf("no part of a table: %q", strings.TrimSpace(line))
		}
	}
	return out, nil
}

// elements are the ranges of a set.
func (b block) elements() (out []netip.Prefix, err error) {
	for _, line := range b.lines {
		list, ok := strings.CutPrefix(line, "elements = { ")
		if !ok {
			continue
		}
		for _, text := range strings.Split(strings.TrimSuffix(list, " }"), ", ") {
			p, err := netip.ParsePrefix(text)
			if err != nil {
				return nil, err
			}
			out = append(out, p)
		}
	}
	return out, nil
}

// span is a run of addresses; end is the one behind the last, and not valid where
// the last address of the family is in it.
type span struct{ start, end netip.Addr }

// spans are ranges of one family in order, those that touch joined, as nft does with
// auto-merge: the kernel refuses ranges that overlap.
func spans(list []netip.Prefix) (out []span) {
	list = slices.SortedFunc(slices.Values(list), netip.Prefix.Compare)
	for _, p := range list {
		s := span{p.Masked().Addr(), behind(p)}
		if n := len(out); n == 0 || out[n-1].end.IsValid() && out[n-1].end.Less(s.start) {
			out = append(out, s)
		} else if last := &out[n-1]; last.end.IsValid() && (!s.end.IsValid() || last.end.Less(s.end)) {
			last.end = s.end
		}
	}
	return out
}

// behind is the address after the last one of p.
func behind(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	last, _ := netip.AddrFromSlice(b) // of a length that an address has
	return last.Next()
}
