package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Near is an endpoint that a host and port nearly meet, and why they do not.
type Near struct {
	Endpoint *Endpoint
	Why      string // `"cloudfront" where the catalog has "cloudflare"`
}

// String is the endpoint and the reason, as people read it:
// `production.cloudflare.docker.com:443: "cloudfront" where the catalog has "cloudflare"`.
func (n Near) String() string { return n.Endpoint.String() + ": " + n.Why }

// maxNear bounds what Near returns: a list of hundreds helps nobody.
const maxNear = 5

// Near lists endpoints that n and port do not meet but nearly do, the nearest
// first, at most five: the same host with another port; the name itself beside
// a wildcard for the names below it, and the other way round; a host of which
// one label differs (a placeholder that was filled with another value, say).
// Where there is none of these it lists other hosts of the same registrable
// domain. Port 0 stands for any port. Its cost grows with the endpoints of that
// domain: it is for reports, not for each connection.
func (x *Index) Near(n Name, port uint16) []Near {
	found := x.misses(n, port)
	slices.SortStableFunc(found, func(a, b miss) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.far, b.far), cmp.Compare(a.port, b.port))
	})
	var out []Near
	for _, m := range found[:min(len(found), maxNear)] {
		if m.kind == otherHost && found[0].kind != otherHost {
			break
		}
		out = append(out, Near{m.endpoint, m.why(n, port)})
	}
	return out
}

// misses are the endpoints that Near chooses from.
func (x *Index) misses(n Name, port uint16) []miss {
	var found []miss
	for _, e := range x.Match(nil, n, anyPort) {
		if !e.on(port) {
			found = append(found, miss{endpoint: e, kind: otherPort, port: e.Port})
		}
	}
	d := n.Registrable()
	if d == "" {
		return found
	}
	labels := strings.Split(n.s, ".")
	slices.Reverse(labels)
	for _, e := range x.domains[d] {
		if e.Host.Match(n) {
			continue
		}
		m := missed(e, labels)
		if !e.on(port) {
			m.port = e.Port
		}
		found = append(found, m)
	}
	return found
}

// miss is an endpoint, and what keeps a name from it.
type miss struct {
	endpoint *Endpoint
	kind     missKind
	far      int    // among misses of one kind
	has      string // of oneLabel: what the name has, and what the endpoint wants
	wants    string
	port     uint16 // the endpoint's, where another was asked for
}

// missKind is a reason not to match, the nearest first.
type missKind int

const (
	otherPort missKind = iota
	apex               // "quay.io" beside "*.quay.io"
	oneLabel           // one label differs
	below              // "a.quay.io" beside "quay.io"
	otherHost          // nothing in common but the registrable domain
)

// missed says why e does not match the name with these labels, from the right.
func missed(e *Endpoint, labels []string) miss {
	m := miss{endpoint: e, kind: otherHost}
	p := &e.Host
	same := 0
	for i := range min(len(labels), len(p.labels)) {
		if p.labels[i].match(labels[i]) {
			same++
		} else {
			m.has, m.wants = labels[i], p.labels[i].String()
		}
	}
	switch {
	case same == len(p.labels) && p.deep:
		m.kind = apex
	case same == len(p.labels):
		m.kind, m.far = below, len(labels)-same
	case same == len(p.labels)-1 && p.spans(len(labels)):
		m.kind, m.far = oneLabel, differ(m.has, m.wants)
	default:
		m.far = -same
	}
	return m
}

// spans says whether names that p matches can have so many labels.
func (p *Pattern) spans(labels int) bool {
	return labels == len(p.labels) && !p.deep || labels > len(p.labels) && p.deep
}

// differ is how many octets two labels have between their common beginning and
// their common end.
func differ(a, b string) int {
	for a != "" && b != "" && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for a != "" && b != "" && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	return max(len(a), len(b))
}

// on says whether e has the port that a look-up asks for.
func (e *Endpoint) on(port uint16) bool { return e.Port == port || port == anyPort }

func (m miss) why(n Name, port uint16) string {
	also := ""
	if m.port != 0 {
		also = fmt.Sprintf(", and port %d", m.port)
	}
	switch m.kind {
	case otherPort:
		return fmt.Sprintf("same host, listed with port %d, not %d", m.port, port)
	case apex:
		return "the leading * stands for one or more labels, never for none" + also
	case oneLabel:
		return fmt.Sprintf("%q where the catalog has %q", m.has, m.wants) + also
	case below:
		return "listed without a leading *, so not for the names below it" + also
	}
	return "another host of " + n.Registrable() + also
}
