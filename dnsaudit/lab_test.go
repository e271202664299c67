package dnsaudit

import (
	"context"
	"net"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
)

// script answers one question as a name server of the test does.
type script func(w dns.ResponseWriter, q *dns.Msg)

// server runs s on one port of 127.0.0.1, UDP and TCP, until the test ends.
func server(t testing.TB, s script) netip.AddrPort {
	t.Helper()
	udp, tcp := listen(t)
	for _, srv := range []*dns.Server{{PacketConn: udp}, {Listener: tcp}} {
		srv.Handler = dns.HandlerFunc(s)
		up := make(chan struct{})
		srv.NotifyStartedFunc = func() { close(up) }
		done := make(chan error, 1)
		go func() { done <- srv.ActivateAndServe() }()
		<-up
		t.Cleanup(func() {
			ctx, cancel := context.WithCancel(context.Background())
			cancel() // handlers that wait for the end of the test do not hold it up
			_ = srv.ShutdownContext(ctx)
			<-done
		})
	}
	return udp.LocalAddr().(*net.UDPAddr).AddrPort()
}

// listen finds a port that is free for both.
func listen(t testing.TB) (net.PacketConn, net.Listener) {
	for range 100 {
		udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
		require.NoError(t, err)
		tcp, err := net.Listen("tcp4", udp.LocalAddr().String())
		if err == nil {
			return udp, tcp
		}
		udp.Close()
	}
	t.Fatal("no port is free for UDP and TCP")
	return nil, nil
}

// closedPort is an address where nobody listens, and nobody can while the test
// runs: its socket takes packets from one other peer only.
func closedPort(t testing.TB) netip.AddrPort {
	held, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2), Port: 9})
	require.NoError(t, err)
	t.Cleanup(func() { held.Close() })
	return held.LocalAddr().(*net.UDPAddr).AddrPort()
}

// record reads one line of a zone file.
func record(text string) dns.RR {
	rr, err := dns.NewRR(text)
	if err != nil {
		panic(err)
	}
	return rr
}

// answered is the reply to q with these records in the answer section.
func answered(q *dns.Msg, rcode int, records ...string) *dns.Msg {
	m := new(dns.Msg).SetRcode(q, rcode)
	m.RecursionAvailable = true
	for _, text := range records {
		m.Answer = append(m.Answer, record(text))
	}
	return m
}

func write(w dns.ResponseWriter, m *dns.Msg) { _ = w.WriteMsg(m) }

// silence is a script that never answers.
func silence(dns.ResponseWriter, *dns.Msg) {}

// says is a script of rcode alone.
func says(rcode int) script {
	return func(w dns.ResponseWriter, q *dns.Msg) { write(w, answered(q, rcode)) }
}

// families is a script for each family.
func families(a, aaaa script) script {
	return func(w dns.ResponseWriter, q *dns.Msg) {
		if q.Question[0].Qtype == dns.TypeAAAA {
			aaaa(w, q)
			return
		}
		a(w, q)
	}
}

// zone answers with records whatever is asked, all of them of the right type.
func zone(a, aaaa []string) script {
	with := func(records []string) script {
		return func(w dns.ResponseWriter, q *dns.Msg) { write(w, answered(q, dns.RcodeSuccess, records...)) }
	}
	return families(with(a), with(aaaa))
}

// one answers A with one address and AAAA with none.
func one(addr string) script { return zone([]string{"a.example. 60 A " + addr}, nil) }

// resolver asks servers, on a host with an IPv4 route alone and no hosts file.
func resolver(t testing.TB, timeout time.Duration, servers ...netip.AddrPort) *Resolver {
	t.Helper()
	r, err := New(Config{Servers: overUDP(servers...), Hosts: filepath.Join(t.TempDir(), "none"), Timeout: timeout})
	require.NoError(t, err)
	r.routes = fixedRoutes(true, false)
	return r
}

func fixedRoutes(v4, v6 bool) *routes {
	return &routes{now: time.Now, probe: func(network, _ string) bool { return network == "udp4" && v4 || network == "udp6" && v6 }}
}

func resolve(t testing.TB, r *Resolver) policy.Resolution {
	t.Helper()
	return r.Resolve(t.Context(), policy.MustName("a.example"))
}

func addrs(list ...string) []netip.Addr {
	var as []netip.Addr
	for _, s := range list {
		as = append(as, netip.MustParseAddr(s))
	}
	return as
}
