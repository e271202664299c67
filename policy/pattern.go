package policy

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
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
	suffix  string  // the literal end, with the dot before it: ".b.c" of "*.b.c" and "a*.b.c"
	labels  []label // from the right, without the deep "*"
	fixed   int     // how many of them the suffix holds
	deep    bool    // the first label is "*": one or more labels
	literal bool    // no wildcard, no open placeholder
	addr    bool    // a literal address
}

// ErrPattern is what every refusal of a pattern can be tested for.
var ErrPattern = errors.New("bad host pattern")

// ParsePattern reads a host of a catalog. The error says what to write instead.
func ParsePattern(s string) (Pattern, error) {
	p, no := parsePattern(s)
	if no != nil {
		return Pattern{}, no.of(s)
	}
	return p, nil
}

func parsePattern(s string) (Pattern, *refusal) {
	if len(s) > 8*maxName {
		return Pattern{}, refuse("longer than 253 octets")
	}
	if no := foreign(s); no != nil {
		return Pattern{}, no
	}
	if strings.ContainsAny(s, "*<>") {
		return compile(s)
	}
	n, err := ParseName(s)
	if err != nil {
		bad, _ := errors.AsType[*badName](err)
		return Pattern{}, refuse(bad.why)
	}
	if n.addr.IsValid() {
		return Pattern{text: n.s, suffix: n.s, labels: []label{{head: n.s}}, fixed: 1, literal: true, addr: true}, nil
	}
	return compile(n.s)
}

// MustPattern is ParsePattern for patterns that the program itself contains.
func MustPattern(s string) Pattern {
	p, err := ParsePattern(s)
	if err != nil {
		panic(err)
	}
	return p
}

// refusal is why a text is no pattern, and what may have been meant.
type refusal struct {
	why    string
	better func(pattern string) string // nil: nothing to propose
}

func refuse(why string) *refusal { return &refusal{why: why} }

// of makes the error. It proposes only what is a pattern.
func (r *refusal) of(s string) error {
	hint := ""
	if r.better != nil {
		if p, no := parsePattern(r.better(s)); no == nil {
			hint = fmt.Sprintf(" (did you mean %q?)", p)
		}
	}
	return fmt.Errorf("%w %q: %s%s", ErrPattern, shorten(s), r.why, hint)
}

// foreign recognises what other lists put into a host cell.
func foreign(s string) *refusal {
	_, notRange := netip.ParsePrefix(s)
	switch {
	case strings.TrimSpace(s) != s || strings.Contains(s, ",") || strings.ContainsAny(s, " \t") && !strings.Contains(s, "<"):
		return &refusal{"one host an entry, without blanks", func(s string) string { return strings.Trim(s, ", \t\r\n") }}
	case notRange == nil:
		return refuse("an address range is no host (list the addresses one by one)")
	case strings.Contains(s, "/"):
		return &refusal{"a host without scheme and path", bare}
	case strings.Contains(s, "]:") || strings.Count(s, ":") == 1:
		return &refusal{"the port goes into its own key", bare}
	case strings.ContainsAny(s, "{}") || strings.Contains(s, "]") && !strings.Contains(s, ":"):
		return &refusal{"a placeholder is written in angle brackets", angles.Replace}
	case strings.HasPrefix(s, "."):
		return &refusal{"a name does not begin with a dot", func(s string) string { return "*" + s }}
	case strings.Contains(s, "**"):
		return &refusal{"one * after another says no more than one", func(s string) string { return strings.ReplaceAll(s, "**", "*") }}
	case len(s) > 1 && s[0] == '*' && s[1] != '.':
		return &refusal{"a wildcard is a whole first label", func(s string) string { return "*." + s[1:] }}
	}
	return nil
}

// angles turns the brackets of other template languages into ours.
var angles = strings.NewReplacer("${", "<", "{{", "<", "{", "<", "[", "<", "}}", ">", "}", ">", "]", ">")

// bare takes scheme, path and port off a host.
func bare(s string) string {
	if _, rest, ok := strings.Cut(s, "://"); ok {
		s = rest
	}
	s, _, _ = strings.Cut(s, "/")
	if i := strings.LastIndexByte(s, ':'); i > strings.LastIndexByte(s, ']') {
		s = s[:i]
	}
	return s
}

// dots are the separators of labels by RFC 3490 section 3.1.
var dots = strings.NewReplacer("\u3002", ".", "\uff0e", ".", "\uff61", ".")

// compile reads the labels of s.
func compile(s string) (Pattern, *refusal) {
	parts := strings.Split(strings.TrimSuffix(dots.Replace(s), "."), ".")
	p := Pattern{deep: parts[0] == "*"}
	texts, size := []string{}, -1
	if p.deep {
		parts = parts[1:]
		texts, size = []string{"*"}, 1
	}
	for _, part := range parts {
		l, no := parseLabel(part)
		if no != nil {
			return Pattern{}, no
		}
		texts = append(texts, l.String())
		p.labels = append(p.labels, l)
		size += l.width + 1
	}
	slices.Reverse(p.labels)
	switch {
	case p.looksLikeAddress():
		return Pattern{}, refuse("a wildcard cannot stand in an IP address (list the addresses one by one)")
	case size > maxName:
		return Pattern{}, refuse("longer than 253 octets")
	}
	if p.text = strings.Join(texts, "."); p.text == s {
		p.text = s // the labels are parts of it: one piece of memory to look at
	}
	p.findSuffix()
	return p, nil
}

// looksLikeAddress says whether p ends in a number or is of numbers but for its
// last label: no name does the first, and nobody means the second.
func (p *Pattern) looksLikeAddress() bool {
	if len(p.labels) == 0 {
		return false
	}
	number := func(l label) bool { return l.literal() && numeric(l.head) }
	rest := p.labels[1:]
	return number(p.labels[0]) || len(rest) > 0 && !p.labels[0].literal() && !slices.ContainsFunc(rest, func(l label) bool { return !number(l) })
}

// findSuffix splits off the literal labels at the end.
func (p *Pattern) findSuffix() {
	for p.fixed < len(p.labels) && p.labels[p.fixed].literal() {
		p.fixed++
	}
	p.literal = !p.deep && p.fixed == len(p.labels)
	switch last := strings.LastIndexAny(p.text, "*>"); {
	case p.literal:
		p.suffix = p.text
	case p.fixed > 0:
		p.suffix = p.text[last+1:]
		p.suffix = p.suffix[strings.IndexByte(p.suffix, '.'):]
	}
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
	if !p.deep || p.fixed == 0 || p.fixed < len(p.labels) {
		return Name{}, false
	}
	return MustName(p.suffix[1:]), true
}

// Suffix is the literal end of p: the labels right of its last wildcard. It is
// "" where the last label has one.
func (p Pattern) Suffix() string { return strings.TrimPrefix(p.suffix, ".") }

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
		return Pattern{}, refuse("the value of a placeholder is literal").of(value)
	}
	return ParsePattern(strings.ReplaceAll(p.text, "<"+name+">", value))
}

// Match says whether p matches n. An index over many patterns is in Index.
func (p Pattern) Match(n Name) bool { return p.match(&n) }

func (p *Pattern) match(n *Name) bool {
	switch {
	case p.literal:
		return n.s == p.text
	case n.s == "" || p.text == "" || n.addr.IsValid() || !strings.HasSuffix(n.s, p.suffix):
		return false
	}
	rest, last := n.s[:len(n.s)-len(p.suffix)], ""
	for i := range p.labels[p.fixed:] {
		rest, last = cutLast(rest) // "" where none is left, which no label matches
		if !p.labels[p.fixed+i].match(last) {
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
			out[l.holes[0].placeholder] = last[len(l.head) : len(last)-len(l.tail)]
		}
	}
	return out
}

// Compare tells which of two patterns is the more specific one: label by label
// from the right, a literal label before a partial wildcard with more literal
// characters (where they have as many: the one that must be longer, then the
// one with fewer wildcards), before a whole label, before any number of labels.
// It is positive where p is more specific than q.
func (p Pattern) Compare(q Pattern) int { return p.compare(&q) }

func (p *Pattern) compare(q *Pattern) int {
	for i := 0; ; i++ {
		a, b := p.rank(i), q.rank(i)
		if a != b || a == 0 {
			return cmp.Compare(a, b)
		}
	}
}

// rank grades the label i from the right: 0 beyond the end, 1 for the deep "*".
func (p *Pattern) rank(i int) int {
	switch {
	case i < len(p.labels):
		return p.labels[i].rank()
	case i == len(p.labels) && p.deep:
		return 1
	}
	return 0
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
