package dnsaudit

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// routesFor is how long the routes found are believed.
const routesFor = 5 * time.Second

// An address of K-root in each family: some global address for the kernel to
// choose a route to. Nothing is sent there.
const (
	global4 = "193.0.14.129:53"
	global6 = "[2001:7fd::1]:53"
)

// routes tells which families have a way out of this host, as far as the host
// itself knows. Safe for use by several goroutines at once.
type routes struct {
	now   func() time.Time
	probe func(network, address string) bool

	mu     sync.Mutex
	found  time.Time
	v4, v6 bool
}

func (r *routes) families() (v4, v6 bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := r.now(); r.found.IsZero() || now.Sub(r.found) >= routesFor {
		r.v4, r.v6 = r.probe("udp4", global4), r.probe("udp6", global6)
		r.found = now
	}
	return r.v4, r.v6
}

// routed says whether the kernel has a route to address, and would use it from
// an address that can be answered: a unique local IPv6 source (RFC 4193) ranks
// behind IPv4 by RFC 6724 rule 5. Connecting a UDP socket sends nothing.
func routed(network, address string) bool {
	c, err := net.Dial(network, address)
	if err != nil {
		return false
	}
	defer c.Close()
	local := c.LocalAddr().(*net.UDPAddr).AddrPort().Addr()
	return local.Is4() || local.IsGlobalUnicast() && !local.IsPrivate()
}

// order puts both families into one list without repetitions, keeping the
// server's order within each: the part of RFC 6724 that matters between the
// families.
func order(v4, v6 []netip.Addr, first6 bool) []netip.Addr {
	if first6 {
		v4, v6 = v6, v4
	}
	var all []netip.Addr
	seen := make(map[netip.Addr]bool, len(v4)+len(v6))
	for _, family := range [][]netip.Addr{v4, v6} {
		for _, a := range family {
			if !seen[a] {
				seen[a] = true
				all = append(all, a)
			}
		}
	}
	return all
}
