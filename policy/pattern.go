package policy

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Pattern is a host of a catalog: a literal name or address, or a name with
// wildcards and placeholders. A "*" as the whole first label stands for one or
// more labels; a "*" elsewhere stays within its label, where it stands for any
// characters, or none if the label has others. An open placeholder "<name>"
// stands for one or more characters of its label. Patterns are made by
// ParsePattern; the zero Pattern matches nothing.
type Pattern struct {
	text    string
	deep    bool    // the first label is "*": one or more labels
	literal bool    // no wildcard, no open placeholder
	suffix  bool    // "*." and a literal name
	addr    bool    // a literal address
	labels  []label // from the right, without the deep "*"
}

// label is one label of a pattern: literal pieces with wildcards between them.
type label struct {
	pieces []string // len(pieces)-1 wildcards; one piece is a literal label
	holes  []hole   // the wildcards: holes[i] is between pieces[i] and pieces[i+1]
}

// hole is one wildcard inside a label.
type hole struct {
	placeholder string // "" for "*"
	min         int    // characters that it stands for at the least
}

// ErrPattern is what every refusal of a pattern can be tested for.
var ErrPattern = errors.New("bad host pattern")

// ParsePattern reads a host of a catalog. The error says what to write instead.
func ParsePattern(s string) (Pattern, error) {
	if hint := foreign(s); hint != "" {
		return Pattern{}, patternError(s, hint)
	}
	if !strings.ContainsAny(s, "*<>") {
		n, err := ParseName(s)
		if err != nil {
			return Pattern{}, patternError(s, strings.TrimPrefix(err.Error(), ErrName.Error()+": "))
		}
		if _, ok := n.Addr(); ok {
			return Pattern{text: n.s, literal: true, addr: true, labels: []label{{pieces: []string{n.s}}}}, nil
		}
		return compile(n.s)
	}
	return compile(strings.TrimSuffix(s, "."))
}

// MustPattern is ParsePattern for patterns that the program itself contains.
func MustPattern(s string) Pattern {
	p, err := ParsePattern(s)
	if err != nil {
		panic(err)
	}
	return p
}

// foreign recognises what other lists put into a host cell, and says what to
// write instead.
func foreign(s string) string {
	switch {
	case strings.TrimSpace(s) != s || strings.ContainsAny(s, " \t,"):
		return "one host an entry, without blanks"
	case strings.Contains(s, "://"):
		_, rest, _ := strings.Cut(s, "://")
		host, _, _ := strings.Cut(rest, "/")
		return "a host without scheme and path" + didYouMean(host)
	case strings.Contains(s, "/"):
		host, _, _ := strings.Cut(s, "/")
		return "a host without path" + didYouMean(host)
	case strings.ContainsAny(s, "{}"):
		return "a placeholder is written in angle brackets" + didYouMean(strings.NewReplacer("{", "<", "}", ">").Replace(s))
	case strings.HasPrefix(s, "."):
		return "a name does not begin with a dot" + didYouMean("*"+s)
	case len(s) > 1 && s[0] == '*' && s[1] != '.' && s[1] != '*':
		return "a wildcard is a whole first label" + didYouMean("*."+s[1:])
	case strings.Contains(s, "**"):
		return "one * after another says no more than one" + didYouMean(strings.ReplaceAll(s, "**", "*"))
	case strings.Count(s, ":") == 1 && !strings.HasPrefix(s, "["):
		host, _, _ := strings.Cut(s, ":")
		return "the port goes into its own key" + didYouMean(host)
	}
	return ""
}

func didYouMean(s string) string { return fmt.Sprintf(" (did you mean %q?)", s) }

// compile reads the labels of s, which has no final dot.
func compile(s string) (Pattern, error) {
	parts := strings.Split(s, ".")
	p := Pattern{}
	if parts[0] == "*" {
		p.deep = true
		parts = parts[1:]
	}
	texts := make([]string, 0, len(parts)+1)
	size := 0
	for _, part := range parts {
		l, err := parseLabel(s, part)
		if err != nil {
			return Pattern{}, err
		}
		texts = append(texts, l.String())
		p.labels = append(p.labels, l)
		size += l.width() + 1
	}
	if n := len(p.labels); n > 0 && p.labels[n-1].literal() && numeric(p.labels[n-1].pieces[0]) {
		return Pattern{}, patternError(s, "a wildcard cannot stand in an IP address (list the addresses one by one)")
	}
	if size > maxName+1 {
		return Pattern{}, patternError(s, "longer than 253 octets")
	}
	if p.deep {
		texts = slices.Insert(texts, 0, "*")
	}
	p.text = strings.Join(texts, ".")
	p.literal = !strings.ContainsAny(p.text, "*<")
	p.suffix = p.deep && len(p.labels) > 0 && !strings.ContainsAny(p.text[1:], "*<")
	slices.Reverse(p.labels)
	return p, nil
}

func parseLabel(pattern, part string) (label, error) {
	var l label
	rest := part
	for {
		i := strings.IndexAny(rest, "*<>")
		piece := rest
		if i >= 0 {
			piece = rest[:i]
		}
		piece, err := literalPiece(pattern, piece)
		if err != nil {
			return label{}, err
		}
		l.pieces = append(l.pieces, piece)
		if i < 0 {
			break
		}
		h, after, err := parseHole(pattern, rest[i:])
		if err != nil {
			return label{}, err
		}
		l.holes = append(l.holes, h)
		rest = after
	}
	if part == "*" {
		l.holes[0].min = 1 // a label is never empty
	}
	if strings.ContainsFunc(part, func(r rune) bool { return r >= 0x80 }) && !l.literal() {
		return label{}, patternError(pattern, "a label with a wildcard is plain ASCII")
	}
	switch {
	case part == "":
		return label{}, patternError(pattern, "empty label between dots")
	case l.width() > maxLabel:
		return label{}, patternError(pattern, "label longer than 63 octets")
	}
	return l, nil
}

// parseHole reads the wildcard that s begins with, and returns what follows.
func parseHole(pattern, s string) (hole, string, error) {
	if s[0] == '*' {
		return hole{}, s[1:], nil
	}
	name, rest, ok := strings.Cut(s[1:], ">")
	if s[0] == '>' || !ok {
		return hole{}, "", patternError(pattern, "a placeholder is written <name>")
	}
	if !PlaceholderName(name) {
		return hole{}, "", patternError(pattern, fmt.Sprintf("placeholder <%s>: a name is a lower-case letter, then letters, digits, - or _%s",
			name, didYouMean("<"+strings.ReplaceAll(strings.ToLower(name), " ", "-")+">")))
	}
	return hole{placeholder: name, min: 1}, rest, nil
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

// literalPiece brings a literal part of a label into normal form.
func literalPiece(pattern, s string) (string, error) {
	t, err := names.ToASCII(strings.ToLower(s))
	if err != nil || strings.Contains(t, ".") {
		return "", patternError(pattern, "not a name that punycode can carry")
	}
	for i := 0; i < len(t); i++ {
		if !letter(t[i]) {
			return "", patternError(pattern, "the character "+strconv.QuoteRune(rune(t[i]))+" cannot stand in a host name")
		}
	}
	return t, nil
}

func patternError(s, why string) error {
	if len(s) > 2*maxName {
		s = s[:2*maxName] + "..."
	}
	return fmt.Errorf("%w %q: %s", ErrPattern, s, why)
}

// String is the pattern in normal form; ParsePattern reads it back.
func (p Pattern) String() string { return p.text }

// IsZero says that p is no pattern.
func (p Pattern) IsZero() bool { return p.text == "" }

// Literal is the one Name that p matches; ok is false where p has a wildcard or
// an open placeholder.
func (p Pattern) Literal() (n Name, ok bool) {
	if !p.literal {
		return Name{}, false
	}
	return MustName(p.text), true
}

// Base is what follows the leading "*." of a pattern ("quay.io" of
// "*.quay.io"), where that is a literal name.
func (p Pattern) Base() (n Name, ok bool) {
	if !p.suffix {
		return Name{}, false
	}
	base, err := ParseName(p.text[2:])
	return base, err == nil
}

// Suffix is the literal end of p: the labels right of its last wildcard. It is
// "" where the last label has one.
func (p Pattern) Suffix() string {
	var parts []string
	for _, l := range p.labels {
		if !l.literal() {
			break
		}
		parts = append(parts, l.pieces[0])
	}
	slices.Reverse(parts)
	return strings.Join(parts, ".")
}

// Placeholders lists the names of the open placeholders, in the order in which
// they stand in p.
func (p Pattern) Placeholders() []string {
	var out []string
	for _, l := range slices.Backward(p.labels) {
		for _, h := range l.holes {
			if h.placeholder != "" && !slices.Contains(out, h.placeholder) {
				out = append(out, h.placeholder)
			}
		}
	}
	return out
}

// Fill puts a value in place of the placeholder name, everywhere in p. The value
// becomes a literal part of the host; the error is that of ParsePattern.
func (p Pattern) Fill(name, value string) (Pattern, error) {
	if strings.ContainsAny(value, "*<>") || value == "" {
		return Pattern{}, patternError(value, "the value of a placeholder is literal")
	}
	return ParsePattern(strings.ReplaceAll(p.text, "<"+name+">", value))
}

// Match says whether p matches n. An index over many patterns is in Index.
func (p Pattern) Match(n Name) bool {
	switch {
	case p.literal:
		return n.s == p.text
	case n.addr.IsValid() || n.s == "" || p.text == "":
		return false
	case p.suffix:
		return len(n.s) >= len(p.text) && strings.HasSuffix(n.s, p.text[1:])
	}
	rest := n.s
	for _, l := range p.labels {
		if rest == "" {
			return false
		}
		var last string
		rest, last = cutLast(rest)
		if !l.match(last) {
			return false
		}
	}
	return p.deep == (rest != "")
}

// Values tells what each open placeholder of p stands for in n, as far as it is
// a whole label or stands alone among literal pieces; nil where p does not
// match.
func (p Pattern) Values(n Name) map[string]string {
	if !p.Match(n) || p.addr {
		return nil
	}
	var out map[string]string
	rest := n.s
	for _, l := range p.labels {
		var last string
		rest, last = cutLast(rest)
		if len(l.holes) == 1 && l.holes[0].placeholder != "" {
			if out == nil {
				out = map[string]string{}
			}
			out[l.holes[0].placeholder] = last[len(l.pieces[0]) : len(last)-len(l.pieces[1])]
		}
	}
	return out
}

// Compare tells which of two patterns is the more specific one: label by label
// from the right, a literal label before a partial wildcard with more literal
// characters, before a whole label, before any number of labels. It is positive
// where p is more specific than q.
func (p Pattern) Compare(q Pattern) int {
	for i := 0; ; i++ {
		a, b := p.rank(i), q.rank(i)
		if a != b || a == 0 {
			return cmp.Compare(a, b)
		}
	}
}

// rank grades the label i from the right: 0 beyond the end, 1 for the deep "*".
func (p Pattern) rank(i int) int {
	switch {
	case i >= len(p.labels) && p.deep && i == len(p.labels):
		return 1
	case i >= len(p.labels):
		return 0
	case p.labels[i].literal():
		return maxLabel + 3
	}
	return 2 + p.labels[i].letters()
}

func (l label) literal() bool { return len(l.holes) == 0 }

// letters counts the literal characters.
func (l label) letters() int {
	n := 0
	for _, p := range l.pieces {
		n += len(p)
	}
	return n
}

// width is the least length of a label that l matches.
func (l label) width() int {
	n := l.letters()
	for _, h := range l.holes {
		n += h.min
	}
	return n
}

func (l label) String() string {
	var b strings.Builder
	for i, p := range l.pieces {
		b.WriteString(p)
		if i < len(l.holes) {
			if h := l.holes[i]; h.placeholder != "" {
				b.WriteString("<" + h.placeholder + ">")
			} else {
				b.WriteString("*")
			}
		}
	}
	return b.String()
}

// match says whether s is a label that l stands for. Each piece is taken where
// it first fits; that finds a match if there is one, because holes have no
// upper limit but the label's end.
func (l label) match(s string) bool {
	first := l.pieces[0]
	if l.literal() {
		return s == first
	}
	if len(s) < l.width() || !strings.HasPrefix(s, first) {
		return false
	}
	s = s[len(first):]
	last := len(l.holes) - 1
	for i, h := range l.holes {
		if len(s) < h.min {
			return false
		}
		s = s[h.min:]
		piece := l.pieces[i+1]
		if i == last {
			return strings.HasSuffix(s, piece)
		}
		at := strings.Index(s, piece)
		if at < 0 {
			return false
		}
		s = s[at+len(piece):]
	}
	return true
}

// cutLast takes the last label off a name.
func cutLast(s string) (rest, last string) {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] == '.' {
			return s[:i], s[i+1:]
		}
	}
	return "", s
}

// JoinPort is "host:port" as endpoints are written; a host with colons gets
// brackets.
func JoinPort(host string, port uint16) string {
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host + ":" + strconv.Itoa(int(port))
}
