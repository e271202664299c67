package dnsaudit

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// What RFC 1035 section 4.1 puts where.
const (
	flagQR = 0x80 // in octet 2, as opcode, TC and RD are
	flagTC = 0x02
	flagRD = 0x01
	flagRA = 0x80 // in octet 3, as AD and CD are
	flagAD = 0x20
	flagCD = 0x10
	opcode = 0x78

	maxWire   = 255 // octets of a name, its length octets and the root included
	optLen    = 11  // octets of an OPT record without options
	plainSize = 512 // what a client takes over UDP unless it says otherwise
	// maxUDP is the largest payload that IPv4 carries in UDP.
	maxUDP = 65507
)

// How a question came, or goes on.
const (
	viaUDP = "udp"
	viaTCP = "tcp"
	viaTLS = "tls"
)

// query is one question of a client. Its packet goes to the upstreams as it
// came, but for the ID.
type query struct {
	packet   []byte
	id       uint16
	question []byte // the question section, a part of packet
	name     string // presentation format (RFC 1035 section 5.1), lower case, without the final dot
	kind     uint16
	class    uint16
	edns, do bool
	size     int // the largest answer that the client takes over UDP

	client netip.AddrPort
	via    string
	begun  time.Time
}

// door is what to do with a packet that is no question for an upstream.
type door int

const (
	enter  door = iota
	ignore      // no answer at all: it may be an answer itself, or is no DNS
	malformed
	unknownOpcode
)

// readQuery reads what a client sent. Only a packet that may enter has a query;
// it refers to pkt and keeps it. No octets make it panic.
func readQuery(pkt []byte) (*query, door) {
	switch {
	case len(pkt) < headerLen, pkt[2]&flagQR != 0:
		return nil, ignore
	case pkt[2]&opcode != 0:
		return nil, unknownOpcode
	case pkt[2]&flagTC != 0, binary.BigEndian.Uint16(pkt[4:]) != 1:
		return nil, malformed // cut off, says the client; RFC 9619
	}
	end, ok := plainName(pkt, headerLen)
	if !ok || end+4 > len(pkt) {
		return nil, malformed
	}
	q := &query{
		packet: pkt, id: binary.BigEndian.Uint16(pkt), question: pkt[headerLen : end+4],
		kind: binary.BigEndian.Uint16(pkt[end:]), class: binary.BigEndian.Uint16(pkt[end+2:]), size: plainSize,
	}
	text, _, err := dns.UnpackDomainName(pkt[:end], headerLen)
	if err != nil || !q.readRecords(pkt, end+4) {
		return nil, malformed
	}
	q.name = bare(dns.CanonicalName(text))
	return q, enter
}

// bare is a canonical name without the final dot; of the root it is ".".
func bare(name string) string {
	if name == "." {
		return name
	}
	return strings.TrimSuffix(name, ".")
}

// plainName finds the end of a name that no pointer shortens: there is nothing
// before a question that one could point to.
func plainName(pkt []byte, at int) (end int, ok bool) {
	for start := at; at < len(pkt); {
		n := int(pkt[at])
		at++
		switch {
		case n > 63 || at-start > maxWire:
			return 0, false
		case n == 0:
			return at, true
		}
		at += n
	}
	return 0, false
}

// skipName finds the end of any name.
func skipName(pkt []byte, at int) (end int, ok bool) {
	for at < len(pkt) {
		n := int(pkt[at])
		at++
		switch {
		case n == 0:
			return at, true
		case n >= 0xC0:
			return at + 1, at < len(pkt)
		case n > 63:
			return 0, false
		}
		at += n
	}
	return 0, false
}

// wireRecord is where a record stands in a packet.
type wireRecord struct {
	kind       uint16
	ttl        int // where the TTL stands
	data, next int // where its data begins, and what follows it
}

// readRecord reads the record at a place of pkt.
func readRecord(pkt []byte, at int) (r wireRecord, ok bool) {
	end, ok := skipName(pkt, at)
	if !ok || end+10 > len(pkt) {
		return r, false
	}
	r = wireRecord{kind: binary.BigEndian.Uint16(pkt[end:]), ttl: end + 4, data: end + 10}
	r.next = r.data + int(binary.BigEndian.Uint16(pkt[end+8:]))
	return r, r.next <= len(pkt)
}

// records is how many records the header announces.
func records(pkt []byte) int {
	n := 0
	for at := 6; at < headerLen; at += 2 {
		n += int(binary.BigEndian.Uint16(pkt[at:]))
	}
	return n
}

// readRecords walks what follows the question: all of it must be there, and at
// most one OPT (RFC 6891 section 6.1.1).
func (q *query) readRecords(pkt []byte, at int) bool {
	for range records(pkt) {
		r, ok := readRecord(pkt, at)
		if !ok {
			return false
		}
		if r.kind == dns.TypeOPT {
			if q.edns {
				return false
			}
			q.edns, q.do = true, pkt[r.ttl+2]&0x80 != 0
			q.size = min(max(plainSize, int(binary.BigEndian.Uint16(pkt[r.ttl-2:]))), maxUDP)
		}
		at = r.next
	}
	return true
}

// typeName is the mnemonic of q's type, "TYPE65280" (RFC 3597) where it has none.
func (q *query) typeName() string { return typeName(q.kind) }

func typeName(kind uint16) string {
	if kind == dns.TypeNone {
		return "TYPE0"
	}
	return dns.Type(kind).String()
}

// short is an answer of our own: the question, and an OPT where the client sent
// one. It is never longer than what the client sent.
func (q *query) short(rcode int, truncated bool) []byte {
	pkt := make([]byte, headerLen, headerLen+len(q.question)+optLen)
	copy(pkt, q.packet[:4])
	binary.BigEndian.PutUint16(pkt, q.id)
	pkt[2] = flagQR | q.packet[2]&flagRD
	if truncated {
		pkt[2] |= flagTC
	}
	pkt[3] = flagRA | q.packet[3]&flagCD | byte(rcode)
	pkt[5] = 1
	pkt = append(pkt, q.question...)
	if q.edns {
		pkt[11] = 1
		pkt = append(pkt, 0, 0, byte(dns.TypeOPT), udpSize>>8, udpSize&0xFF, 0, 0, 0, 0, 0, 0)
		if q.do {
			pkt[len(pkt)-4] = 0x80
		}
	}
	return pkt
}

// refusal is the answer to a packet that is no question: its header alone, with
// FORMERR or NOTIMP; nil where it gets none.
func refusal(pkt []byte, d door) []byte {
	rcode := map[door]byte{malformed: dns.RcodeFormatError, unknownOpcode: dns.RcodeNotImplemented}[d]
	if rcode == 0 {
		return nil
	}
	return []byte{pkt[0], pkt[1], flagQR | pkt[2]&(opcode|flagRD), rcode, 0, 0, 0, 0, 0, 0, 0, 0}
}
