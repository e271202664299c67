package dnsaudit

import (
	"encoding/binary"
	"slices"

	"github.com/miekg/dns"

	"github.com/egressaudit/egressaudit/policy"
)

// Keys of service parameters (RFC 9460 section 14.3.2).
const (
	keyMandatory = 0
	keyECH       = 5
)

// strip takes the ech parameters out of pkt where the configuration wants it,
// and says so in o; pkt itself stays as it is.
func (f *Forwarder) strip(o *policy.Observation, pkt []byte) []byte {
	if !f.config.StripECH {
		return pkt
	}
	c, ok := findECH(pkt)
	switch {
	case !ok && o.Detail["ech"] == true:
		tell(o, "ech_stripped", false)
	case ok && len(c.holes) > 0:
		tell(o, "ech_stripped", true)
		return c.close()
	}
	return pkt
}

// cut is a packet and what is to be cut out of it. The packet is changed by
// nobody else, and its holes are in their order.
type cut struct {
	pkt      []byte
	holes    []hole
	lengths  []int // where a 16-bit length stands, and
	shorter  []int // by how much what it measures becomes shorter
	pointers []int // where each compression pointer stands
	labels   map[int]bool
}

type hole struct{ from, to int }

// findECH looks for ech parameters and for all that moves when they are cut out;
// false where pkt cannot be read to its end.
func findECH(pkt []byte) (*cut, bool) {
	c := &cut{pkt: slices.Clone(pkt), labels: make(map[int]bool)}
	at, ok := headerLen, len(pkt) >= headerLen
	for n := 0; ok && n < int(binary.BigEndian.Uint16(pkt[4:])); n++ {
		at, ok = c.name(at)
		at += 4
	}
	if !ok {
		return c, false
	}
	for range records(pkt) {
		r, ok := readRecord(pkt, at)
		if !ok {
			return c, false
		}
		if _, ok := c.name(at); !ok || !c.data(r) {
			return c, false
		}
		at = r.next
	}
	return c, true
}

// name notes where the labels of a name begin, and the pointer that it may end
// in. One that does not point to a part of a name before it is refused: what it points to
// may move in parts.
func (c *cut) name(at int) (end int, ok bool) {
	end, ok = skipName(c.pkt, at)
	for ok && at < end && c.pkt[at] != 0 {
		known := c.pkt[at] < 0xC0 || c.labels[c.target(at)]
		c.labels[at] = true
		if c.pkt[at] >= 0xC0 {
			c.pointers = append(c.pointers, at)
			return end, known
		}
		at += int(c.pkt[at]) + 1
	}
	return end, ok
}

func (c *cut) target(pointer int) int {
	return int(binary.BigEndian.Uint16(c.pkt[pointer:]) & 0x3FFF)
}

// compressed says for each type whose names may be compressed (RFC 1035 section
// 4.1.4, RFC 3597 section 4) how many octets stand before them, and how many
// names there are.
var compressed = map[uint16][2]int{
	dns.TypeNS: {0, 1}, dns.TypeMD: {0, 1}, dns.TypeMF: {0, 1}, dns.TypeCNAME: {0, 1}, dns.TypeSOA: {0, 2},
	dns.TypeMB: {0, 1}, dns.TypeMG: {0, 1}, dns.TypeMR: {0, 1}, dns.TypePTR: {0, 1}, dns.TypeMINFO: {0, 2},
	dns.TypeMX: {2, 1}, dns.TypeRP: {0, 2}, dns.TypeAFSDB: {2, 1}, dns.TypeRT: {2, 1}, dns.TypePX: {2, 2},
	dns.TypeSRV: {6, 1}, dns.TypeKX: {2, 1}, dns.TypeDNAME: {0, 1}, dns.TypeSIG: {18, 1}, dns.TypeNXT: {0, 1},
}

func (c *cut) data(r wireRecord) bool {
	if r.kind == dns.TypeHTTPS || r.kind == dns.TypeSVCB {
		return c.service(r)
	}
	at, ok := r.data+compressed[r.kind][0], true
	for n := compressed[r.kind][1]; n > 0 && ok; n-- {
		if at, ok = c.name(at); at > r.next {
			return false
		}
	}
	return ok
}

// service notes the ech parameter of one record, and the mention of it among the
// mandatory ones.
func (c *cut) service(r wireRecord) bool {
	if r.next-r.data < 3 {
		return r.next == r.data
	}
	at, ok := c.name(r.data + 2)
	gone := 0
	for ok && at+4 <= r.next {
		key, data := binary.BigEndian.Uint16(c.pkt[at:]), at+4
		next := data + int(binary.BigEndian.Uint16(c.pkt[at+2:]))
		if next > r.next {
			return false
		}
		switch key {
		case keyECH:
			gone += c.hole(at, next)
		case keyMandatory:
			gone += c.mandatory(at, data, next)
		}
		at = next
	}
	c.measure(r.data-2, gone)
	return ok && at == r.next
}

// mandatory drops ech from a list of keys, and the list where it had no other.
func (c *cut) mandatory(at, data, next int) (gone int) {
	for i := data; i+2 <= next; i += 2 {
		switch {
		case binary.BigEndian.Uint16(c.pkt[i:]) != keyECH:
		case next-data == 2:
			gone += c.hole(at, next)
		default:
			gone += c.hole(i, i+2)
			c.measure(at+2, 2)
		}
	}
	return gone
}

func (c *cut) hole(from, to int) int {
	c.holes = append(c.holes, hole{from, to})
	return to - from
}

func (c *cut) measure(at, gone int) {
	if gone > 0 {
		c.lengths, c.shorter = append(c.lengths, at), append(c.shorter, gone)
	}
}

// close makes the packet without the holes. Signatures over it do not hold any
// more, and so it does not claim that they do.
func (c *cut) close() []byte {
	for i, at := range c.lengths {
		n := binary.BigEndian.Uint16(c.pkt[at:])
		binary.BigEndian.PutUint16(c.pkt[at:], n-uint16(c.shorter[i]))
	}
	for _, at := range c.pointers {
		to := c.target(at)
		binary.BigEndian.PutUint16(c.pkt[at:], 0xC000|uint16(to-c.before(to)))
	}
	out, from := make([]byte, 0, len(c.pkt)), 0
	for _, h := range c.holes {
		out, from = append(out, c.pkt[from:h.from]...), h.to
	}
	out = append(out, c.pkt[from:]...)
	out[3] &^= flagAD
	return out
}

// before is how many octets in front of a place are cut out.
func (c *cut) before(place int) (n int) {
	for _, h := range c.holes {
		n += max(0, min(h.to, place)-h.from)
	}
	return n
}
