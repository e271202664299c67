// Package nftables renders the rule sets that send traffic to the transparent
// listeners of egressaudit: on a gateway, what it forwards for ranges of clients; on
// a single host, what the host itself sends. IPv4 and IPv6 are one rule set. What no
// rule sends to us is counted, by named counters.
//
// The one source is text for nft(8), and for routes commands of sh(1): Render and
// Routes. Load gives the kernel what that text says by netlink, without a program,
// and for as long as this process lives: the table has the flag "owner", so the
// kernel takes it away with the socket that made it, also when the process is
// killed. It reads no text but its own.
package nftables

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"path"
	"slices"
	"strings"
	"text/template"
)

// Name of the table, and the mark and routing table by which packets for TPROXY are
// given to local sockets.
const (
	Table = "egressaudit"
	Mark  = 0xea01
	Route = 60161
)

// Params fill a rule set in.
type Params struct {
	// Clients are the ranges whose forwarded traffic is captured: nodes and pods of
	// a cluster behind a gateway. Empty for the traffic of this host itself.
	Clients []netip.Prefix
	// Skip are destinations left alone, and counted: pods, services, the API server.
	Skip []netip.Prefix
	// Own are clients that are part of egressaudit itself, whose traffic is left
	// alone, and counted: proxies behind this gateway. A host has none.
	Own []netip.Addr
	// Redirect is the port of serve --redirect, TProxy that of --tproxy, DNS that of
	// --dns. All listen on every address. TCP goes to Redirect where it is set, else
	// to TProxy; QUIC needs TProxy. What has no port is not captured, but counted.
	Redirect, TProxy, DNS uint16
	// Local are addresses of this gateway, one of a family at most, to which what is
	// redirected is sent. Without one of its family a packet goes to the address of
	// the interface that it came in by, and is dropped where that has none.
	Local []netip.Addr
	// UID and Cgroup say whose traffic is our own, on a host: a user ID, or a path
	// below the mount of cgroup v2 ("system.slice/egressaudit.service"), which must
	// exist when the rules are loaded. One of them is needed there.
	UID    uint32
	Cgroup string
}

//go:embed rules.nft.tmpl
var rules string

var parsed = template.Must(template.New("rules").Parse(rules))

// Render writes the rule set, for nft -f: it replaces the one that was there. The
// error says which parameter is missing or wrong.
func Render(w io.Writer, p Params) error {
	if err := p.check(); err != nil {
		return fmt.Errorf("nftables rules: %w", err)
	}
	return parsed.Execute(w, p)
}

// Routes writes the commands that give marked packets to local sockets, which
// TPROXY needs; they may be run again. Nothing without TProxy.
func Routes(w io.Writer, p Params) error {
	if p.TProxy == 0 {
		return nil
	}
	for _, family := range []string{"-4", "-6"} {
		_, err := fmt.Fprintf(w, "ip %[1]s rule del fwmark %#[2]x lookup %[3]d 2>/dev/null || :; ip %[1]s rule add fwmark %#[2]x lookup %[3]d\n"+
			"ip %[1]s route replace local default dev lo table %[3]d\n", family, Mark, Route)
		if err != nil {
			return err
		}
	}
	return nil
}

func (p Params) check() error {
	switch {
	case p.Redirect == 0 && p.TProxy == 0:
		return errors.New("no port to send TCP to (give the port of --redirect or of --tproxy)")
	case p.Host() && p.Redirect == 0:
		return errors.New("TPROXY does not take what a host itself sends over TCP (give the port of --redirect)")
	case p.Host() && p.UID == 0 && p.Cgroup == "":
		return errors.New("nothing tells our own traffic from the host's: it would come back to us for ever (give the user ID or the cgroup of egressaudit; user 0 is everybody)")
	}
	// Another spelling leads there too, but has another level: no packet would match.
	if c := p.CgroupPath(); p.Cgroup != "" && (c == "" || path.Clean("/"+c) != "/"+c) {
		return fmt.Errorf("cgroup %q: write its path as /proc/PID/cgroup has it, below the root, such as system.slice/egressaudit.service", p.Cgroup)
	}
	for _, c := range p.Cgroup {
		if c <= ' ' || c == '"' || c == '\\' || c >= 0x7f {
			return fmt.Errorf("cgroup %q: the path has characters that nft does not take", p.Cgroup)
		}
	}
	for _, r := range append(append([]netip.Prefix(nil), p.Clients...), p.Skip...) {
		if !r.IsValid() {
			return errors.New("a range is not valid (write ADDRESS/BITS)")
		}
	}
	if slices.ContainsFunc(p.Own, func(a netip.Addr) bool { return !a.IsValid() }) {
		return errors.New("an address of our own clients is not valid")
	}
	return nil
}

// Host says that the rules are for this host's own traffic.
func (p Params) Host() bool { return len(p.Clients) == 0 }

// TransparentTCP says that TCP goes to TProxy.
func (p Params) TransparentTCP() bool { return p.Redirect == 0 }

// Way sends packets to a port of ours: those that match, "" for all, to there.
type Way struct{ Match, To string }

// Ways are how a gateway sends packets to a port, by family where they differ.
func (p Params) Ways(port uint16) []Way {
	if len(p.Local) == 0 {
		return []Way{{"", fmt.Sprintf("redirect to :%d", port)}}
	}
	ways := []Way{{"meta nfproto ipv4 ", ""}, {"meta nfproto ipv6 ", ""}}
	for i := range ways {
		ways[i].To = fmt.Sprintf("redirect to :%d", port)
	}
	for _, a := range p.Local {
		to := netip.AddrPortFrom(a, port)
		if a.Is4() {
			ways[0].To = "dnat ip to " + to.String()
		} else {
			ways[1].To = "dnat ip6 to " + to.String()
		}
	}
	return ways
}

// CgroupLevel is the depth of Cgroup, and CgroupPath its form in rules.
func (p Params) CgroupLevel() int { return strings.Count(p.CgroupPath(), "/") + 1 }

// CgroupPath is Cgroup without slashes around it.
func (p Params) CgroupPath() string { return strings.Trim(p.Cgroup, "/") }

// Mark and Table are the constants, for the template.
func (Params) Mark() string { return fmt.Sprintf("%#x", Mark) }

// Table is the name of the table.
func (Params) Table() string { return Table }

// Set is a named set of addresses of one family.
type Set struct {
	Name, Type string
	Elements   []netip.Prefix
}

// Sets are those of the rule set. Ranges that overlap are merged by nft.
func (p Params) Sets() []Set {
	sets := []Set{
		{Name: "clients4", Type: "ipv4_addr"}, {Name: "clients6", Type: "ipv6_addr"},
		{Name: "skip4", Type: "ipv4_addr"}, {Name: "skip6", Type: "ipv6_addr"},
	}
	for i, list := range [][]netip.Prefix{p.Clients, p.Skip} {
		fill(sets[2*i:], list)
	}
	if !p.Host() {
		sets = append(sets, ownSets(p.Own)...)
	}
	return sets
}

// ownSets are those that Loaded.Leave replaces.
func ownSets(own []netip.Addr) []Set {
	sets := []Set{{Name: "own4", Type: "ipv4_addr"}, {Name: "own6", Type: "ipv6_addr"}}
	var list []netip.Prefix
	for _, a := range own {
		a = a.Unmap().WithZone("")
		list = append(list, netip.PrefixFrom(a, a.BitLen()))
	}
	fill(sets, list)
	return sets
}

// fill puts ranges into the first of two sets, those of IPv6 into the second.
func fill(sets []Set, list []netip.Prefix) {
	for _, r := range list {
		r = r.Masked()
		s := &sets[0]
		if r.Addr().Is6() {
			s = &sets[1]
		}
		s.Elements = append(s.Elements, r)
	}
}

// Counter is a named counter of the table. The names that begin with taken_ count
// what comes to us, those with unseen_ what no rule sends to us.
type Counter struct {
	Name           string
	Packets, Bytes uint64
}
