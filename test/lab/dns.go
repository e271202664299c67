package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/miekg/dns"
)

// Answer is what DNS says of a name, and what listens there. The zero Answer is
// the name's own loopback address, with a Site behind it.
//
// Through the parent an Answer with a Then is that; one that gives no address,
// or only others, is the 503 that squid gives for it.
type Answer struct {
	Rcode    int          // a dns.Rcode; 0 is NOERROR
	Addrs    []netip.Addr // instead of the name's own
	CNAMEs   []string     // the chain from the name to the last, which has the addresses
	NoData   bool         // NOERROR without addresses
	Silent   bool         // no answer
	Truncate bool         // over UDP only the TC flag
	Delay    time.Duration
	AAAA     *Answer   // for AAAA questions; nil: the same
	Then     Behaviour // on the name's own address; nil is Site{}
}

// Answers without an address.
var (
	NXDOMAIN   = Answer{Rcode: dns.RcodeNameError}
	SERVFAIL   = Answer{Rcode: dns.RcodeServerFailure}
	REFUSED    = Answer{Rcode: dns.RcodeRefused}
	NODATA     = Answer{NoData: true}
	DNSSilence = Answer{Silent: true}
)

// Resolves answers with these addresses: a sinkhole ("0.0.0.0", "::"), a
// private one, one of both families. It panics on anything else.
func Resolves(addrs ...string) Answer {
	var a Answer
	for _, s := range addrs {
		a.Addrs = append(a.Addrs, netip.MustParseAddr(s))
	}
	return a
}

// own tells whether the name has its own address.
func (a Answer) own() bool {
	return a.Rcode == 0 && len(a.Addrs) == 0 && !a.NoData && !a.Silent
}

func (a Answer) then() Behaviour {
	if a.Then != nil {
		return a.Then
	}
	return Site{}
}

func (a Answer) serve(c *conn) { a.then().serve(c) }

// nameServer answers on one port of 127.0.0.1, over UDP and TCP.
type nameServer struct {
	world    *World
	addr     netip.AddrPort
	udp, tcp *dns.Server
}

func (w *World) serveDNS() (*nameServer, error) {
	s := &nameServer{world: w}
	pc, l, err := listenBoth()
	if err != nil {
		return nil, fmt.Errorf("listen for DNS: %w", err)
	}
	s.addr = l.Addr().(*net.TCPAddr).AddrPort()
	s.udp = &dns.Server{PacketConn: pc, Handler: s}
	s.tcp = &dns.Server{Listener: l, Handler: s}
	for _, server := range []*dns.Server{s.udp, s.tcp} {
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		w.running.Go(func() { server.ActivateAndServe() })
		<-started
	}
	return s, nil
}

// listenBoth finds a port that is free for UDP and TCP.
func listenBoth() (net.PacketConn, net.Listener, error) {
	var errs []error
	for range 20 {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			return nil, nil, err
		}
		pc, err := net.ListenPacket("udp4", l.Addr().String())
		if err == nil {
			return pc, l, nil
		}
		l.Close()
		errs = append(errs, err)
	}
	return nil, nil, errors.Join(errs...)
}

func (s *nameServer) close() {
	s.udp.Shutdown()
	s.tcp.Shutdown()
}

// ServeDNS answers one question.
func (s *nameServer) ServeDNS(rw dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg).SetReply(q)
	m.RecursionAvailable = true
	if len(q.Question) != 1 {
		m.Rcode = dns.RcodeFormatError
		rw.WriteMsg(m)
		return
	}
	name, kind := normal(q.Question[0].Name), q.Question[0].Qtype
	network := rw.LocalAddr().Network()
	s.world.note(Sighting{Door: DoorDNS, Method: dns.TypeToString[kind], Target: name, Network: network})
	a := s.world.answer(name)
	if kind == dns.TypeAAAA && a.AAAA != nil {
		a = *a.AAAA
	}
	if a.Silent || !s.world.wait(a.Delay) {
		return
	}
	if a.Truncate && network == "udp" {
		m.Truncated = true
	} else {
		s.fill(m, name, kind, a)
	}
	rw.WriteMsg(m)
}

// fill puts the records of a into m.
func (s *nameServer) fill(m *dns.Msg, name string, kind uint16, a Answer) {
	m.Rcode = a.Rcode
	owner := m.Question[0].Name
	for _, c := range a.CNAMEs {
		m.Answer = append(m.Answer, &dns.CNAME{Hdr: header(owner, dns.TypeCNAME), Target: dns.Fqdn(c)})
		owner = dns.Fqdn(c)
	}
	addrs := a.Addrs
	if a.own() && kind == dns.TypeA {
		own, err := s.world.home(name)
		if err != nil {
			m.Rcode = dns.RcodeServerFailure
			return
		}
		addrs = []netip.Addr{own}
	}
	none := true
	for _, addr := range addrs {
		switch {
		case kind == dns.TypeA && addr.Is4():
			m.Answer = append(m.Answer, &dns.A{Hdr: header(owner, kind), A: addr.AsSlice()})
		case kind == dns.TypeAAAA && addr.Is6():
			m.Answer = append(m.Answer, &dns.AAAA{Hdr: header(owner, kind), AAAA: addr.AsSlice()})
		default:
			continue
		}
		none = false
	}
	if none && (a.Rcode == dns.RcodeSuccess || a.Rcode == dns.RcodeNameError) {
		m.Ns = []dns.RR{&dns.SOA{Hdr: header("lab.invalid.", dns.TypeSOA), Ns: "ns.lab.invalid.", Mbox: "lab.invalid.", Minttl: 1}}
	}
}

func header(name string, kind uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: kind, Class: dns.ClassINET, Ttl: 1}
}
