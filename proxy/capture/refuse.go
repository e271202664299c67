package capture

import "encoding/binary"

// connectionRefused is the error code of RFC 9000 section 20.1.
const connectionRefused = 0x02

// greased is a version that nobody speaks (RFC 9000 section 15).
const greased = 0x1a2a3a4a

// AppendRefusal appends to b the datagram that makes the client give up at once,
// instead of after its own timeout, and turn to TCP. Where the client's Initial
// was read, that is a server's Initial with CONNECTION_CLOSE, code
// CONNECTION_REFUSED (RFC 9000 sections 5.2.2 and 10.2.3); where its version is not
// read, a Version Negotiation that offers none. ok is false for what is no QUIC
// of RFC 8999: there is nothing to say. It is shorter than what it answers.
func (r *Initials) AppendRefusal(b, datagram []byte) (refusal []byte, ok bool) {
	p, _, ok := parsePacket(datagram)
	switch {
	case !ok:
	case p.typ == typeUnknown:
		if _, _, ok := googleHeader(datagram); ok {
			return b, false
		}
		b = header(b, 0x80|0x40, 0, p.scid, p.dcid)
		return binary.BigEndian.AppendUint32(b, greased), true
	case p.typ == typeInitial:
		return r.appendClose(b, p)
	}
	return b, false
}

// appendClose answers p with a CONNECTION_CLOSE under the keys of its connection
// ID.
func (r *Initials) appendClose(b []byte, p packet) ([]byte, bool) {
	for _, k := range r.keys {
		if k.version != p.version || string(k.dcid) != string(p.dcid) {
			continue
		}
		payload := make([]byte, 0, 32)
		payload = append(payload, frameClose)
		payload = appendVarint(payload, connectionRefused)
		payload = appendVarint(payload, framePadding) // no frame of the client's was wrong
		payload = append(appendVarint(payload, uint64(len(reason))), reason...)
		first := byte(0xc0)
		if p.version == version2 {
			first |= 1 << 4
		}
		h := header(nil, first, p.version, p.scid, p.dcid)
		h = appendVarint(h, 0) // no token
		h = appendVarint(h, uint64(1+len(payload)+tagSize))
		return append(b, k.server().seal(append(h, 0), 1, payload)...), true
	}
	return b, false
}

// reason is what the client may show.
const reason = "egressaudit"

// header begins a long header: to dcid, from scid.
func header(b []byte, first byte, version uint32, dcid, scid []byte) []byte {
	b = append(b, first)
	b = binary.BigEndian.AppendUint32(b, version)
	b = append(append(b, byte(len(dcid))), dcid...)
	return append(append(b, byte(len(scid))), scid...)
}
