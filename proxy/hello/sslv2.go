package hello

// readSSLv2 reads the fixed part of an SSL 2.0 CLIENT-HELLO (RFC 5246 appendix
// E.2): a two-byte record length, the type, the version, and three lengths that
// must add up.
//
// Such a hello has no place for a server name. One that offers SSL 3.0 or later
// is a TLS client's: the server answers it in TLS records, so it is TLS without
// a name. One that offers no more than SSL 2.0 is Other: the answer is no TLS
// record either (RFC 6176 forbids the protocol), and nothing that this package
// knows about TLS holds for it.
func (p *Parser) readSSLv2(b []byte) {
	p.n += uint8(copy(p.head[p.n:], b))
	head := p.head[:p.n]
	if len(head) > 2 && head[2] != typeClientHello || len(head) > 3 && head[3] != 3 {
		p.decide(Other, NotTLS)
		return
	}
	if len(head) < len(p.head) {
		return
	}
	if !sslv2Adds(&p.head) {
		p.decide(Other, NotTLS)
		return
	}
	p.hello.Version = uint16(head[3])<<8 | uint16(head[4])
	p.decide(TLS, NoName)
}

// sslv2Adds says whether the lengths inside the hello fill its record.
func sslv2Adds(head *[11]byte) bool {
	word := func(i int) int { return int(head[i])<<8 | int(head[i+1]) }
	size := word(0)&0x7fff - 9 // after the type, the version and the lengths
	suites, session, challenge := word(5), word(7), word(9)
	return suites > 0 && suites%3 == 0 && challenge >= 16 && challenge <= 32 &&
		suites+session+challenge == size
}
