package policy

import (
	"fmt"
	"slices"
	"strings"
)

// Near is an endpoint that a host and port nearly meet, and why they do not.
type Near struct {
	Endpoint *Endpoint
	Why      string // "same host, listed with port 8084"
}

// maxNear bounds what Near returns: a list of hundreds helps nobody.
const maxNear = 5

// Near lists endpoints that n and port do not meet but nearly do, the nearest
// first, at most five: the same host with another port, the apex beside a
// wildcard, a placeholder that was filled with another value, the same
// registrable domain.
func (x *Index) Near(n Name, port uint16) []Near {
	var out []Near
	add := func(e *Endpoint, format string, args ...any) {
		if !slices.ContainsFunc(out, func(o Near) bool { return o.Endpoint == e }) {
			out = append(out, Near{e, fmt.Sprintf(format, args...)})
		}
	}
	for _, e := range x.hosts(n) {
		if e.Port != port {
			add(e, "same host, listed with port %d", e.Port)
		}
	}
	d := n.Registrable()
	family := x.domains[d]
	if d == "" {
		family = nil
	}
	for _, e := range family {
		if base, ok := e.Host.Base(); ok && base == n {
			add(e, "a leading * stands for one or more labels, not for none")
		}
	}
	for _, e := range family {
		if i, ok := oneLabelOff(e.Host, n); ok && !e.Host.Match(n) {
			add(e, "%q where the catalog has %q", i, e.Host.labelAt(n, i))
		}
	}
	for _, e := range family {
		if !e.Host.Match(n) {
			add(e, "same registrable domain, in no list")
		}
	}
	return out[:min(len(out), maxNear)]
}

// hosts are the endpoints that n meets with whatever port.
func (x *Index) hosts(n Name) []*Endpoint { return x.Match(nil, n, anyPort) }

// oneLabelOff says whether p would match n but for one literal label, and which
// label of n that is.
func oneLabelOff(p Pattern, n Name) (string, bool) {
	parts := strings.Split(n.s, ".")
	slices.Reverse(parts)
	if p.addr || len(parts) < len(p.labels) || !p.deep && len(parts) != len(p.labels) || p.deep && len(parts) == len(p.labels) {
		return "", false
	}
	off, count := "", 0
	for i, l := range p.labels {
		if !l.match(parts[i]) {
			off = parts[i]
			count++
		}
	}
	return off, count == 1
}

// labelAt is the label of p that stands where n has the label part and p does
// not match it.
func (p Pattern) labelAt(n Name, part string) string {
	parts := strings.Split(n.s, ".")
	slices.Reverse(parts)
	for i, l := range p.labels {
		if i < len(parts) && parts[i] == part && !l.match(part) {
			return l.String()
		}
	}
	return ""
}
