package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

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
// brackets or zone. The zero Name is no name. Names compare with ==.
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

// AddrName is the Name of an address, without its zone.
func AddrName(a netip.Addr) Name {
	a = a.WithZone("")
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
	if i < 0 || strings.HasSuffix(s, "]") {
		return Name{}, 0, nameError(s, "a target is HOST:PORT, and the port is missing")
	}
	host, port := s[:i], s[i+1:]
	if strings.Contains(host, ":") && !strings.HasPrefix(host, "[") {
		return Name{}, 0, nameError(s, "an IPv6 address in a target stands in brackets")
	}
	p, err := strconv.ParseUint(port, 10, 16)
	if err != nil || p == 0 || port[0] == '+' {
		return Name{}, 0, nameError(s, "the port is not a number from 1 to 65535")
	}
	n, err := ParseName(host)
	return n, uint16(p), err
}

// normal lower-cases, maps and checks a host name, and takes its final dot away.
func normal(s string) (string, error) {
	t := strings.TrimSuffix(s, ".")
	lower, ascii := true, true
	for i := 0; i < len(t); i++ {
		lower = lower && (t[i] < 'A' || t[i] > 'Z')
		ascii = ascii && t[i] < 0x80
	}
	switch {
	case !ascii && len(t) <= 4*maxName:
		u, err := names.ToASCII(t)
		if err != nil {
			return "", nameError(s, "not a name that punycode can carry")
		}
		t = strings.TrimSuffix(u, ".")
	case !lower:
		t = strings.ToLower(t)
	}
	if len(t) > maxName {
		return "", nameError(s, "longer than 253 octets")
	}
	return t, checkLabels(s, t)
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

func nameError(s, why string) error {
	if len(s) > maxName {
		s = s[:maxName] + "..."
	}
	return fmt.Errorf("%w: %q: %s", ErrName, s, why)
}
