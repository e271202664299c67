package hello

// defaultLimit bounds the client's first bytes. It is the largest handshake
// message that crypto/tls accepts.
const defaultLimit = 64 << 10

// Parser reads the first bytes of a client's stream. The zero value is ready.
// Once it has decided it holds no buffer.
type Parser struct {
	// Limit is the number of bytes after which Parser gives up with TooLong;
	// 64 KiB when it is not positive. Set it before the first Feed.
	Limit int

	hello   Hello
	seen    int
	left    int // bytes to come of the current record's body
	step    step
	begun   bool // the first record's header was accepted
	decided bool
	n       uint8     // bytes held in head
	head    [11]byte  // a record's header, or the fixed part of an SSLv2 hello
	alert   [2]byte   // the body of an alert record
	stash   stash     // an incomplete ClientHello or line
	request reqFields // what the header of a request said so far
}

type step uint8

const (
	start       step = iota
	records          // TLS records
	sslv2            // an SSLv2 header
	requestLine      // perhaps HTTP
	fieldLines       // HTTP for certain
)

// Feed takes the next bytes of the stream, in pieces of any size, and says
// whether the parser has decided. Bytes after that are ignored.
func (p *Parser) Feed(b []byte) bool {
	if p.decided {
		return true
	}
	room := p.limit() - p.seen
	over := len(b) > room
	if over {
		b = b[:room]
	}
	p.seen += len(b)
	if len(b) > 0 {
		p.read(b)
	}
	if over {
		p.End(TooLong)
	}
	return p.decided
}

// End says that no more bytes come, and decides: why is Truncated at the end of
// the stream, TimedOut when the caller's clock ran out. It does nothing after a
// decision.
func (p *Parser) End(why Reason) {
	if p.decided {
		return
	}
	switch p.step {
	case records:
		if p.begun || p.n >= 2 {
			p.decide(TLS, why)
			return
		}
		p.decide(Undecided, why)
	case requestLine:
		// No TLS stream begins like this, and HTTP it is not yet.
		p.decide(Other, NotTLS)
	case fieldLines:
		p.decide(HTTP, why)
	default:
		p.decide(Undecided, why)
	}
}

// Hello returns what was decided; before the decision, the zero value.
func (p *Parser) Hello() Hello {
	if !p.decided {
		return Hello{}
	}
	return p.hello
}

func (p *Parser) limit() int {
	if p.Limit > 0 {
		return p.Limit
	}
	return defaultLimit
}

func (p *Parser) decide(is Protocol, why Reason) {
	p.decided = true
	p.hello.Protocol, p.hello.Reason = is, why
	p.request = reqFields{}
	p.stash.release()
}

func (p *Parser) read(b []byte) {
	if p.step == start {
		p.step = firstStep(b[0])
	}
	switch p.step {
	case records:
		p.readRecords(b)
	case sslv2:
		p.readSSLv2(b)
	case requestLine, fieldLines:
		p.readRequest(b)
	default:
		p.decide(Other, NotTLS)
	}
}

// firstStep says what a stream can be that begins with c; start when nothing
// we know.
func firstStep(c byte) step {
	switch {
	case c == recordHandshake, c == recordAlert:
		return records
	case c >= 0x80:
		return sslv2
	case c == '\r', c == '\n', isToken(c):
		return requestLine
	}
	return start
}
