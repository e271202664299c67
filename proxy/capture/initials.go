package capture

import (
	"bytes"
	"sync"

	"github.com/egressaudit/egressaudit/proxy/hello"
)

// maxKeys bounds the keys of one hello: the first connection ID's, those after a
// Retry, and the same in a second version (RFC 9368).
const maxKeys = 4

// Initials reads the Initial packets of one QUIC client, datagram by datagram, in
// any order and as often as they come. It changes no datagram and keeps none. The
// zero value is ready; it is for one goroutine at a time.
//
// The ClientHello of gQUIC up to version 46, which is not encrypted, is read too.
type Initials struct {
	hello   hello.Hello
	version uint32
	decided bool
	quic    bool
	dcid    []byte // of the last Initial
	scid    []byte
	keys    []*keys // newest last
	stream  stream
}

// Feed takes a datagram and says whether the hello is decided. What comes after
// that is ignored. The first datagram that is no QUIC, or of a version that is
// not read, decides at once.
func (r *Initials) Feed(datagram []byte) (decided bool) {
	if r.decided {
		return true
	}
	first, _, ok := parsePacket(datagram)
	switch {
	case r.readGoogle(datagram):
	case !ok, first.typ == typeShort && !r.quic:
		r.refuse(hello.Hello{Protocol: hello.Other, Reason: hello.NotTLS})
	case first.typ == typeUnknown:
		r.quic = true
		r.note(first)
		r.refuse(hello.Hello{Protocol: hello.TLS, Reason: hello.Malformed})
	default:
		r.quic = true
		if len(r.keys) == 0 && first.typ != typeShort {
			r.note(first)
		}
		r.readInitials(datagram)
	}
	return r.decided
}

// refuse decides on what cannot be read, where nothing was before.
func (r *Initials) refuse(h hello.Hello) {
	if len(r.keys) == 0 {
		r.decide(h)
	}
}

// note keeps what a client calls itself, the server and the version.
func (r *Initials) note(p packet) {
	r.version = p.version
	r.dcid, r.scid = append(r.dcid[:0], p.dcid...), append(r.scid[:0], p.scid...)
}

func (r *Initials) decide(h hello.Hello) { r.hello, r.decided = h, true }

// End says that no more comes: why is TimedOut where the caller's clock ran out,
// TooLong where it will not hold more. It does nothing after a decision.
func (r *Initials) End(why hello.Reason) {
	if !r.decided {
		r.decide(hello.Hello{Protocol: hello.TLS, Reason: why})
	}
}

// Hello returns what was decided; before the decision, the zero value. Its
// Protocol is TLS for every hello in QUIC and Other for what is no QUIC; a hello
// in a version that is not read, or that contradicts itself, is Malformed.
func (r *Initials) Hello() hello.Hello { return r.hello }

// QUIC says whether the datagrams are QUIC as far as one sees.
func (r *Initials) QUIC() bool { return r.quic }

// Version is the QUIC version of the last Initial that was read; 0 before.
func (r *Initials) Version() uint32 { return r.version }

// Owns says whether a datagram that comes behind the decision belongs to the same
// hello: each Initial packet in it opens under the hello's keys and repeats no
// part of it otherwise. A datagram without Initial packets belongs to every
// hello, one of a version that is not read to none but its own.
func (r *Initials) Owns(datagram []byte) bool {
	room := rooms.Get().(*[]byte)
	defer rooms.Put(room)
	for rest := datagram; len(rest) > 0; {
		p, next, ok := parsePacket(rest)
		if !ok {
			return true // no server reads on, either
		}
		switch p.typ {
		case typeUnknown:
			return p.version == r.version
		case typeInitial:
			plain, ok := r.open(*room, p)
			if !ok || !r.repeats(plain) {
				return false
			}
		}
		rest = next
	}
	return true
}

// rooms are where packets are opened.
var rooms = sync.Pool{New: func() any { b := make([]byte, 64<<10); return &b }}

// readInitials reads the packets of a datagram that have the first one's
// connection ID; receivers ignore the others (RFC 9000 section 12.2).
func (r *Initials) readInitials(datagram []byte) {
	room := rooms.Get().(*[]byte)
	defer rooms.Put(room)
	var dcid []byte
	for rest := datagram; len(rest) > 0 && !r.decided; {
		p, next, ok := parsePacket(rest)
		if !ok || dcid != nil && !bytes.Equal(p.dcid, dcid) {
			return
		}
		dcid, rest = p.dcid, next
		if p.typ != typeInitial {
			continue
		}
		if plain, ok := r.open(*room, p); ok {
			r.note(p)
			r.readFrames(plain)
		}
	}
}

// open tries the keys we have, then the ones that the packet's connection ID, or
// an earlier one in the packet's version, gives.
func (r *Initials) open(room []byte, p packet) (plain []byte, ok bool) {
	for _, k := range r.keys {
		if k.version != p.version {
			continue
		}
		if plain, ok = k.client.open(room, p); ok {
			return plain, true
		}
	}
	if r.decided || r.knows(p.version) {
		return r.again(room, p)
	}
	if plain, ok = r.derive(room, p, p.dcid); ok || len(r.keys) == 0 {
		return plain, ok
	}
	return r.derive(room, p, r.keys[0].dcid)
}

// again tries the keys that other packets of the same hello may have: those of a
// second version, and before the decision those after a Retry.
func (r *Initials) again(room []byte, p packet) (plain []byte, ok bool) {
	switch {
	case !r.decided:
		return r.derive(room, p, p.dcid)
	case len(r.keys) == 0 || r.knows(p.version):
		return nil, false // of another hello: for another Initials to derive
	}
	return r.derive(room, p, r.keys[0].dcid)
}

// knows says whether there are keys of that version.
func (r *Initials) knows(version uint32) bool {
	for _, k := range r.keys {
		if k.version == version {
			return true
		}
	}
	return false
}

// derive keeps the keys of a connection ID that open p.
func (r *Initials) derive(room []byte, p packet, dcid []byte) (plain []byte, ok bool) {
	if len(r.keys) == maxKeys {
		return nil, false
	}
	k := newKeys(p.version, dcid)
	if plain, ok = k.client.open(room, p); ok {
		r.keys = append(r.keys, k)
	}
	return plain, ok
}

// readFrames takes the CRYPTO frames of an Initial, and decides once they hold
// the hello.
func (r *Initials) readFrames(plain []byte) {
	for f, ok := nextFrame(&plain); ok && !r.decided; f, ok = nextFrame(&plain) {
		if f.typ != frameCrypto {
			continue
		}
		switch {
		case !fits(f.offset, f.data):
			r.End(hello.TooLong)
		case r.stream.contradicts(int(f.offset), f.data):
			r.End(hello.Malformed)
		case !r.stream.add(int(f.offset), f.data):
			r.End(hello.TooLong)
		}
	}
	if r.decided {
		return
	}
	if h, decided := hello.Message(r.stream.begin()); decided {
		r.decide(h)
	}
}

// repeats says whether the CRYPTO frames of an Initial agree with the hello. What
// lies beyond it is a later message (RFC 8446 section 4.1.4).
func (r *Initials) repeats(plain []byte) bool {
	for f, ok := nextFrame(&plain); ok; f, ok = nextFrame(&plain) {
		if f.typ == frameCrypto && fits(f.offset, f.data) && r.stream.contradicts(int(f.offset), f.data) {
			return false
		}
	}
	return true
}
