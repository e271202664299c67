package capture

import "encoding/binary"

// connectionRefused is the error code of RFC 9000 section 20.1.
const connectionRefused = 0x02

// greased is a version that nobody speaks (RFC 9000 section 15).
const greased = 0x1a2a3a4a

// Refusal is the datagram that makes the client give up at once, instead of after
// its own timeout, and turn to TCP. Where its Initial was read, that is a server's
// Initial with CONNECTION_CLOSE, code CONNECTION_REFUSED (RFC 9000 sections 5.2.2 and
// 10.2.3); where its version is not read, a Version Negotiation that offers none.
// ok is false for gQUIC, and for what is no QUIC: there is nothing to say. It is
// shorter than what it answers.
func (r *Initials) Refusal() (datagram []byte, ok bool) {
	switch {
	case !r.quic || r.version == 0 || google(r.version, 0, 99):
		return nil, false
	case !readable(r.version):
		b := header(nil, 0x80|0x40, 0, r.scid, r.dcid)
		return binary.BigEndian.AppendUint32(b, greased), true
	}
	for i := len(r.keys) - 1; i >= 0; i-- {
		if k := r.keys[i]; k.version == r.version {
			return r.close(k), true
		}
	}
	return nil, false
}

// close makes the CONNECTION_CLOSE.
func (r *Initials) close(k *keys) []byte {
	payload := append(make([]byte, 0, 32), frameClose)
	payload = appendVarint(payload, connectionRefused)
	payload = appendVarint(payload, framePadding) // no frame of the client's was wrong
	payload = append(appendVarint(payload, uint64(len(reason))), reason...)
	first := byte(0xc0)
	if r.version == version2 {
		first |= 1 << 4
	}
	h := header(nil, first, r.version, r.scid, r.dcid)
	h = appendVarint(h, 0) // no token
	h = appendVarint(h, uint64(1+len(payload)+tagSize))
	return k.server().seal(append(h, 0), 1, payload)
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
