package main

import (
	"context"
	"fmt"
	"math"
	"net"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/egressaudit/egressaudit/dnsaudit"
	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/proxy"
)

// nameFlags are the flags of the name server.
type nameFlags struct {
	address  string
	cache    bool
	stripECH bool
	rate     float64
}

func (n *nameFlags) register(c *cobra.Command) {
	group(c, "The name server", func(f *pflag.FlagSet) {
		f.StringVar(&n.address, "dns", "", "`ADDRESS:PORT` to answer DNS on, UDP and TCP, by asking --resolver (default none)")
		f.BoolVar(&n.cache, "dns-cache", false, "answer from memory while an answer's TTL lasts; such answers are marked")
		f.BoolVar(&n.stripECH, "strip-ech", false, "take ECH keys out of HTTPS and SVCB answers, so that server names stay visible")
		f.Float64Var(&n.rate, "dns-rate", 0, "`NUMBER` of questions a second that one client may ask; 0 is no limit")
	})
}

// nameServer is the forwarder on its sockets; the zero one is none.
type nameServer struct {
	forwarder *dnsaudit.Forwarder
	udp       net.PacketConn
	tcp       net.Listener
	done      chan struct{} // closed when it serves no more
	broken    error         // why; good after done
}

type dnsStats = dnsaudit.Stats

// open binds the sockets, and makes the forwarder; what it learns of addresses
// goes to the proxy.
func (n *nameServer) open(p *path, f nameFlags, config *proxy.Config, sink policy.Sink) (err error) {
	if err = dnsDoor.named(f.address, len(config.Clients) > 0); err != nil {
		return err
	}
	if !(f.rate >= 0 && f.rate <= math.MaxInt32) { // nor NaN
		return fmt.Errorf("--dns-rate %v: write a number above zero, or leave it out for no limit", f.rate)
	}
	servers, err := p.servers("")
	if err == nil {
		err = n.prepare(p, f, servers, config, sink)
	}
	if err != nil {
		return err
	}
	if n.udp, n.tcp, err = dnsDoor.both(f.address); err != nil {
		return err
	}
	config.Own = append(config.Own, bound(n.tcp.Addr()))
	if err = n.forwarder.Refuses(n.tcp.Addr()); err != nil {
		err = hinted(err, "name the server that knows the answers: --resolver ADDR")
	}
	return err
}

// prepare makes the forwarder, without sockets.
func (n *nameServer) prepare(p *path, f nameFlags, servers []dnsaudit.Upstream, config *proxy.Config, sink policy.Sink) (err error) {
	memory := dnsaudit.NewMemory(0)
	if n.forwarder, err = dnsaudit.NewForwarder(dnsaudit.ForwarderConfig{
		Upstreams: servers, Sink: sink, Clients: config.Clients, Allowed: config.Allowed, BlockPages: config.BlockPages, Timeout: p.dnsWait,
		Cache: f.cache, StripECH: f.stripECH, Rate: f.rate, Connections: connections(openFiles()), Memory: memory, Roots: config.Roots, Canary: config.Canary,
	}); err != nil {
		return fmt.Errorf("--dns: %w", err)
	}
	config.Memory = memory
	return nil
}

// connections are how many the name server may have by TCP, so that they do not take
// the descriptors of tunnels.
func connections(openFiles uint64) int { return int(min(max(openFiles/16, 16), 1024)) }

// idle refuses flags that say how to answer where nothing is to answer.
func (f *nameFlags) idle() error {
	switch {
	case f.address != "":
	case f.cache:
		return dnsDoor.missing("--dns-cache")
	case f.stripECH:
		return dnsDoor.missing("--strip-ech")
	case f.rate != 0:
		return dnsDoor.missing("--dns-rate")
	}
	return nil
}

// shut closes sockets that nobody serves.
func (n *nameServer) shut() {
	if n.udp != nil {
		n.udp.Close()
		n.tcp.Close()
	}
}

func (n *nameServer) serve() {
	if n.udp == nil {
		return
	}
	n.done = make(chan struct{})
	go func() {
		defer close(n.done)
		n.broken = n.forwarder.Serve(n.udp, n.tcp)
	}()
}

// stop answers what was asked, and returns why the server had ended before.
func (n *nameServer) stop(drain context.Context) error {
	if n.done == nil {
		return nil
	}
	n.forwarder.Shutdown(drain)
	<-n.done
	return n.broken
}

// loopTime is how long the upstreams may take to show that they ask us again.
const loopTime = 5 * time.Second

// loops refuses an upstream that asks us again.
func (n *nameServer) loops() error {
	if n.forwarder == nil || n.done == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), loopTime)
	defer cancel()
	if err := n.forwarder.Loop(ctx); err != nil {
		return hinted(fmt.Errorf("--%w", err), "every question would go round for ever: name a server that does not, --resolver ADDR")
	}
	return nil
}

// doors are the ways to ask.
func (n *nameServer) doors() []dnsaudit.Upstream {
	if n.udp == nil {
		return nil
	}
	return []dnsaudit.Upstream{
		{Addr: bound(n.udp.LocalAddr()), Transport: "udp"},
		{Addr: bound(n.tcp.Addr()), Transport: "tcp"},
	}
}

// listeners are the doors as the ledger has them.
func (n *nameServer) listeners() []string {
	var out []string
	for _, d := range n.doors() {
		out = append(out, "dns "+d.Addr.String()+"/"+d.Transport)
	}
	return out
}

// servers are those of --resolver, or else of resolv.conf, "" being the system's.
func (p *path) servers(conf string) ([]dnsaudit.Upstream, error) {
	if p.resolver == "" {
		return dnsaudit.SystemServers(conf)
	}
	servers, err := dnsaudit.ParseUpstreams(p.resolver)
	if err != nil {
		return nil, fmt.Errorf("--%w", err) // it begins with: resolver "ADDR"
	}
	return servers, nil
}
