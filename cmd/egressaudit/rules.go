package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/egressaudit/egressaudit/deploy/nftables"
)

// plan fills in the rules of --nftables: what clients send through this host comes
// to those of our listeners that there are.
func (t *trial) plan(f captureFlags, clients []netip.Prefix) error {
	if !f.nftables {
		return nil
	}
	if len(clients) == 0 {
		return errors.New("--nftables: say whose traffic to take: --clients CIDR, such as the range of the pods")
	}
	skip, err := prefixes("nftables-skip", f.skip)
	if err != nil {
		return err
	}
	p := &nftables.Params{Clients: clients, Skip: slices.Concat(clients, skip), Local: waysOut()}
	for _, d := range []struct {
		port *uint16
		at   net.Addr
	}{{&p.Redirect, addr(t.captures.redirect)}, {&p.TProxy, addr(t.captures.tproxy)}, {&p.DNS, addr(t.names.tcp)}} {
		if d.at == nil {
			continue
		}
		at := bound(d.at)
		if err := everywhere(at); err != nil {
			return err
		}
		*d.port = at.Port()
	}
	t.captures.rules = p
	return nil
}

// waysOut are the addresses by which this host goes out, one of a family at most: what
// is redirected is sent to these, for interfaces of pods may have none. Nothing is
// sent to learn them.
func waysOut() (out []netip.Addr) {
	for _, far := range []string{"192.0.2.1:9", "[2001:db8::1]:9"} {
		c, err := net.Dial("udp", far)
		if err != nil {
			continue // no way out by this family
		}
		if a := bound(c.LocalAddr()).Addr(); a.IsGlobalUnicast() {
			out = append(out, a)
		}
		c.Close()
	}
	return out
}

// addr is where l listens, nil for none.
func addr(l net.Listener) net.Addr {
	if l == nil {
		return nil
	}
	return l.Addr()
}

// everywhere refuses an address at which not all packets would find us.
func everywhere(at netip.AddrPort) error {
	if at.Addr().IsUnspecified() {
		return nil
	}
	return fmt.Errorf("--nftables: what the rules send to %s would find nobody there (listen on every address: [::]:%d)", at, at.Port())
}

// lead sends traffic here, as planned.
func (k *captures) lead() (err error) {
	if k.rules == nil {
		return nil
	}
	if k.loaded, err = k.own.load(*k.rules); err != nil {
		return fmt.Errorf("--nftables: %w", err)
	}
	k.before = unseenPackets()
	return nil
}

// pass lets what is new go its ordinary way.
func (k *captures) pass() error {
	if k.loaded == nil {
		return nil
	}
	return k.loaded.Pass()
}

// release takes the rules away, when nothing comes by them any more.
func (k *captures) release() error {
	if k.loaded == nil {
		return nil
	}
	return k.loaded.Close()
}

// unseenPackets are the packets that no rule of ours sent to us, by kind; nil where
// no rules are loaded here, or they are not ours to read.
func unseenPackets() map[string]int64 {
	counters, err := nftables.Counters()
	if err != nil {
		return nil
	}
	out := map[string]int64{}
	for _, c := range counters {
		if kind, ok := strings.CutPrefix(c.Name, "unseen_"); ok {
			out[kind] = int64(c.Packets)
		}
	}
	return out
}

// unseen says what went by since the start that no rule sends to us.
func (k *captures) unseen() (spots []string) {
	if !k.listens() {
		return nil
	}
	now := unseenPackets()
	for _, c := range []struct{ kind, of string }{{"tcp", "TCP"}, {"udp", "UDP other than DNS and QUIC"}, {"other", "other protocols"}} {
		if n := now[c.kind] - k.before[c.kind]; n > 0 {
			spots = append(spots, fmt.Sprintf("packets of %s went by that no rule of the firewall sends to us: %d", c.of, n))
		}
	}
	return spots
}
