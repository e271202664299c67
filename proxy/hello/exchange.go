package hello

import (
	"bytes"
	"math"
	"strconv"
)

const (
	maxLine     = 128 // octets kept of a line; what follows is passed over
	maxAwaiting = 64  // requests that wait for their replies; behind more, nobody counts
)

// Exchange follows the messages of a plain HTTP/1.x connection, both sides from
// their first octet, to tell whether a reply that began has come to its end (RFC
// 9112 section 6). It keeps no body and no header. What it does not understand, an
// upgrade say, it follows no further; then nothing is known. The zero value is
// ready.
//
// Octets must be shown before they are passed on, so that a request is known before
// its reply. One goroutine at a time may use it.
type Exchange struct {
	lost     bool
	up, down httpMessage
	awaiting []bodiless // requests without a whole reply, in their order
}

// MayBeHTTP says whether a stream that begins with b, which is not empty, may be one
// for an Exchange.
func MayBeHTTP(b []byte) bool { return firstStep(b[0]) == requestLine }

// bodiless says what a request's method makes of its reply (RFC 9112 section 6.3).
type bodiless uint8

const (
	usual  bodiless = iota
	head            // the reply's body does not come
	tunnel          // behind a 2xx comes no HTTP
)

// httpMessage is the one that is on its way on one side.
type httpMessage struct {
	step   place
	left   int64 // octets to come of a body or chunk
	status int   // of a reply
	begun  bool  // something of it came
	framing
	n    int // octets of the line, those included that are not kept
	line [maxLine]byte
}

// framing is what a header says of the body's length.
type framing struct {
	length  int64 // Content-Length
	framed  bool  // there is one
	coded   bool  // there is a Transfer-Encoding
	chunked bool  // and its last coding is that
}

// place is where in a message the next octet stands.
type place uint8

const (
	firstLine place = iota
	fields
	body
	chunkLine
	chunkBody
	chunkEnd
	trailers
	toTheEnd // of the connection
	adrift   // somewhere in a body of chunks: line has what came last
)

// Client takes the next octets of the client.
func (x *Exchange) Client(b []byte) {
	if x.down.ended() {
		x.whole(&x.down)
	}
	if len(x.awaiting) == 0 && x.up.ended() {
		x.up.end()
	}
	x.feed(&x.up, b)
}

// Server takes the next octets of the destination.
func (x *Exchange) Server(b []byte) { x.feed(&x.down, b) }

// Lost says that nothing is known any more, and nothing will be.
func (x *Exchange) Lost() bool { return x.lost || x.down.step == toTheEnd }

// Short says that a reply has begun, and has not come to the end that it announced.
func (x *Exchange) Short() bool {
	return !x.Lost() && len(x.awaiting) > 0 && x.down.begun && !x.down.ended()
}

// UnseenClient says how many of the client's next octets need not be shown, but only
// told to SkipClient.
func (x *Exchange) UnseenClient() int64 { return x.unseen(&x.up) }

// UnseenServer is UnseenClient for the destination's.
func (x *Exchange) UnseenServer() int64 {
	if x.down.step > body && len(x.awaiting) > 1 {
		return 0 // another reply may follow at once
	}
	return x.unseen(&x.down)
}

func (x *Exchange) unseen(m *httpMessage) int64 {
	switch {
	case x.Lost(), m.step == chunkBody, m.step == adrift:
		return math.MaxInt64
	case m.step == body:
		return m.left
	}
	return 0 // of the end of a body in chunks the beginning may be just what was seen
}

// SkipClient says that the client's next n octets go by, as many as UnseenClient
// allows, of which only the last ones are shown: how many, it returns.
func (x *Exchange) SkipClient(n int64) (show int64) { return x.skip(&x.up, n) }

// SkipServer is SkipClient for the destination's.
func (x *Exchange) SkipServer(n int64) (show int64) { return x.skip(&x.down, n) }

func (x *Exchange) skip(m *httpMessage, n int64) (show int64) {
	switch {
	case x.Lost():
	case m.step == body && n <= m.left:
		if m.left -= n; m.left == 0 {
			x.whole(m)
		}
	case m.step != chunkBody && m.step != adrift:
		x.lost = true // a message began in what nobody saw, or ended
	default:
		show = min(n, maxLine)
		if m.step != adrift || n > show {
			m.step, m.n = adrift, 0
		}
	}
	return show
}

func (x *Exchange) feed(m *httpMessage, b []byte) {
	for len(b) > 0 && !x.Lost() {
		switch m.step {
		case body, chunkBody:
			n := min(m.left, int64(len(b)))
			b = b[n:]
			if m.left -= n; m.left == 0 {
				x.bodyEnds(m)
			}
		case adrift:
			m.drift(b)
			return
		default:
			var whole bool
			if b, whole = m.readLine(b); whole {
				x.readLine(m, bytes.TrimSuffix(m.line[:min(m.n, maxLine)], []byte{'\r'}))
				m.n = 0
			}
		}
	}
}

// drift keeps the last octets.
func (m *httpMessage) drift(b []byte) {
	b = b[max(0, len(b)-maxLine):]
	old := m.line[:m.n]
	old = old[max(0, len(old)+len(b)-maxLine):]
	m.n = copy(m.line[:], old)
	m.n += copy(m.line[m.n:], b)
}

// readLine takes octets up to a line feed, and keeps the first of them.
func (m *httpMessage) readLine(b []byte) (rest []byte, whole bool) {
	line, rest, whole := bytes.Cut(b, []byte{'\n'})
	copy(m.line[min(m.n, maxLine):], line)
	m.n += len(line)
	m.begun = m.begun || m.n > 1 || m.n == 1 && m.line[0] != '\r'
	return rest, whole
}

func (x *Exchange) bodyEnds(m *httpMessage) {
	if m.step == chunkBody {
		m.step = chunkEnd
		return
	}
	x.whole(m)
}

// readLine takes one line, as far as it was kept.
func (x *Exchange) readLine(m *httpMessage, line []byte) {
	switch m.step {
	case firstLine:
		if len(line) > 0 { // an empty one may stand before a message, RFC 9112 section 2.2
			x.begin(m, line)
		}
	case fields:
		if len(line) == 0 {
			x.endFields(m)
		} else if !m.readField(line) {
			x.lost = true
		}
	case chunkLine:
		x.beginChunk(m, line)
	case chunkEnd:
		m.step = chunkLine
		x.lost = len(line) > 0
	case trailers:
		if len(line) == 0 {
			x.whole(m)
		}
	}
}

// begin reads a request or status line.
func (x *Exchange) begin(m *httpMessage, line []byte) {
	m.step, m.framing = fields, framing{}
	if m == &x.down {
		status, ok := statusLine(line)
		m.status = status
		x.lost = !ok || line[5] != '1' || len(x.awaiting) == 0
		return
	}
	method, _, ok := bytes.Cut(line, []byte{' '})
	x.lost = !ok || !allToken(method) || len(x.awaiting) == maxAwaiting || string(method) == "PRI" ||
		x.down.step == adrift // where the reply before ended, nobody saw
	x.awaiting = append(x.awaiting, repliesTo(method))
}

func repliesTo(method []byte) bodiless {
	switch string(method) {
	case "HEAD":
		return head
	case "CONNECT":
		return tunnel
	}
	return usual
}

// readField reads what says how long a message is; false where that cannot be told.
func (m *httpMessage) readField(line []byte) bool {
	name, value, _ := bytes.Cut(line, []byte{':'})
	value = bytes.TrimSpace(value)
	switch {
	case len(bytes.TrimSpace(name)) != len(name):
		return false // of a name with blanks around it readers make different things
	case isField(name, "transfer-encoding"):
		last := value[bytes.LastIndexByte(value, ',')+1:]
		m.coded, m.chunked = true, isField(bytes.TrimSpace(last), "chunked")
		return m.n <= maxLine
	case isField(name, "content-length"):
		n, err := strconv.ParseUint(string(value), 10, 62)
		same := !m.framed || m.length == int64(n)
		m.framed, m.length = true, int64(n)
		return err == nil && same && m.n <= maxLine
	}
	return true
}

// endFields finds out what follows a header.
func (x *Exchange) endFields(m *httpMessage) {
	request, kind := m == &x.up, usual
	if !request {
		kind = x.awaiting[0]
	}
	switch {
	case !request && m.status < 200 && m.status != 101: // an interim reply, RFC 9110 section 15.2
		m.step = firstLine
	case !request && (m.status == 101 || kind == tunnel && m.status < 300):
		x.lost = true
	case !request && (kind == head || m.status == 204 || m.status == 304):
		x.whole(m)
	case m.chunked:
		m.step = chunkLine
	case m.coded && request:
		x.lost = true
	case !m.coded && m.framed && m.length > 0:
		m.step, m.left = body, m.length
	case !request && (m.coded || !m.framed):
		m.step = toTheEnd
	default:
		x.whole(m)
	}
}

func (x *Exchange) beginChunk(m *httpMessage, line []byte) {
	n, ok := chunkSize(line)
	x.lost = !ok
	if m.left, m.step = n, chunkBody; n == 0 {
		m.step = trailers
	}
}

// chunkSize reads the size of a chunk; what follows it on the line matters to nobody.
func chunkSize(line []byte) (n int64, ok bool) {
	if i := bytes.IndexAny(line, "; \t"); i >= 0 {
		line = line[:i]
	}
	size, err := strconv.ParseUint(string(line), 16, 62)
	return int64(size), err == nil
}

// whole ends a message.
func (x *Exchange) whole(m *httpMessage) {
	m.end()
	if m == &x.down {
		x.awaiting = append(x.awaiting[:0], x.awaiting[1:]...)
	}
}

func (m *httpMessage) end() { m.step, m.begun, m.n = firstLine, false, 0 }

// ended says that a body of chunks, of which only what came last was seen, has come
// to its end: an empty line behind the last chunk, or behind a trailer field. A line
// too long to be seen whole passes for one.
func (m *httpMessage) ended() bool {
	seen, ok := bytes.CutSuffix(m.line[:min(m.n, maxLine)], []byte("\r\n\r\n"))
	if m.step != adrift || !ok {
		return false
	}
	i := bytes.LastIndexByte(seen, '\n')
	if i < 0 && m.n == maxLine {
		return true
	}
	size, last := chunkSize(seen[i+1:])
	name, _, field := bytes.Cut(seen[i+1:], []byte{':'})
	return last && size == 0 || field && len(name) > 0 && allToken(name)
}
