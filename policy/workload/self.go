package workload

import (
	"bufio"
	"encoding/hex"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// Self is our own place in a cluster.
type Self struct {
	Node      string       // the name of the node that we run on; "" where it is not known
	Gateways  []netip.Addr // of the default routes
	Addresses []netip.Addr // of this network namespace, without loopback and link-local ones
}

// Here is the place of this process, on a node of that name. What cannot be read
// is left out.
func Here(node string) Self {
	s := Self{Node: node}
	four, _ := os.ReadFile("/proc/net/route") // there are none on other systems
	six, _ := os.ReadFile("/proc/net/ipv6_route")
	s.Gateways = append(gateways4(string(four)), gateways6(string(six))...)
	all, _ := net.InterfaceAddrs()
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().IsGlobalUnicast() {
			s.Addresses = append(s.Addresses, plain(p.Addr()))
		}
	}
	return s
}

// gateways4 reads /proc/net/route: interface, destination, gateway, flags, three
// counters, mask; addresses as a number of this machine, on all that run Linux
// here the last octet first.
func gateways4(table string) []netip.Addr {
	return gateways(table, func(f []string) (string, bool) {
		return reversed(f[2]), f[1] == "00000000" && len(f) > 7 && f[7] == "00000000"
	})
}

// gateways6 reads /proc/net/ipv6_route: destination and its length, source and its
// length, next hop; addresses as they are sent.
func gateways6(table string) []netip.Addr {
	return gateways(table, func(f []string) (string, bool) {
		return f[4], f[1] == "00" && strings.Trim(f[0], "0") == "" && len(f) > 9 && f[9] != "lo"
	})
}

// gateways are the next hops, in hexadecimal digits, of the lines that have one.
func gateways(table string, read func(fields []string) (hop string, ok bool)) []netip.Addr {
	var out []netip.Addr
	lines := bufio.NewScanner(strings.NewReader(table))
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 5 {
			continue
		}
		hop, ok := read(f)
		raw, err := hex.DecodeString(hop)
		a, whole := netip.AddrFromSlice(raw)
		if ok && err == nil && whole && a.IsGlobalUnicast() && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

// reversed turns the octets of a hexadecimal number around.
func reversed(s string) string {
	if len(s) != 8 {
		return ""
	}
	return s[6:] + s[4:6] + s[2:4] + s[:2]
}
