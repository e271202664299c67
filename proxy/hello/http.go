package hello

import "bytes"

const (
	maxMethod = 32
	maxHost   = 512
)

// reqFields is what matters of a request's header while it is being read.
type reqFields struct {
	blank     bool   // one empty line before the request, RFC 9112 section 2.2
	hostSeen  bool   // a Host field
	authority string // of the target
	host      string
}

func (p *Parser) readRequest(b []byte) {
	for len(b) > 0 && !p.decided {
		if p.step == requestLine {
			b = p.readRequestLine(b)
			continue
		}
		line, rest, ok := p.stash.line(b)
		b = rest
		if ok {
			p.readField(line)
		}
	}
}

// readRequestLine refuses what cannot become HTTP as soon as that shows, so that
// a greeting or a binary protocol is Other long before its first line ends.
func (p *Parser) readRequestLine(b []byte) (rest []byte) {
	piece := b
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		piece = b[:i]
	}
	if hasControl(piece) {
		p.decide(Other, NotTLS)
		return nil
	}
	line, rest, whole := p.stash.line(b)
	if whole && len(line) == 0 && !p.request.blank {
		p.request.blank = true
		return rest
	}
	if !whole {
		line = p.stash.bytes()
	}
	if !p.startsLikeRequest(line, whole) {
		p.decide(Other, NotTLS)
		return nil
	}
	if whole {
		p.endRequestLine(line)
	}
	return rest
}

// startsLikeRequest says whether line begins with a method, or may yet.
func (p *Parser) startsLikeRequest(line []byte, whole bool) bool {
	if !whole && !p.request.blank && len(line) == 1 && line[0] == '\r' {
		return true
	}
	method := line[:min(len(line), maxMethod+1)]
	if i := bytes.IndexByte(method, ' '); i >= 0 {
		method = method[:i]
	} else if whole {
		return false
	}
	return len(method) > 0 && len(method) <= maxMethod && allToken(method)
}

// endRequestLine reads "METHOD target HTTP/1.x".
func (p *Parser) endRequestLine(line []byte) {
	first, last := bytes.IndexByte(line, ' '), bytes.LastIndexByte(line, ' ')
	method, version := line[:first], line[last+1:]
	if string(line) == "PRI * HTTP/2.0" {
		p.hello.Method = "PRI"
		p.decide(HTTP, NotTLS)
		return
	}
	if first == last || !isHTTP1(version) || bytes.IndexByte(line, '\r') >= 0 {
		p.decide(Other, NotTLS)
		return
	}
	p.hello.Method = methodName(method)
	p.step = fieldLines
	target := line[first+1 : last]
	authority := targetAuthority(p.hello.Method, target)
	if len(target) == 0 || bytes.IndexByte(target, ' ') >= 0 ||
		authority != nil && (len(authority) == 0 || !validAuthority(authority)) {
		p.decide(HTTP, Malformed)
		return
	}
	p.request.authority = string(authority)
}

// targetAuthority is the authority that a CONNECT or absolute-form target
// names; nil for the other forms (RFC 9112 section 3.2).
func targetAuthority(method string, target []byte) []byte {
	if method == "CONNECT" {
		return target
	}
	if len(target) == 0 || target[0] == '/' {
		return nil
	}
	_, rest, ok := bytes.Cut(target, []byte("://"))
	if !ok {
		return nil
	}
	if i := bytes.IndexAny(rest, "/?#"); i >= 0 {
		rest = rest[:i]
	}
	return rest
}

// readField reads one line of the header. What servers are known to read in
// different ways is Malformed: obs-fold, a space before the colon, a bare
// carriage return, two Host fields (RFC 9112 sections 2.2, 3.2, 5.1 and 5.2).
func (p *Parser) readField(line []byte) {
	if len(line) == 0 {
		p.endHeader()
		return
	}
	name, value, ok := bytes.Cut(line, []byte{':'})
	if !ok || len(name) == 0 || !allToken(name) || bytes.IndexByte(value, '\r') >= 0 {
		p.decide(HTTP, Malformed)
		return
	}
	if !isField(name, "host") {
		return
	}
	value = bytes.Trim(value, " \t")
	if p.request.hostSeen || !validAuthority(value) {
		p.decide(HTTP, Malformed)
		return
	}
	p.request.hostSeen, p.request.host = true, string(value)
}

func (p *Parser) endHeader() {
	p.hello.Host = p.request.host
	if p.request.authority != "" {
		p.hello.Host = p.request.authority
	}
	p.decide(HTTP, NotTLS)
}

// isField compares a field's name with a lower-case one.
func isField(name []byte, lower string) bool {
	if len(name) != len(lower) {
		return false
	}
	for i, c := range name {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

func isHTTP1(version []byte) bool {
	return len(version) == 8 && string(version[:7]) == "HTTP/1." && isDigit(version[7])
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// methodName spares the copy of the usual methods.
func methodName(b []byte) string {
	switch string(b) {
	case "GET":
		return "GET"
	case "POST":
		return "POST"
	case "HEAD":
		return "HEAD"
	case "PUT":
		return "PUT"
	case "CONNECT":
		return "CONNECT"
	}
	return string(b)
}

// validAuthority says whether b can be a host and port. Credentials before an @
// are refused: RFC 9110 section 4.2.4 calls them an error, and they hide a host.
func validAuthority(b []byte) bool {
	for _, c := range b {
		if c <= ' ' || c == 0x7f {
			return false
		}
		switch c {
		case '@', '/', '?', '#', '\\', ',':
			return false
		}
	}
	return len(b) <= maxHost
}

// hasControl says whether b holds a control byte other than a carriage return.
func hasControl(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\r' || c == 0x7f {
			return true
		}
	}
	return false
}

// token marks the tchar of RFC 9110 section 5.6.2.
var token = func() (t [256]bool) {
	for c := '0'; c <= 'z'; c++ {
		t[c] = c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		t[c] = true
	}
	return t
}()

func isToken(c byte) bool { return token[c] }

func allToken(b []byte) bool {
	for _, c := range b {
		if !token[c] {
			return false
		}
	}
	return true
}
