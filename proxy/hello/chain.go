package hello

import (
	"bytes"
	"slices"

	"golang.org/x/crypto/cryptobyte"
)

// Handshake messages of a server, RFC 5246 section 7.4; supplemental_data is
// RFC 4680.
const (
	typeHelloRequest     = 0
	typeCertificate      = 11
	typeSupplementalData = 23
)

const (
	maxChainMessage = 64 << 10 // its header included
	maxChain        = 16
)

// chainReader reads the server's certificates out of the handshake messages
// behind a ServerHello. A session that is resumed, or has no certificates, shows
// by its first message: what may stand before a Certificate is known.
type chainReader struct {
	open  bool    // the Certificate message may come, or is on its way
	n     uint8   // bytes held in head
	head  [4]byte // type and length of the current message
	left  int     // bytes to come of its body
	body  stash   // what came of a Certificate message in pieces
	chain [][]byte
}

// feed takes bytes of handshake messages.
func (c *chainReader) feed(b []byte) {
	for c.open && len(b) > 0 {
		if int(c.n) < len(c.head) {
			k := copy(c.head[c.n:], b)
			c.n += uint8(k)
			b = b[k:]
			c.judge()
			continue
		}
		k := min(c.left, len(b))
		c.left -= k
		if c.head[0] == typeCertificate {
			c.read(b[:k])
		}
		if c.left == 0 {
			c.n = 0
		}
		b = b[k:]
	}
}

// judge looks at a message's header when it is whole.
func (c *chainReader) judge() {
	if int(c.n) < len(c.head) {
		return
	}
	c.left = int(c.head[1])<<16 | int(c.head[2])<<8 | int(c.head[3])
	switch c.head[0] {
	case typeHelloRequest, typeSupplementalData:
	case typeCertificate:
		if c.left > maxChainMessage-len(c.head) {
			c.close()
		}
	default:
		c.close()
	}
}

// read takes the next bytes of the Certificate message. One that lies whole in
// one piece is parsed where it lies.
func (c *chainReader) read(b []byte) {
	if c.left > 0 || len(c.body.bytes()) > 0 {
		c.body.add(b)
		b = c.body.bytes()
	}
	if c.left == 0 {
		c.chain = parseChain(b)
		c.close()
	}
}

// close ends the reading; a chain that was read stays.
func (c *chainReader) close() {
	c.open = false
	c.body.release()
}

// parseChain reads the body of a Certificate message, RFC 5246 section 7.4.2,
// into one copy of its certificates. It returns nil when that is empty,
// malformed or too long.
func parseChain(body []byte) [][]byte {
	s := cryptobyte.String(body)
	var list cryptobyte.String
	if !s.ReadUint24LengthPrefixed(&list) || list.Empty() || !s.Empty() {
		return nil
	}
	list = bytes.Clone(list)
	chain := make([][]byte, 0, 4)
	for !list.Empty() {
		var cert cryptobyte.String
		if len(chain) == maxChain || !list.ReadUint24LengthPrefixed(&cert) || cert.Empty() {
			return nil
		}
		chain = append(chain, slices.Clip(cert))
	}
	return chain
}
