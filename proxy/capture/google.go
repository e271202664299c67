package capture

import (
	"bytes"
	"encoding/binary"

	"github.com/egressaudit/egressaudit/proxy/hello"
)

// readGoogle reads the hello of gQUIC, Google's protocol before RFC 9000, whose
// first packets are in the clear up to version 46: a stream frame with a CHLO
// message (draft-hamilton-quic-transport-protocol-01, and the QUIC crypto
// document beside it). It decides where the datagram is one.
func (r *Initials) readGoogle(b []byte) bool {
	version, at, ok := googleHeader(b)
	if !ok {
		return false
	}
	r.quic, r.version = true, version
	const hash = 12 // of the payload
	h := hello.Hello{Protocol: hello.TLS, Reason: hello.Malformed}
	if len(b) >= at+hash {
		if message, ok := googleFrame(b[at+hash:]); ok {
			h = googleHello(message)
		}
	}
	r.refuse(h)
	return true
}

// googleHeader says where the payload's hash begins: in a public header with a
// version (up to Q043), or a long header (Q044 to Q046).
func googleHeader(b []byte) (version uint32, at int, ok bool) {
	if len(b) < 14 {
		return 0, 0, false
	}
	if b[0]&0x80 != 0 {
		version = binary.BigEndian.Uint32(b[1:])
		// The version, a connection ID of 8 octets, a packet number.
		return version, 1 + 4 + 1 + 8 + int(b[0]&3) + 1, google(version, 44, 46) && b[5] == 0x50
	}
	const withVersion, withID = 0x01, 0x08
	number := [4]int{1, 2, 4, 6}[b[0]>>4&3]
	version = binary.BigEndian.Uint32(b[9:])
	return version, 1 + 8 + 4 + number, b[0]&(withVersion|withID) == withVersion|withID && google(version, 30, 43)
}

// google says whether a version is one from Q0lo to Q0hi.
func google(version uint32, lo, hi int) bool {
	tens, ones := int(version>>8&0xff)-'0', int(version&0xff)-'0'
	n := tens*10 + ones
	return version>>16 == 'Q'<<8|'0' && tens >= 0 && ones >= 0 && ones <= 9 && lo <= n && n <= hi
}

// googleFrame takes the data of a stream frame that begins the crypto stream.
func googleFrame(b []byte) ([]byte, bool) {
	// 1FDOOOSS: a stream frame, its data's length, the sizes of offset and stream.
	const stream, counted, offset, idSize = 0x80, 0x20, 0x1c, 0x03
	if len(b) < 4 || b[0]&(stream|counted|offset|idSize) != stream|counted || b[1] != 1 {
		return nil, false
	}
	n := int(binary.BigEndian.Uint16(b[2:]))
	if n > len(b)-4 {
		return nil, false
	}
	return b[4 : 4+n], true
}

// googleHello reads the server name of a CHLO message: a count of tags, and for
// each its end in the values behind them. A server name that is missing is
// NoName.
func googleHello(m []byte) hello.Hello {
	bad := hello.Hello{Protocol: hello.TLS, Reason: hello.Malformed}
	if len(m) < 8 || !bytes.Equal(m[:4], []byte("CHLO")) {
		return bad
	}
	count := int(binary.LittleEndian.Uint16(m[4:]))
	m = m[8:]
	if len(m) < 8*count {
		return bad
	}
	tags, values := m[:8*count], m[8*count:]
	from := 0
	for ; len(tags) > 0; tags = tags[8:] {
		to := int(binary.LittleEndian.Uint32(tags[4:]))
		if to < from || to > len(values) {
			return bad
		}
		if bytes.Equal(tags[:4], []byte("SNI\x00")) && to > from {
			return hello.Hello{Protocol: hello.TLS, ServerName: string(values[from:to])}
		}
		from = to
	}
	return hello.Hello{Protocol: hello.TLS, Reason: hello.NoName}
}

// googleAnswer judges a server's datagram of gQUIC by its header: it is a version
// list, a reset, or says yes.
func googleAnswer(b []byte) Answer {
	const version, reset = 0x01, 0x02
	p, _, ok := parsePacket(b)
	switch {
	case !ok:
		return Answer{Kind: Junk}
	case p.typ == typeNegotiation, p.typ == typeShort && b[0]&version != 0:
		return Answer{Kind: Negotiation}
	case p.typ == typeShort && b[0]&reset != 0:
		return Answer{Kind: Closed, Code: connectionRefused}
	}
	return Answer{Kind: Greeted}
}
