package capture

import (
	"bytes"
	"encoding/binary"
)

// AnswerKind says what a server's datagram is an answer of.
type AnswerKind uint8

// The kinds, in the order of their weight. Initial packets are authenticated with
// the client's connection ID, which only who saw the client's packets has.
const (
	NoAnswer    AnswerKind = iota // of another connection, or one packet of many that says nothing by itself
	Junk                          // no QUIC, or not for this client
	Negotiation                   // Version Negotiation: none of ours (RFC 9000 section 6)
	Retry                         // a Retry: the client is to show its address
	Closed                        // an Initial with CONNECTION_CLOSE
	Greeted                       // an Initial with the server's handshake; in a version that is not read, any long header
)

// String returns the word used in records.
func (k AnswerKind) String() string {
	return [...]string{"", "junk", "version_negotiation", "retry", "connection_close", "handshake"}[k]
}

// Answer is what a server's datagram says.
type Answer struct {
	Kind   AnswerKind
	Code   uint64 // of Closed: RFC 9000 section 20.1; 0x100 and the TLS alert
	ConnID []byte // of Greeted: what the client will address the server by; lies in the datagram
}

// Answer judges a datagram that came from the server, before the server is known
// to have answered; later ones need no judging.
func (r *Initials) Answer(datagram []byte) Answer {
	if google(r.version, 0, 99) {
		return googleAnswer(datagram)
	}
	p, rest, ok := parsePacket(datagram)
	if !ok || p.typ == typeShort || !bytes.Equal(p.dcid, r.scid) {
		return Answer{Kind: Junk}
	}
	for ; ok; p, rest, ok = parsePacket(rest) {
		switch p.typ {
		case typeNegotiation:
			return r.negotiation(p)
		case typeRetry:
			return Answer{Kind: Retry}
		case typeUnknown:
			return r.unread(p)
		case typeInitial:
			return r.greeting(p)
		}
	}
	return Answer{} // Handshake or 1-RTT packets that came before their Initial
}

// unread judges a packet in a version that is not read: where the client speaks that
// version too, its header is all there is to go by.
func (r *Initials) unread(p packet) Answer {
	if p.version != r.version {
		return Answer{Kind: Junk}
	}
	return Answer{Kind: Greeted, ConnID: p.scid}
}

// negotiation refuses a Version Negotiation that clients must ignore, for it
// lists the version they tried (RFC 9000 section 6.2).
func (r *Initials) negotiation(p packet) Answer {
	list := p.raw[p.body:]
	if len(list) == 0 || len(list)%4 != 0 {
		return Answer{Kind: Junk}
	}
	for ; len(list) > 0; list = list[4:] {
		if binary.BigEndian.Uint32(list) == r.version {
			return Answer{Kind: Junk}
		}
	}
	return Answer{Kind: Negotiation}
}

// greeting opens an Initial of the server.
func (r *Initials) greeting(p packet) Answer {
	room := rooms.Get().(*[]byte)
	defer rooms.Put(room)
	plain, ok := r.openServer(*room, p)
	if !ok {
		return Answer{Kind: Junk}
	}
	for f, ok := nextFrame(&plain); ok; f, ok = nextFrame(&plain) {
		switch f.typ {
		case frameCrypto:
			return Answer{Kind: Greeted, ConnID: p.scid}
		case frameClose:
			return Answer{Kind: Closed, Code: f.code}
		}
	}
	return Answer{} // an acknowledgement alone
}

// openServer tries the keys of the hello; a server that goes over to another
// version (RFC 9368) keeps the connection ID that they come from.
func (r *Initials) openServer(room []byte, p packet) (plain []byte, ok bool) {
	for _, k := range r.keys {
		if k.version == p.version {
			if plain, ok = k.server().open(room, p); ok {
				return plain, true
			}
		}
	}
	if r.knows(p.version) || len(r.keys) == 0 || len(r.keys) == maxKeys {
		return nil, false
	}
	k := newKeys(p.version, r.keys[len(r.keys)-1].dcid)
	if plain, ok = k.server().open(room, p); ok {
		r.keys = append(r.keys, k)
	}
	return plain, ok
}
