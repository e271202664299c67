package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/egressaudit/egressaudit/deploy/nftables"
	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/proxy"
	"github.com/egressaudit/egressaudit/proxy/capture"
)

// captureFlags are the flags of the transparent listeners.
type captureFlags struct {
	redirect   string
	tproxy     string
	keepClient bool
	quic       string
	nftables   bool
	skip       []string
}

func (f *captureFlags) register(c *cobra.Command) {
	group(c, "Transparent capture (Linux)", func(s *pflag.FlagSet) {
		s.StringVar(&f.redirect, "redirect", "", "`ADDRESS:PORT` that REDIRECT rules send TCP to (default none)")
		s.StringVar(&f.tproxy, "tproxy", "", "`ADDRESS:PORT` that TPROXY rules send TCP and UDP 443 to (default none)")
		s.BoolVar(&f.keepClient, "keep-client-address", false, "destinations see the client's address of what came by TPROXY; the answers must come back through here")
		s.StringVar(&f.quic, "quic", "", "UDP 443 on --tproxy: `WORD` is forward, or refuse so that clients turn to TCP (default forward, with --mode enforce refuse)")
		s.BoolVar(&f.nftables, "nftables", false, "load the rules that send here what --clients send through this host, until the end (CAP_NET_ADMIN, Linux 5.12)")
		s.StringArrayVar(&f.skip, "nftables-skip", nil, "`CIDR` that those rules leave alone, beside --clients: services, nodes; repeatable (default none)")
	})
	c.RegisterFlagCompletionFunc("quic", fixed("forward", "refuse"))
}

var (
	redirectDoor = door{"--redirect", "be carried by it", "127.0.0.1:3129"}
	tproxyDoor   = door{"--tproxy", "be carried by it", "127.0.0.1:3130"}
)

// captures are the transparent listeners in use.
type captures struct {
	redirect net.Listener
	tproxy   net.Listener
	flows    *capture.PacketConn
	relay    *capture.Relay
	limits   capture.Limits
	rules    *nftables.Params // to load; nil for none
	loaded   *nftables.Loaded
	own      *ownPods         // that the rules leave alone; nil for none
	before   map[string]int64 // the firewall's counters at the start
	done     chan struct{}    // closed when one of them ended by itself
	broken   error            // why; good after done
}

// open binds what f names.
func (k *captures) open(f captureFlags, config *proxy.Config) (err error) {
	switch f.quic {
	case "", "forward", "refuse":
	default:
		return fmt.Errorf("--quic %q: write forward or refuse", f.quic)
	}
	switch {
	case f.nftables && f.redirect == "" && f.tproxy == "":
		return redirectDoor.missing("--nftables")
	case !f.nftables && len(f.skip) > 0:
		return errors.New("--nftables-skip: it does nothing without --nftables (add it, or leave this out)")
	case f.tproxy != "":
	case f.quic != "":
		return tproxyDoor.missing("--quic")
	case f.keepClient:
		return tproxyDoor.missing("--keep-client-address")
	}
	k.limits = flowLimits(config)
	config.KeepClient = f.keepClient
	config.RefuseQUIC = f.quic == "refuse" || f.quic == "" && config.Enforce
	if f.redirect != "" {
		if err = redirectDoor.named(f.redirect, len(config.Clients) > 0); err == nil {
			k.redirect, err = redirectDoor.tcp(f.redirect)
		}
		if err != nil {
			return err
		}
	}
	if f.tproxy == "" {
		return nil
	}
	if err = tproxyDoor.named(f.tproxy, len(config.Clients) > 0); err != nil {
		return err
	}
	tcp, err := capture.ListenTransparent(context.Background(), f.tproxy)
	if err != nil {
		return tproxyDoor.refused(f.tproxy, err)
	}
	k.tproxy = &listener{TCPListener: tcp}
	if k.flows, err = capture.ListenPacket(context.Background(), tcp.Addr().String()); err != nil {
		return tproxyDoor.refused(f.tproxy, err)
	}
	return nil
}

// flowHold is how long the first datagrams of a flow are held where the name in
// them decides: longer than a client waits before it sends them again (RFC 9002
// section 6.2.2).
const flowHold = 1500 * time.Millisecond

// flowLimits are the relay's: a flow has two descriptors, a tunnel up to six.
func flowLimits(config *proxy.Config) capture.Limits {
	l := capture.DefaultLimits()
	l.Answer = config.Limits.AnswerTimeout
	l.Flows = max(min(l.Flows, config.Limits.Tunnels), 1)
	l.Client = max(min(l.Flows, config.Limits.ClientTunnels), 1)
	if config.Enforce {
		l.Hold = flowHold
	}
	return l
}

// shut closes what nobody serves yet.
func (k *captures) shut() {
	if k.redirect != nil {
		k.redirect.Close()
	}
	if k.tproxy != nil {
		k.tproxy.Close()
	}
	if k.flows != nil {
		k.flows.Close()
	}
}

// serve begins to take connections and flows.
func (k *captures) serve(t *trial, keepClient bool) {
	if k.listens() {
		k.before = unseenPackets()
	}
	k.done = make(chan struct{})
	ended := make(chan error, 3)
	begun := 0
	run := func(serve func() error) {
		begun++
		go func() { ended <- serve() }()
	}
	if k.redirect != nil {
		run(func() error { return t.proxy.ServeCaptured(k.redirect, "redirect", capture.OriginalDestination) })
	}
	if k.tproxy != nil {
		at := k.tproxy.Addr()
		run(func() error { return t.proxy.ServeCaptured(k.tproxy, "tproxy", transparent(at)) })
		canary, _ := policy.ParseName(t.session.Canary) // always a name
		k.relay = capture.NewRelay(capture.Config{Judge: t.proxy.JudgeFlow, Sink: t.sink, KeepClient: keepClient, Canary: canary, Limits: k.limits})
		run(func() error { return k.relay.Serve(k.flows) })
	}
	if begun == 0 {
		k.done = nil
		return
	}
	go func() {
		defer close(k.done)
		for range begun {
			if err := <-ended; err != nil {
				k.broken = err
				return
			}
		}
	}()
}

// transparent says where what came by TPROXY was going.
func transparent(listener net.Addr) proxy.Origin {
	return func(c *net.TCPConn) (netip.AddrPort, error) { return capture.TransparentDestination(c, listener) }
}

// stop ends the flows; the proxy ends the connections. The error is why one of the
// listeners had ended before.
func (k *captures) stop(drain context.Context) error {
	if k.relay != nil {
		k.relay.Shutdown(drain)
	}
	if k.done == nil {
		return nil
	}
	<-k.done
	return k.broken
}

// listeners are the doors as the ledger has them.
func (k *captures) listeners() []string {
	var out []string
	for _, d := range k.doors() {
		out = append(out, d.String())
	}
	return out
}

// captureDoor is a transparent listener: for TCP, or where it says so for UDP.
type captureDoor struct {
	kind string
	at   net.Addr
	udp  bool
}

func (d captureDoor) String() string {
	if d.udp {
		return d.kind + " " + d.at.String() + "/udp"
	}
	return d.kind + " " + d.at.String()
}

func (k *captures) doors() []captureDoor {
	var out []captureDoor
	if k.redirect != nil {
		out = append(out, captureDoor{kind: "redirect", at: k.redirect.Addr()})
	}
	if k.tproxy != nil {
		out = append(out, captureDoor{kind: "tproxy", at: k.tproxy.Addr()}, captureDoor{kind: "tproxy", at: k.flows.Addr(), udp: true})
	}
	return out
}

// singCaptured says the canary's name to a transparent listener, which nobody
// redirected: it is refused.
func (t *trial) singCaptured(d captureDoor) error {
	if d.udp {
		return t.singFlow(d)
	}
	c, err := t.dial("tcp", bound(d.at))
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(singTime))
	says := tls.Client(c, &tls.Config{ServerName: t.session.Canary, MinVersion: tls.VersionTLS12})
	if says.Handshake() == nil {
		return errors.New("somebody answered")
	}
	_, _ = bufio.NewReader(c).ReadByte() // its end
	return t.heard(d.kind)
}

// singFlow does so by QUIC.
func (t *trial) singFlow(d captureDoor) error {
	name, err := policy.ParseName(t.session.Canary)
	if err != nil {
		return err
	}
	says, err := capture.Canary(name)
	if err != nil {
		return err
	}
	c, err := net.Dial("udp", dialable(bound(d.at)).String())
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write(says); err != nil {
		return err
	}
	return t.heard(d.kind + "/udp")
}

// listens says whether anything is captured.
func (k *captures) listens() bool { return k.redirect != nil || k.tproxy != nil }
