package proxy

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/egressaudit/egressaudit/policy"
)

// reach is what the guard says of an address.
type reach uint8

const (
	public     reach = iota
	private          // RFC 1918, RFC 6598, RFC 4193, site-local; and this host, whatever address it has
	blockPage        // the operator knows it for one: a sinkhole, whoever is sent there
	local            // loopback, link-local, unspecified: a sinkhole where a public name resolves to it
	prohibited       // metadata services, multicast, our own listeners
)

var (
	privateRanges = prefixes("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7", "fec0::/10")
	localRanges   = prefixes("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "::/128", "::1/128", "fe80::/10")
	// metadata answers credentials or configuration to whoever asks.
	metadata = prefixes("169.254.169.254/32", "168.63.129.16/32", "fd00:ec2::254/128",
		"fd20:ce::254/128", "100.100.100.200/32", "192.0.0.192/32") // Google's, Alibaba's, Oracle's
	prohibitedRange = prefixes("224.0.0.0/4", "240.0.0.0/4", "ff00::/8")
	loopbackRanges  = prefixes("127.0.0.0/8", "::1/128")
)

func prefixes(list ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(list))
	for i, s := range list {
		out[i] = netip.MustParsePrefix(s)
	}
	return out
}

func within(list []netip.Prefix, a netip.Addr) bool {
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// guard decides which addresses the proxy dials. It holds in observe mode too:
// the proxy must not become a way into the host or the cluster.
type guard struct {
	allowed        []netip.Prefix
	blockPages     []netip.Prefix
	through        []netip.AddrPort
	privateAllowed bool
	interfaces     func() ([]net.Addr, error) // nil: net.InterfaceAddrs

	mu  sync.RWMutex
	own []netip.AddrPort // our listeners; the unspecified address stands for every one of the host

	homes atomic.Pointer[homes]
}

// homes are the addresses of this host at a time.
type homes struct {
	at    time.Time
	addrs map[netip.Addr]bool
}

// homesTime is for how long homes are not asked for again, for that takes longer than
// all else that the guard does.
const homesTime = time.Second

// judge classes one address and port, as it would really be reached.
func (g *guard) judge(to netip.AddrPort) reach {
	a := embedded(to.Addr())
	switch {
	case g.lets(to):
		return public
	case g.ours(netip.AddrPortFrom(a, to.Port())):
		return prohibited
	case within(g.allowed, a):
		return public
	case within(metadata, a), within(prohibitedRange, a):
		return prohibited
	case within(g.blockPages, a):
		return blockPage
	case within(localRanges, a):
		return local
	case within(privateRanges, a), g.home(a): // whose firewall may trust what comes from itself
		return private
	}
	return public
}

// lets says whether the operator named this very destination.
func (g *guard) lets(to netip.AddrPort) bool {
	return slices.Contains(g.through, netip.AddrPortFrom(to.Addr().Unmap(), to.Port()))
}

// embedded is the address that is really meant: an IPv4 address mapped,
// translated (RFC 6052, RFC 7915) or tunnelled (6to4) into IPv6 is judged as itself.
func embedded(a netip.Addr) netip.Addr {
	a = a.WithZone("").Unmap()
	if !a.Is6() {
		return a
	}
	b := a.As16()
	switch {
	case nat64.Contains(a), siit.Contains(a), ownNAT64.Contains(a) && [4]byte(b[12:16]) != [4]byte{}:
		return netip.AddrFrom4([4]byte(b[12:16]))
	case sixToFour.Contains(a):
		return netip.AddrFrom4([4]byte(b[2:6]))
	case compatible.Contains(a) && b[12] != 0:
		return netip.AddrFrom4([4]byte(b[12:16]))
	}
	return a
}

var (
	nat64      = netip.MustParsePrefix("64:ff9b::/96")
	ownNAT64   = netip.MustParsePrefix("64:ff9b:1::/48") // RFC 8215; with 96 bits before the IPv4 address, as is usual
	siit       = netip.MustParsePrefix("::ffff:0:0:0/96")
	sixToFour  = netip.MustParsePrefix("2002::/16")
	compatible = netip.MustParsePrefix("::/96")
)

// listen adds a listener of ours.
func (g *guard) listen(a netip.AddrPort) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.own = append(g.own, netip.AddrPortFrom(a.Addr().Unmap(), a.Port()))
}

func (g *guard) ours(to netip.AddrPort) bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	for _, o := range g.own {
		switch {
		case o == to:
			return true
		case o.Port() != to.Port():
		case o.Addr().IsUnspecified() && (hostItself(to.Addr()) || g.hosts(to.Addr())),
			to.Addr().IsUnspecified() && hostItself(o.Addr()):
			return true
		}
	}
	return false
}

// hosts says whether this host has the address now: interfaces come and go while a
// listener is on all of them. Where nobody can tell, it has.
func (g *guard) hosts(a netip.Addr) bool {
	h, err := g.look()
	return err != nil || h.addrs[a]
}

// home says whether this host has the address, or had it a moment ago. Where nobody
// can tell, it has not.
func (g *guard) home(a netip.Addr) bool {
	h := g.homes.Load()
	if h == nil || time.Since(h.at) >= homesTime {
		h, _ = g.look()
		g.homes.Store(h)
	}
	return h.addrs[a]
}

func (g *guard) look() (*homes, error) {
	list := g.interfaces
	if list == nil {
		list = net.InterfaceAddrs
	}
	h := &homes{at: time.Now(), addrs: map[netip.Addr]bool{}}
	addrs, err := list()
	for _, i := range addrs {
		if p, err := netip.ParsePrefix(i.String()); err == nil {
			h.addrs[p.Addr().Unmap().WithZone("")] = true
		}
	}
	return h, err
}

// hostItself says whether an address leads to this host wherever it is used: the
// unspecified one does, as loopback.
func hostItself(a netip.Addr) bool { return a.IsLoopback() || a.IsUnspecified() }

// dials says whether an address of that class is dialled for a destination that
// is listed or not.
func (g *guard) dials(r reach, listed bool) bool {
	return r == public || r == private && (g.privateAllowed || listed)
}

// localName says whether a name means this host wherever it is resolved (RFC
// 6761 section 6.3), so that a parent must not be asked for it either.
func localName(n policy.Name) bool { return n.Within("localhost") }
