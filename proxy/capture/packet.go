package capture

import (
	"encoding/binary"
	"math/bits"
)

// Versions of QUIC whose Initial packets are read.
const (
	version1       = 0x00000001 // RFC 9000
	version2       = 0x6b3343cf // RFC 9369
	versionDraft29 = 0xff00001d // drafts 29 to 32 have the same salt
	versionDraft32 = 0xff000020
)

// packetType is what a packet is, in whatever version's bits.
type packetType uint8

const (
	typeUnknown     packetType = iota // a long header of a version that is not read
	typeInitial                       // in the order of version 1's bits
	typeZeroRTT                       //
	typeHandshake                     //
	typeRetry                         //
	typeNegotiation                   // Version Negotiation
	typeShort                         // a short header: 1-RTT, if it is QUIC at all
)

// maxConnID is the longest connection ID of the versions that are read, RFC 9000
// section 17.2.
const maxConnID = 20

// packet is one packet of a datagram. Its slices lie in the datagram.
type packet struct {
	typ     packetType
	version uint32
	dcid    []byte
	scid    []byte
	raw     []byte // the whole packet, header first
	body    int    // where in raw the packet number, the payload or the version list begins
}

// parsePacket cuts the first packet off a datagram. A packet without a length,
// and one of an unknown version, takes all of it. ok is false for what no
// receiver of QUIC would read on.
func parsePacket(b []byte) (p packet, rest []byte, ok bool) {
	if len(b) == 0 {
		return p, nil, false
	}
	if b[0]&0x80 == 0 {
		return packet{typ: typeShort, raw: b, body: 1}, nil, true
	}
	if len(b) < 7 {
		return p, nil, false
	}
	p.raw, p.version = b, binary.BigEndian.Uint32(b[1:])
	at := 5
	if p.dcid, at, ok = connID(b, at); !ok {
		return p, nil, false
	}
	if p.scid, at, ok = connID(b, at); !ok {
		return p, nil, false
	}
	p.body = at
	if p.version == 0 {
		p.typ = typeNegotiation
		return p, nil, true
	}
	if !readable(p.version) {
		return p, nil, true
	}
	return p.split()
}

// connID reads a connection ID with its length (RFC 8999 section 5.1).
func connID(b []byte, at int) (id []byte, next int, ok bool) {
	if at >= len(b) {
		return nil, at, false
	}
	next = at + 1 + int(b[at])
	if next > len(b) {
		return nil, at, false
	}
	return b[at+1 : next], next, true
}

func readable(version uint32) bool {
	return version == version1 || version == version2 || version >= versionDraft29 && version <= versionDraft32
}

// split reads the rest of a long header in a version that is read, and finds the
// packet's end. The fixed bit may be anything (RFC 9287).
func (p packet) split() (packet, []byte, bool) {
	if len(p.dcid) > maxConnID || len(p.scid) > maxConnID {
		return p, nil, false
	}
	p.typ = longType(p.version, p.raw[0]>>4&3)
	if p.typ == typeRetry {
		return p, nil, true
	}
	b := p.raw[p.body:]
	if p.typ == typeInitial {
		token, ok := varint(&b)
		if !ok || token > uint64(len(b)) {
			return p, nil, false
		}
		b = b[token:]
	}
	size, ok := varint(&b)
	if !ok || size > uint64(len(b)) {
		return p, nil, false
	}
	p.body = len(p.raw) - len(b)
	rest := b[size:]
	p.raw = p.raw[:p.body+int(size)]
	return p, rest, true
}

// longType maps the type bits of a long header (RFC 9000 section 17.2, RFC 9369
// section 3.2).
func longType(version uint32, bits byte) packetType {
	if version == version2 {
		bits = (bits + 3) & 3
	}
	return typeInitial + packetType(bits)
}

// varint takes a variable-length integer (RFC 9000 section 16) from b.
func varint(b *[]byte) (v uint64, ok bool) {
	if len(*b) == 0 {
		return 0, false
	}
	n := 1 << ((*b)[0] >> 6)
	if len(*b) < n {
		return 0, false
	}
	v = uint64((*b)[0] & 0x3f)
	for _, c := range (*b)[1:n] {
		v = v<<8 | uint64(c)
	}
	*b = (*b)[n:]
	return v, true
}

// appendVarint writes v, which is below 2^62, in its shortest form.
func appendVarint(b []byte, v uint64) []byte {
	switch n := bits.Len64(v); {
	case n <= 6:
		return append(b, byte(v))
	case n <= 14:
		return binary.BigEndian.AppendUint16(b, uint16(v)|1<<14)
	case n <= 30:
		return binary.BigEndian.AppendUint32(b, uint32(v)|2<<30)
	}
	return binary.BigEndian.AppendUint64(b, v|3<<62)
}

// Frames that an Initial packet may hold, RFC 9000 section 12.4.
const (
	framePadding = 0x00
	framePing    = 0x01
	frameAck     = 0x02
	frameAckECN  = 0x03
	frameCrypto  = 0x06
	frameClose   = 0x1c
)

// frame is one frame of an Initial packet.
type frame struct {
	typ    uint64
	offset uint64 // of data in the handshake's stream
	data   []byte // of CRYPTO; of CONNECTION_CLOSE, the reason
	code   uint64 // of CONNECTION_CLOSE
}

// nextFrame takes a frame from b; ok is false at the end, and at a frame that
// Initial packets may not hold.
func nextFrame(b *[]byte) (f frame, ok bool) {
	if f.typ, ok = varint(b); !ok {
		return f, false
	}
	switch f.typ {
	case framePadding, framePing:
		return f, true
	case frameAck, frameAckECN:
		return f, skipAck(b, f.typ == frameAckECN)
	case frameCrypto:
		f.offset, ok = varint(b)
		return f, ok && counted(b, &f.data)
	case frameClose:
		if f.code, ok = varint(b); ok {
			_, ok = varint(b) // the type of the frame that was wrong
		}
		return f, ok && counted(b, &f.data)
	}
	return f, false
}

// counted takes a length and as many octets.
func counted(b, data *[]byte) bool {
	n, ok := varint(b)
	if !ok || n > uint64(len(*b)) {
		return false
	}
	*data, *b = (*b)[:n], (*b)[n:]
	return true
}

// skipAck passes over an ACK frame (RFC 9000 section 19.3) behind its type.
func skipAck(b *[]byte, ecn bool) bool {
	var head [4]uint64 // largest, delay, count of ranges, first range
	for i := range head {
		v, ok := varint(b)
		if !ok {
			return false
		}
		head[i] = v
	}
	fields := head[2]
	if fields > uint64(len(*b)) {
		return false
	}
	if fields *= 2; ecn {
		fields += 3
	}
	for range fields {
		if _, ok := varint(b); !ok {
			return false
		}
	}
	return true
}
