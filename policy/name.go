package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/net/publicsuffix"
)

// Limits of RFC 1035 section 2.3.4, for the text form without the final dot.
const (
	maxName  = 253
	maxLabel = 63
)

// Name is a host name or an IP address in the one normal form: lower case,
// punycode (RFC 5891), no final dot; addresses as RFC 5952 writes them, without
// brackets or zone, and an IPv4 address mapped into IPv6 (::ffff:192.0.2.1) as
// the IPv4 address that is dialed for it. The zero Name is no name. Names
// compare with ==.
type Name struct {
	s    string
	addr netip.Addr
}

// names maps Unicode to A-labels. It neither demands STD 3 letters (labels with
// an underscore exist) nor refuses hyphens in the third and fourth place
// (r4---sn.googlevideo.com exists); ParseName checks the letters itself.
var names = idna.New(idna.MapForLookup(), idna.StrictDomainName(false), idna.CheckHyphens(false), idna.BidiRule())

// ParseName brings a host name or an IP address into normal form. It refuses
// what two programs may read differently: user information, ports, paths, zone
// identifiers, IPv4 spellings other than four decimal numbers (127.1,
// 0x7f.0.0.1, 2130706433), empty labels, labels over 63 and names over 253
// octets. An IPv6 address may stand in brackets. For a name that is normal
// already it allocates nothing.
func ParseName(s string) (Name, error) {
	if in, ok := strings.CutPrefix(s, "["); ok {
		in, ok = strings.CutSuffix(in, "]")
		if !ok || !strings.Contains(in, ":") {
			return Name{}, nameError(s, "brackets belong around an IPv6 address")
		}
		return parseAddr(s, in)
	}
	if strings.Contains(s, ":") {
		return parseAddr(s, s)
	}
	t, err := normal(s)
	if err != nil {
		return Name{}, err
	}
	if !numeric(t[strings.LastIndexByte(t, '.')+1:]) {
		return Name{s: t}, nil
	}
	a, err := netip.ParseAddr(t)
	if err != nil {
		return Name{}, nameError(s, "an IPv4 address is four decimal numbers from 0 to 255, without leading zeros")
	}
	return Name{s: t, addr: a}, nil
}

// MustName is ParseName for names that the program itself contains; it panics
// on any other.
func MustName(s string) Name {
	n, err := ParseName(s)
	if err != nil {
		panic(err)
	}
	return n
}

// AddrName is the Name of an address, without its zone; of the zero Addr it is
// the zero Name.
func AddrName(a netip.Addr) Name {
	if !a.IsValid() {
		return Name{}
	}
	a = a.Unmap().WithZone("")
	return Name{s: a.String(), addr: a}
}

// String is the normal form; of the zero Name it is "".
func (n Name) String() string { return n.s }

// IsZero says that n is no name.
func (n Name) IsZero() bool { return n.s == "" }

// Addr is the address that n is; ok is false where n is a host name.
func (n Name) Addr() (a netip.Addr, ok bool) { return n.addr, n.addr.IsValid() }

// Within says whether n is the domain or a name below it.
func (n Name) Within(domain string) bool {
	return !n.addr.IsValid() && (n.s == domain ||
		len(n.s) > len(domain) && strings.HasSuffix(n.s, domain) && n.s[len(n.s)-len(domain)-1] == '.')
}

// Registrable is the registrable domain of n by the ICANN part of the public
// suffix list ("docker.com" of "auth.docker.com", "windows.net" of
// "x.blob.core.windows.net"); "" for addresses and public suffixes.
func (n Name) Registrable() string {
	if n.addr.IsValid() {
		return ""
	}
	return registrable(n.s)
}

func registrable(s string) string {
	suffix, icann := publicsuffix.PublicSuffix(s)
	for !icann && strings.Contains(suffix, ".") {
		_, above, _ := strings.Cut(suffix, ".")
		suffix, icann = publicsuffix.PublicSuffix(above)
	}
	if len(s) <= len(suffix) {
		return ""
	}
	left := s[:len(s)-len(suffix)-1]
	return s[strings.LastIndexByte(left, '.')+1:]
}

// MarshalText and UnmarshalText write and read the normal form, so that a Name
// stands in JSON as a string.
func (n Name) MarshalText() ([]byte, error) { return []byte(n.s), nil }

// UnmarshalText is ParseName for decoders; empty text makes the zero Name.
func (n *Name) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*n = Name{}
		return nil
	}
	var err error
	*n, err = ParseName(string(b))
	return err
}

// ParseTarget reads "host:port", the authority-form of RFC 9112 section 3.2.3:
// the port is demanded, and an IPv6 address stands in brackets.
func ParseTarget(s string) (Name, uint16, error) {
	i := strings.LastIndexByte(s, ':')
	switch {
	case strings.Contains(s, "/"):
		return Name{}, 0, nameError(s, "a target is HOST:PORT, without scheme and path")
	case i < 0 || strings.HasSuffix(s, "]"):
		return Name{}, 0, nameError(s, "a target is HOST:PORT, and the port is missing")
	case strings.Contains(s[:i], ":") && s[0] != '[':
		return Name{}, 0, nameError(s, "an IPv6 address in a target stands in brackets")
	}
	port, err := strconv.ParseUint(s[i+1:], 10, 16)
	if err != nil || port == 0 {
		return Name{}, 0, nameError(s, "the port is not a number from 1 to 65535")
	}
	n, err := ParseName(s[:i])
	if err != nil {
		return Name{}, 0, err
	}
	return n, uint16(port), nil
}

// normal maps and checks a host name, and takes its final dot away.
func normal(s string) (string, error) {
	if len(s) > 4*maxName { // more than Unicode needs for 253 octets of punycode
		return "", nameError(s, "longer than 253 octets")
	}
	t, ok := mapped(s)
	if !ok {
		return "", nameError(s, "not a name that punycode can carry")
	}
	t = strings.TrimSuffix(t, ".")
	if len(t) > maxName {
		return "", nameError(s, "longer than 253 octets")
	}
	return t, checkLabels(s, t)
}

// mapped is s in lower case and punycode. ASCII passes as it is, so that what
// was mapped once is not mapped again.
func mapped(s string) (string, bool) {
	lower, ascii := true, true
	for i := 0; i < len(s); i++ {
		lower = lower && (s[i] < 'A' || s[i] > 'Z')
		ascii = ascii && s[i] < 0x80
	}
	if ascii && lower {
		return s, true
	}
	if ascii {
		return strings.ToLower(s), true
	}
	t, err := names.ToASCII(s)
	return t, err == nil && utf8.ValidString(s) // idna maps a stray octet to U+FFFD
}

func checkLabels(s, t string) error {
	start := 0
	for i := 0; i <= len(t); i++ {
		if i < len(t) && t[i] != '.' {
			if !letter(t[i]) {
				return nameError(s, "the character "+strconv.QuoteRune(rune(t[i]))+" cannot stand in a host name")
			}
			continue
		}
		switch {
		case t == "":
			return nameError(s, "a host name is missing")
		case i == start:
			return nameError(s, "empty label between dots")
		case i-start > maxLabel:
			return nameError(s, "label longer than 63 octets")
		}
		start = i + 1
	}
	return nil
}

// letter says what a label of a host name may be made of. The underscore is no
// host letter by RFC 952, yet real names carry it.
func letter(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}

// numeric says whether programs may read a name with this last label as an IPv4
// address (WHATWG URL, "ends in a number").
func numeric(label string) bool {
	if len(label) > 1 && label[0] == '0' && label[1] == 'x' {
		label = label[2:]
		for i := 0; i < len(label); i++ {
			if c := label[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
				return false
			}
		}
		return true
	}
	for i := 0; i < len(label); i++ {
		if label[i] < '0' || label[i] > '9' {
			return false
		}
	}
	return true
}

func parseAddr(s, in string) (Name, error) {
	a, err := netip.ParseAddr(in)
	switch {
	case err == nil && a.Zone() != "", err != nil && strings.Contains(in, "%"):
		return Name{}, nameError(s, "an address with a zone identifier has no meaning for a proxy")
	case err != nil:
		return Name{}, nameError(s, "neither a host name nor an IP address (give the port apart)")
	}
	return AddrName(a), nil
}

// ErrName is what every refusal of a name or target can be tested for.
var ErrName = errors.New("not a host name")

// badName is a text that is no Name, and why.
type badName struct{ text, why string }

func nameError(s, why string) error { return &badName{s, why} }

func (e *badName) Unwrap() error { return ErrName }

func (e *badName) Error() string {
	return fmt.Sprintf("%v: %q: %s", ErrName, shorten(e.text), e.why)
}

// shorten makes a hostile text fit for an error.
func shorten(s string) string {
	if len(s) > maxName {
		return s[:maxName] + "..."
	}
	return s
}
