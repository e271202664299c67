package policy

import (
	"fmt"
	"strconv"
	"strings"
)

// label is one label of a pattern: literal text with holes in it. A literal
// label is a head without holes.
type label struct {
	head  string // the literal text before the first hole
	tail  string // the literal text behind the last hole
	holes []hole
	width int // octets of the shortest label that it matches
}

// hole is one wildcard of a label and the literal text behind it.
type hole struct {
	placeholder string // "" for "*"
	min         int    // octets that it stands for at the least
	then        string
}

// parseLabel reads one label of a pattern.
func parseLabel(part string) (label, *refusal) {
	var l label
	open := strings.ContainsAny(part, "*<>")
	head, rest, no := literalPiece(part, open)
	l.head, l.width = head, len(head)
	for no == nil && rest != "" {
		var h hole
		if h, rest, no = parseHole(rest); no != nil {
			break
		}
		h.then, rest, no = literalPiece(rest, open)
		l.holes = append(l.holes, h)
		l.tail = h.then
		l.width += h.min + len(h.then)
	}
	if part == "*" { // a label is never empty
		l.holes[0].min, l.width = 1, 1
	}
	switch {
	case no != nil:
		return label{}, no
	case l.width == 0 && l.literal():
		return label{}, refuse("empty label between dots")
	case l.width > maxLabel:
		return label{}, refuse("label longer than 63 octets")
	}
	return l, nil
}

// parseHole reads the wildcard that s begins with, and returns what follows.
func parseHole(s string) (h hole, rest string, no *refusal) {
	if s[0] == '*' {
		return hole{}, s[1:], nil
	}
	name, rest, ok := strings.Cut(s[1:], ">")
	if s[0] == '>' || !ok {
		return hole{}, "", refuse("a placeholder is written <name>")
	}
	if !PlaceholderName(name) {
		better := strings.ReplaceAll(strings.ToLower(strings.TrimSpace(name)), " ", "-")
		return hole{}, "", &refusal{
			why:    fmt.Sprintf("placeholder <%s>: a name is a lower-case letter, then letters, digits, - or _", name),
			better: func(pattern string) string { return strings.ReplaceAll(pattern, "<"+name+">", "<"+better+">") },
		}
	}
	return hole{placeholder: name, min: 1}, rest, nil
}

// literalPiece brings the literal text that s begins with into normal form, and
// returns what follows. Beside a hole it must be ASCII: punycode is of whole
// labels.
func literalPiece(s string, open bool) (piece, rest string, no *refusal) {
	end := strings.IndexAny(s, "*<>")
	if end < 0 {
		end = len(s)
	}
	piece, ok := mapped(s[:end])
	switch {
	case open && strings.ContainsFunc(s[:end], func(r rune) bool { return r >= 0x80 }):
		return "", "", refuse("a label with a wildcard is plain ASCII")
	case !ok:
		return "", "", refuse("not a name that punycode can carry")
	}
	for i := 0; i < len(piece); i++ {
		if !letter(piece[i]) {
			return "", "", refuse("the character " + strconv.QuoteRune(rune(piece[i])) + " cannot stand in a host name")
		}
	}
	return piece, s[end:], nil
}

// PlaceholderName says whether s can be the name of a placeholder: a lower-case
// letter, then letters, digits, "-" or "_".
func PlaceholderName(s string) bool {
	for i := 0; i < len(s); i++ {
		if !letter(s[i]) || i == 0 && (s[i] < 'a' || s[i] > 'z') {
			return false
		}
	}
	return s != ""
}

func (l *label) literal() bool { return len(l.holes) == 0 }

// rank grades l: a literal label before one with more literal octets, before
// one that must be longer, before one with fewer holes. Where one label matches
// strictly less than another its rank is higher.
func (l *label) rank() int {
	if l.literal() {
		return 1 << 24
	}
	octets := len(l.head)
	for _, h := range l.holes {
		octets += len(h.then)
	}
	return octets<<16 | l.width<<8 | (0xff - len(l.holes))
}

func (l *label) String() string {
	var b strings.Builder
	b.WriteString(l.head)
	for _, h := range l.holes {
		if h.placeholder == "" {
			b.WriteByte('*')
		} else {
			b.WriteString("<" + h.placeholder + ">")
		}
		b.WriteString(h.then)
	}
	return b.String()
}

// match says whether s is a label that l stands for. Literal text between two
// holes is taken where it first fits; that finds a match if there is one,
// because a hole has no upper limit but the label's end.
func (l *label) match(s string) bool {
	if len(l.holes) == 0 {
		return s == l.head
	}
	if len(s) < l.width || !strings.HasPrefix(s, l.head) || !strings.HasSuffix(s, l.tail) {
		return false
	}
	if len(l.holes) == 1 {
		return true
	}
	s = s[len(l.head) : len(s)-len(l.tail)]
	for _, h := range l.holes[:len(l.holes)-1] {
		if len(s) < h.min {
			return false
		}
		at := strings.Index(s[h.min:], h.then)
		if at < 0 {
			return false
		}
		s = s[h.min+at+len(h.then):]
	}
	return len(s) >= l.holes[len(l.holes)-1].min
}
