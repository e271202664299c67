package main

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// rejects are what the firewall does to connections to an address: in nftables'
// words, for each family.
var rejects = map[string][2]string{
	"drop":             {"drop", "drop"},
	"tcp-reset":        {"reject with tcp reset", "reject with tcp reset"},
	"port-unreachable": {"reject with icmp type port-unreachable", "reject with icmpv6 type port-unreachable"},
	"host-unreachable": {"reject with icmp type host-unreachable", "reject with icmpv6 type addr-unreachable"},
	"net-unreachable":  {"reject with icmp type net-unreachable", "reject with icmpv6 type no-route"},
	"no-route":         {"reject with icmp type net-unreachable", "reject with icmpv6 type no-route"},
	"host-prohibited":  {"reject with icmp type host-prohibited", "reject with icmpv6 type policy-fail"},
	"net-prohibited":   {"reject with icmp type net-prohibited", "reject with icmpv6 type reject-route"},
	"admin-prohibited": {"reject with icmp type admin-prohibited", "reject with icmpv6 type admin-prohibited"},
}

// addresses are groups of addresses: by what is done to them, and by family.
type addresses map[string]*[2][]string

func (g addresses) add(to, address string) {
	if g[to] == nil {
		g[to] = &[2][]string{}
	}
	if a := netip.MustParseAddr(address); a.Is4() {
		g[to][0] = append(g[to][0], address)
	} else {
		g[to][1] = append(g[to][1], address)
	}
}

// rules writes one rule for each group and family.
func (g addresses) rules(b *strings.Builder, format func(what string, family int) string) {
	for _, what := range slices.Sorted(maps.Keys(g)) {
		for family, list := range g[what] {
			if len(list) > 0 {
				word := [2]string{"ip", "ip6"}[family]
				fmt.Fprintf(b, "    %s daddr { %s } meta l4proto tcp %s;\n", word, strings.Join(list, ", "), format(what, family))
			}
		}
	}
}

// nftables are the firewall's rules by address: what it blocks, and whose TLS it
// breaks open.
func (w *world) nftables() string {
	blocked, inspected := addresses{}, addresses{}
	blocked.add("drop", "10.9.3.66")
	blocked.add("host-unreachable", "10.9.3.67")
	for _, c := range w.cells {
		for _, a := range c.addrs {
			what := c.block
			if c.block6 != "" && strings.Contains(a, ":") {
				what = c.block6
			}
			if what != "" {
				blocked.add(what, a)
			}
			if c.inspect {
				inspected.add("", a)
			}
		}
	}
	var b strings.Builder
	b.WriteString("table inet matrix {\n  chain forward {\n    type filter hook forward priority 0;\n")
	blocked.rules(&b, func(what string, family int) string { return rejects[what][family] })
	b.WriteString("  }\n  chain prerouting {\n    type nat hook prerouting priority dstnat;\n")
	inspected.rules(&b, func(string, int) string { return fmt.Sprintf("th dport 443 redirect to :%d", inspectPort) })
	b.WriteString("  }\n}\n")
	return b.String()
}

// captureRules send what the clients say to each egressaudit's listener: by the
// addresses of its cells, and all else to that of the world's way.
func (w *world) captureRules() string {
	hook := "nat hook prerouting priority dstnat"
	to := func(side string, _ int) string { return fmt.Sprintf("redirect to :%d", w.capturePort(side)) }
	if w.way == "tproxy" {
		hook = "filter hook prerouting priority mangle"
		to = func(side string, family int) string {
			return fmt.Sprintf("tproxy %s to :%d meta mark set 1 accept", [2]string{"ip", "ip6"}[family], w.capturePort(side))
		}
	}
	own := addresses{}
	for _, c := range w.cells {
		if c.through == "" {
			continue
		}
		for _, a := range c.addrs {
			own.add(c.through, a)
		}
		if c.beside {
			own.add(c.through, w.beside(c))
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "table inet capture {\n  chain prerouting {\n    type %s;\n", hook)
	b.WriteString("    iifname != \"l1b\" accept;\n    fib daddr type local accept;\n    tcp dport != { 80, 443 } accept;\n")
	own.rules(&b, to)
	for family, word := range []string{"ipv4", "ipv6"} {
		fmt.Fprintf(&b, "    meta nfproto %s meta l4proto tcp %s;\n", word, to("", family))
	}
	b.WriteString("  }\n}\n")
	return b.String()
}

// closedRules are the internet's own: addresses at which nothing listens.
func (w *world) closedRules() string {
	shut := addresses{}
	for _, c := range w.cells {
		if len(c.fault.addrs) > 0 && c.fault.addrs[0] == closed {
			shut.add("tcp-reset", c.addrs[0])
		}
	}
	var b strings.Builder
	b.WriteString("table inet matrix {\n  chain input {\n    type filter hook input priority 0;\n")
	shut.rules(&b, func(what string, family int) string { return rejects[what][family] })
	b.WriteString("  }\n}\n")
	return b.String()
}

// iptables are the firewall's rules by what a packet holds: a server name or Host
// field, or a question to a resolver. One rule looks at one packet.
func (w *world) iptables() string {
	b := strings.Builder{}
	b.WriteString("*filter\n")
	for _, c := range w.cells {
		if c.byName != "" {
			fmt.Fprintf(&b, "-A FORWARD -p tcp -m multiport --dports 80,443 -m string --algo bm --string %q -j %s\n", c.host, c.byName)
		}
		if c.dns == dnsSilence {
			label, _, _ := strings.Cut(c.host, ".")
			for _, transport := range []string{"udp", "tcp"} {
				fmt.Fprintf(&b, "-A FORWARD -p %s --dport 53 -m string --algo bm --string %q -j DROP\n", transport, label)
			}
		}
	}
	b.WriteString("COMMIT\n")
	return b.String()
}

// routes are those that lead nowhere, for ip -batch.
func (w *world) routes() string {
	var b strings.Builder
	for _, c := range w.cells {
		if c.route == "" {
			continue
		}
		for _, a := range c.addrs {
			fmt.Fprintf(&b, "route add %s %s\n", c.route, a)
		}
	}
	return b.String()
}
