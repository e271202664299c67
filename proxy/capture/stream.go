package capture

import (
	"bytes"
	"slices"
)

// maxHello bounds the handshake bytes kept of one client, and maxSpans the gaps
// in them: more than any client needs, few enough for very many flows.
const (
	maxHello = 16 << 10
	maxSpans = 64
)

// span is a range of octets.
type span struct{ from, to int }

// stream puts the CRYPTO frames of a client together, whatever their order.
type stream struct {
	buf  []byte
	have []span // sorted; between two of them something is missing
}

// fits says whether a piece lies within what is kept.
func fits(offset uint64, data []byte) bool {
	return offset <= maxHello && int(offset)+len(data) <= maxHello
}

// contradicts says whether a piece that fits differs from what came before.
func (s *stream) contradicts(at int, data []byte) bool {
	for _, h := range s.have {
		lo, hi := max(at, h.from), min(at+len(data), h.to)
		if lo < hi && !bytes.Equal(s.buf[lo:hi], data[lo-at:hi-at]) {
			return true
		}
	}
	return false
}

// add takes a piece that fits; false when it makes more gaps than are kept.
func (s *stream) add(at int, data []byte) bool {
	if len(data) == 0 {
		return true
	}
	end := at + len(data)
	if n := end - len(s.buf); n > 0 {
		s.buf = append(s.buf, make([]byte, n)...)
	}
	copy(s.buf[at:], data)
	i := 0
	for i < len(s.have) && s.have[i].to < at {
		i++
	}
	j, whole := i, span{at, end}
	for j < len(s.have) && s.have[j].from <= end {
		whole = span{min(whole.from, s.have[j].from), max(whole.to, s.have[j].to)}
		j++
	}
	s.have = slices.Replace(s.have, i, j, whole)
	return len(s.have) <= maxSpans
}

// begin is what has come without a gap.
func (s *stream) begin() []byte {
	if len(s.have) == 0 || s.have[0].from > 0 {
		return nil
	}
	return s.buf[:s.have[0].to]
}
