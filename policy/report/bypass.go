package report

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/egressaudit/egressaudit/policy"
)

// bypass is a NO_PROXY list, read as golang.org/x/net/http/httpproxy reads it:
// "d" stands for d and all names below it, ".d" and "*.d" for the names below,
// addresses and CIDR ranges for bare addresses, "*" for everything; any entry
// but "*" may carry a port.
type bypass struct {
	all     bool
	domains []bypassDomain
	ranges  []bypassRange
}

type bypassDomain struct {
	name string
	apex bool
	port uint16 // 0: any
}

type bypassRange struct {
	netip.Prefix
	port uint16
}

func newBypass(list []string) (b bypass) {
	for _, s := range noProxyWords(list) {
		b.add(strings.ToLower(s))
	}
	return b
}

func noProxyWords(list []string) (words []string) {
	for _, item := range list {
		words = append(words, strings.FieldsFunc(item, func(r rune) bool { return r == ',' || r == ' ' })...)
	}
	return words
}

// BadNoProxy is the first word of a NO_PROXY list that stands for nothing, as
// golang.org/x/net/http/httpproxy reads it: no name, address, CIDR range or "*". bad is
// false where there is none.
func BadNoProxy(list []string) (word string, bad bool) {
	var b bypass
	words := noProxyWords(list)
	i := slices.IndexFunc(words, func(s string) bool { return !b.add(strings.ToLower(s)) })
	if i < 0 {
		return "", false
	}
	return words[i], true
}

// add is false where s stands for nothing.
func (b *bypass) add(s string) bool {
	if s == "*" {
		b.all = true
		return true
	}
	if p, err := netip.ParsePrefix(s); err == nil {
		b.ranges = append(b.ranges, bypassRange{Prefix: p.Masked()})
		return true
	}
	host, port := cutPort(s)
	if a, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		b.ranges = append(b.ranges, bypassRange{netip.PrefixFrom(a.Unmap().WithZone(""), a.Unmap().BitLen()), port})
		return true
	}
	below := strings.TrimPrefix(host, "*")
	name, sub := strings.CutPrefix(below, ".")
	n, err := policy.ParseName(name)
	if err == nil {
		b.domains = append(b.domains, bypassDomain{n.String(), !sub, port})
	}
	return err == nil
}

// cutPort takes a port off, where s ends in one.
func cutPort(s string) (string, uint16) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 || strings.Count(s, ":") > 1 && !strings.Contains(s, "]:") {
		return s, 0
	}
	p, err := strconv.ParseUint(s[i+1:], 10, 16)
	if err != nil {
		return s, 0
	}
	return s[:i], uint16(p)
}

// host says whether clients reach n on port without us.
func (b bypass) host(n policy.Name, port uint16) bool {
	if b.all {
		return true
	}
	if a, ok := n.Addr(); ok {
		for _, r := range b.ranges {
			if r.Contains(a.Unmap()) && (r.port == 0 || r.port == port) {
				return true
			}
		}
		return false
	}
	for _, d := range b.domains {
		if n.Within(d.name) && (d.apex || n.String() != d.name) && (d.port == 0 || d.port == port) {
			return true
		}
	}
	return false
}

// pattern says whether every host that p stands for is reached without us.
func (b bypass) pattern(p policy.Pattern, port uint16) bool {
	if n, ok := p.Literal(); ok {
		return b.host(n, port)
	}
	if b.all {
		return true
	}
	base, err := policy.ParseName(p.Suffix())
	if err != nil {
		return false
	}
	for _, d := range b.domains {
		if base.Within(d.name) && (d.port == 0 || d.port == port) {
			return true
		}
	}
	return false
}

// touches says whether p may stand for a host that is reached without us. Of hosts
// whose names go on behind a wildcard it says so rather too often.
func (b bypass) touches(p policy.Pattern, port uint16) bool {
	if b.pattern(p, port) {
		return true
	}
	if _, literal := p.Literal(); literal {
		return false
	}
	for _, d := range b.domains {
		n, err := policy.ParseName(d.name)
		if err == nil && (d.port == 0 || d.port == port) && (p.Suffix() == "" || n.Within(p.Suffix())) {
			return true
		}
	}
	return false
}
