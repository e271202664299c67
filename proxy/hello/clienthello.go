package hello

import "golang.org/x/crypto/cryptobyte"

// Record types, RFC 8446 section 5.1.
const (
	recordCCS       = 20
	recordAlert     = 21
	recordHandshake = 22
	recordData      = 23
)

const (
	headerSize      = 5
	maxPlainRecord  = 1<<14 + 256  // RFC 8446 section 5.2
	maxSealedRecord = 1<<14 + 2048 // RFC 5246 section 6.2.3
	typeClientHello = 1
	levelWarning    = 1
	levelFatal      = 2
)

// readRecords reassembles the ClientHello from records. A hello that lies whole
// in one piece is parsed where it lies.
func (p *Parser) readRecords(b []byte) {
	for len(b) > 0 && !p.decided {
		if p.left == 0 {
			n := copy(p.head[p.n:headerSize], b)
			p.n += uint8(n)
			b = b[n:]
			p.readHeader()
			continue
		}
		k := min(p.left, len(b))
		body := b[:k]
		b = b[k:]
		if p.head[0] == recordAlert {
			p.readAlert(body)
		} else {
			p.readMessage(body)
		}
		p.left -= k
	}
}

// readHeader judges as much of a record's header as there is.
func (p *Parser) readHeader() {
	head := p.head[:p.n]
	if head[0] != recordHandshake && head[0] != recordAlert || len(head) > 1 && head[1] != 3 {
		p.refuse()
		return
	}
	if len(head) < headerSize {
		return
	}
	n := int(head[3])<<8 | int(head[4])
	if n == 0 || n > maxPlainRecord || head[0] == recordAlert && n != 2 {
		p.refuse()
		return
	}
	p.left, p.n, p.begun = n, 0, true
}

// refuse decides on a bad record: a foreign protocol if it is the first one,
// broken TLS later.
func (p *Parser) refuse() {
	if p.begun {
		p.decide(TLS, Malformed)
		return
	}
	p.decide(Other, NotTLS)
}

// readAlert passes over a warning: servers accept those before and inside a
// ClientHello (crypto/tls and OpenSSL do), so a name may still follow. Any
// other alert ends a connection.
func (p *Parser) readAlert(b []byte) {
	copy(p.alert[2-p.left:], b)
	if len(b) < p.left {
		return
	}
	if p.alert[0] != levelWarning || p.alert[1] == 0 {
		p.decide(TLS, Malformed)
	}
}

func (p *Parser) readMessage(b []byte) {
	m := b
	if held := p.stash.bytes(); len(held) > 0 {
		p.stash.add(b)
		m = p.stash.bytes()
	}
	if h, decided := message(m, p.limit()); decided {
		p.hello = h
		p.decide(h.Protocol, h.Reason)
		return
	}
	if len(p.stash.bytes()) == 0 {
		p.stash.add(b)
	}
}

// Message reads a ClientHello that comes without records, as in the CRYPTO frames
// of QUIC (RFC 9001 section 4.1.3): b begins with the handshake message's header.
// decided is false while b does not hold all of it; a message longer than 64 KiB
// is TooLong as soon as it says so. What follows it is not read, and b is not
// kept.
func Message(b []byte) (h Hello, decided bool) {
	if len(b) == 0 {
		return Hello{}, false
	}
	return message(b, defaultLimit)
}

func message(m []byte, limit int) (h Hello, decided bool) {
	if m[0] != typeClientHello {
		return Hello{Protocol: Other, Reason: NotTLS}, true
	}
	if len(m) < 4 {
		return Hello{}, false
	}
	size := 4 + int(m[1])<<16 + int(m[2])<<8 + int(m[3])
	switch {
	case size > limit:
		return Hello{Protocol: TLS, Reason: TooLong}, true
	case len(m) < size:
		return Hello{}, false
	}
	h, ok := parseClientHello(m[4:size])
	h.Protocol = TLS
	switch {
	case !ok:
		h.Reason = Malformed
	case h.ServerName == "":
		h.Reason = NoName
	}
	return h, true
}

// Extensions that are read; https://www.iana.org/assignments/tls-extensiontype-values.
const (
	extServerName        = 0
	extALPN              = 16
	extEarlyData         = 42
	extSupportedVersions = 43
	extECH               = 0xfe0d
	extESNI              = 0xffce
)

// parseClientHello reads the body of a ClientHello, RFC 8446 section 4.1.2. It
// refuses nothing that crypto/tls accepts.
func parseClientHello(body []byte) (h Hello, ok bool) {
	s := cryptobyte.String(body)
	var session, suites, compression, extensions cryptobyte.String
	if !s.ReadUint16(&h.Version) || !s.Skip(32) ||
		!s.ReadUint8LengthPrefixed(&session) ||
		!s.ReadUint16LengthPrefixed(&suites) || len(suites)%2 != 0 ||
		!s.ReadUint8LengthPrefixed(&compression) {
		return Hello{}, false
	}
	if s.Empty() {
		return h, true // before RFC 6066 there were no extensions
	}
	if !s.ReadUint16LengthPrefixed(&extensions) || !s.Empty() {
		return Hello{}, false
	}
	if !h.readExtensions(extensions) {
		return Hello{}, false
	}
	return h, true
}

// readExtensions refuses a second extension of a type it reads: servers differ
// in which of two names they would take.
func (h *Hello) readExtensions(s cryptobyte.String) bool {
	var seen uint8
	for !s.Empty() {
		var typ uint16
		var data cryptobyte.String
		if !s.ReadUint16(&typ) || !s.ReadUint16LengthPrefixed(&data) {
			return false
		}
		bit, ok := h.readExtension(typ, data)
		if !ok || seen&bit != 0 {
			return false
		}
		seen |= bit
	}
	return true
}

// readExtension returns a bit of its own for each extension that is read, 0 for
// all others.
func (h *Hello) readExtension(typ uint16, data cryptobyte.String) (bit uint8, ok bool) {
	switch typ {
	case extServerName:
		return 1 << 0, h.readServerName(data)
	case extALPN:
		return 1 << 1, h.readALPN(data)
	case extSupportedVersions:
		return 1 << 2, h.readVersions(data)
	case extEarlyData:
		h.EarlyData = true
		return 1 << 3, true
	case extECH:
		h.ECH = true
		return 1 << 4, true
	case extESNI:
		h.ECH = true
		return 1 << 5, true
	}
	return 0, true
}

// readServerName takes the first host_name, as OpenSSL does; crypto/tls refuses
// a second.
func (h *Hello) readServerName(s cryptobyte.String) bool {
	var list cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&list) || list.Empty() || !s.Empty() {
		return false
	}
	for !list.Empty() {
		var typ uint8
		var name cryptobyte.String
		if !list.ReadUint8(&typ) || !list.ReadUint16LengthPrefixed(&name) || name.Empty() {
			return false
		}
		if typ == 0 && h.ServerName == "" {
			h.ServerName = string(name)
		}
	}
	return true
}

// maxALPN bounds what a hostile hello makes us keep and record; clients offer
// two or three.
const maxALPN = 32

func (h *Hello) readALPN(s cryptobyte.String) bool {
	var list cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&list) || list.Empty() || !s.Empty() {
		return false
	}
	count := 0
	for rest := list; !rest.Empty(); count++ {
		var name cryptobyte.String
		if !rest.ReadUint8LengthPrefixed(&name) || name.Empty() {
			return false
		}
	}
	h.ALPN = make([]string, 0, min(count, maxALPN))
	for len(h.ALPN) < cap(h.ALPN) {
		var name cryptobyte.String
		list.ReadUint8LengthPrefixed(&name)
		h.ALPN = append(h.ALPN, protocolName(name))
	}
	return true
}

// protocolName spares the copy of the names that nearly every client offers.
func protocolName(b []byte) string {
	switch string(b) {
	case "h2":
		return "h2"
	case "http/1.1":
		return "http/1.1"
	case "h3":
		return "h3"
	}
	return string(b)
}

func (h *Hello) readVersions(s cryptobyte.String) bool {
	var list cryptobyte.String
	if !s.ReadUint8LengthPrefixed(&list) || list.Empty() || !s.Empty() {
		return false
	}
	var best, v uint16
	for !list.Empty() {
		if !list.ReadUint16(&v) {
			return false
		}
		if versionRank(v) > versionRank(best) {
			best = v
		}
	}
	if best != 0 {
		h.Version = best
	}
	return true
}

// versionRank orders versions; 0 is none (GREASE, DTLS, private numbers).
func versionRank(v uint16) int {
	switch v >> 8 {
	case 0x03:
		return 1 + int(v&0xff)<<16
	case 0x7f: // drafts of TLS 1.3, between 0x0303 and 0x0304
		return 2 + 3<<16 + int(v&0xff)
	}
	return 0
}
