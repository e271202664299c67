package hello

import (
	"bytes"
	"strings"
)

const (
	defaultReplyLimit = 8 << 10
	maxGreeting       = 512 // of a first line, RFC 5321 section 4.5.3.1.5
	maxServer         = 64
	maxLocation       = 512
)

// Reply is what a destination's stream begins with.
type Reply struct {
	// Protocol is TLS for a record header, HTTP for a status line, Undecided
	// for an empty stream, else Other.
	Protocol Protocol

	// Status is the status code of an HTTP reply, 100 to 999.
	Status int

	// Server is the first Server field of an HTTP reply: at most 64 bytes of
	// printable ASCII, "?" in place of any other byte.
	Server string

	// Location is the first Location field of an HTTP reply, and Mark the first
	// field that only a filtering device sends, as "Name: value"
	// (X-Squid-Error, X-Blocked-By, X-Filter); bounded and cleaned as Server is.
	Location string
	Mark     string

	// Class is what else it is: "ssh", "smtp", "ftp", "220-greeting" (one of
	// the two), "html" without a status line, "text", "binary", or "empty". It
	// is a guess from the first line. "" for HTTP and TLS.
	Class string
}

// ReplyParser reads the first bytes of a destination's stream. The zero value
// is ready. No body is kept, and no buffer after the decision.
type ReplyParser struct {
	// Limit is the number of bytes after which ReplyParser decides with what it
	// has; 8 KiB when it is not positive. Set it before the first Feed.
	Limit int

	reply   Reply
	seen    int
	decided bool
	fields  bool // the status line was read
	stash   stash
}

// Feed takes the next bytes of the stream, in pieces of any size, and says
// whether the parser has decided. Bytes after that are ignored.
func (p *ReplyParser) Feed(b []byte) bool {
	if p.decided {
		return true
	}
	limit := p.Limit
	if limit <= 0 {
		limit = defaultReplyLimit
	}
	over := len(b) >= limit-p.seen
	if over {
		b = b[:limit-p.seen]
	}
	for len(b) > 0 && !p.decided {
		if p.fields {
			b = p.readField(b)
		} else {
			b = p.readFirst(b)
		}
	}
	if over {
		p.End(TooLong)
	}
	return p.decided
}

// End says that no more bytes come, and decides. The reason makes no
// difference: a reply is what was seen of it.
func (p *ReplyParser) End(Reason) {
	if p.decided {
		return
	}
	if !p.fields {
		p.classify(p.stash.bytes())
	}
	p.finish()
}

// Reply returns what is known; before the decision that may be the status of an
// HTTP reply.
func (p *ReplyParser) Reply() Reply { return p.reply }

func (p *ReplyParser) finish() {
	p.decided = true
	p.stash.release()
}

func (p *ReplyParser) other(class string) {
	p.reply = Reply{Protocol: Other, Class: class}
	p.finish()
}

// readFirst collects the first line that is not blank: up to a line feed, a
// control byte, or 512 bytes.
func (p *ReplyParser) readFirst(b []byte) (rest []byte) {
	held := len(p.stash.bytes())
	end := min(len(b), maxGreeting-held)
	ended := held+end == maxGreeting
	for i, c := range b[:end] {
		if c == '\n' || isBinary(c) {
			end, ended = i+1, true
			break
		}
	}
	p.seen += end
	line, rest := b[:end], b[end:]
	if held > 0 || !ended {
		p.stash.add(line)
		line = p.stash.bytes()
	}
	if first := line[0]; p.seen == len(line) && recordCCS <= first && first <= recordData {
		return p.readRecord(line, rest)
	}
	if !ended {
		return rest
	}
	if len(bytes.TrimSpace(line)) == 0 && line[len(line)-1] == '\n' {
		p.stash.release()
		return rest
	}
	p.classify(line)
	p.stash.release()
	return rest
}

// readRecord tells a TLS record from other binary replies by the second byte.
func (p *ReplyParser) readRecord(line, rest []byte) []byte {
	second := rest
	if len(line) > 1 {
		second = line[1:]
	}
	if len(second) == 0 {
		if len(p.stash.bytes()) == 0 {
			p.stash.add(line)
		}
		return nil
	}
	if second[0] != 3 {
		p.other("binary")
		return nil
	}
	p.reply = Reply{Protocol: TLS}
	p.finish()
	return nil
}

// classify judges the first line.
func (p *ReplyParser) classify(line []byte) {
	if status, ok := statusLine(line); ok {
		p.reply = Reply{Protocol: HTTP, Status: status}
		p.fields = true
		return
	}
	if len(line) == 0 && p.seen == 0 {
		p.reply = Reply{Class: "empty"}
		p.finish()
		return
	}
	p.other(classOf(line))
}

// statusLine reads "HTTP/1.1 200", with or without a reason.
func statusLine(line []byte) (status int, ok bool) {
	line = bytes.TrimRight(line, "\r\n")
	if len(line) < 12 || string(line[:5]) != "HTTP/" || !isDigit(line[5]) || line[6] != '.' ||
		!isDigit(line[7]) || line[8] != ' ' || len(line) > 12 && line[12] != ' ' {
		return 0, false
	}
	for _, c := range line[9:12] {
		if !isDigit(c) {
			return 0, false
		}
		status = status*10 + int(c-'0')
	}
	return status, status >= 100
}

func classOf(line []byte) string {
	line = bytes.TrimPrefix(line, []byte("\xef\xbb\xbf"))
	text := strings.ToLower(string(bytes.TrimSpace(line)))
	switch {
	case strings.HasPrefix(text, "ssh-"):
		return "ssh"
	case strings.HasPrefix(text, "220 "), strings.HasPrefix(text, "220-"):
		if strings.Contains(text, "smtp") {
			return "smtp"
		}
		if strings.Contains(text, "ftp") {
			return "ftp"
		}
		return "220-greeting"
	case isMarkup(text):
		return "html"
	}
	for _, c := range line {
		if isBinary(c) || c >= 0x80 {
			return "binary"
		}
	}
	return "text"
}

// isMarkup says whether text begins with a tag, a declaration or a comment.
func isMarkup(text string) bool {
	return len(text) > 1 && text[0] == '<' &&
		(text[1] == '!' || text[1] == '?' || 'a' <= text[1] && text[1] <= 'z')
}

// isBinary says whether c has no place in a line of text.
func isBinary(c byte) bool {
	return c < ' ' && (c < '\t' || c > '\r') || c == 0x7f
}

// readField reads one line of an HTTP header. Block pages come from all kinds of
// boxes: what is odd is passed over.
func (p *ReplyParser) readField(b []byte) []byte {
	line, rest, whole := p.stash.line(b)
	p.seen += len(b) - len(rest)
	if !whole {
		return nil
	}
	if len(line) == 0 {
		p.finish()
		return nil
	}
	p.keepField(line)
	return rest
}

// keepField keeps what tells an origin from a device.
func (p *ReplyParser) keepField(line []byte) {
	name, value, _ := bytes.Cut(line, []byte{':'})
	name, value = bytes.TrimSpace(name), bytes.TrimSpace(value)
	switch {
	case p.reply.Server == "" && isField(name, "server"):
		p.reply.Server = printable(value, maxServer)
	case p.reply.Location == "" && isField(name, "location"):
		p.reply.Location = printable(value, maxLocation)
	case p.reply.Mark == "" && (isField(name, "x-squid-error") || isField(name, "x-blocked-by") || isField(name, "x-filter")):
		p.reply.Mark = printable(append(append(bytes.Clone(name), ": "...), value...), maxServer)
	}
}

// printable returns at most n bytes of b, "?" for those that are not printable
// ASCII.
func printable(b []byte, n int) string {
	out := bytes.Clone(b[:min(len(b), n)])
	for i, c := range out {
		if c < ' ' || c > '~' {
			out[i] = '?'
		}
	}
	return string(out)
}
