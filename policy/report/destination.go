package report

import (
	"cmp"
	"net/netip"
	"strings"

	"github.com/egressaudit/egressaudit/policy"
)

// destinationOf tells where a connection went: the judged name in normal form,
// where it has one, else the text. ok is false for records without any name that
// say nothing (somebody knocked at the listener and left).
func destinationOf(s sight) (k key, n policy.Name, ok bool) {
	text := cmp.Or(s.Name, s.Asked, s.Host, s.SNI, s.Resolved)
	if text == "" && s.Address.IsValid() {
		text = s.Address.Addr().String()
	}
	n, err := policy.ParseName(text)
	if err == nil {
		text = n.String()
	}
	k = key{host: short(text), port: s.Port}
	if text == "" && (s.Outcome == policy.OK || s.Outcome == policy.Failed) {
		k.host = "(no name)"
	}
	return k, n, k.host != ""
}

// classify says what kind of destination d is. What a catalog lists is listed,
// even inside the cluster (a registry of one's own).
func classify(d *destination, match bool) class {
	switch {
	case match:
		return listed
	case d.lookup:
		return lookedUp
	case inCluster(d.name):
		return inside
	}
	return unlisted
}

// wireServer is where Azure answers its virtual machines.
var wireServer = netip.MustParseAddr("168.63.129.16")

// inCluster says whether n is a name or address that clients should reach
// without a proxy: cluster names, loopback, link-local (metadata), private
// addresses.
func inCluster(n policy.Name) bool {
	a, bare := n.Addr()
	if !bare {
		return n.Within("svc") || n.Within("cluster.local") || n.Within("localhost")
	}
	a = a.Unmap()
	return a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() || a == wireServer
}

// guardDenial says whether s is our own refusal of an address, or of what is no
// destination at all: no evidence about the network either way.
func guardDenial(s sight) bool {
	if s.Outcome != policy.Denied {
		return false
	}
	_, err := policy.ParseName(cmp.Or(s.Name, s.Asked))
	return s.Error == policy.DestinationProhibited || s.Error == policy.HTTPRequestError || err != nil || s.Port == 0 && s.kind != policy.KindQuery
}

// family is 0 for a look-up of IPv4 addresses, 1 for IPv6, and -1 for others,
// which prove nothing about a destination.
func family(qtype string) int {
	switch {
	case qtype == "", strings.EqualFold(qtype, "A"):
		return 0
	case strings.EqualFold(qtype, "AAAA"):
		return 1
	}
	return -1
}
