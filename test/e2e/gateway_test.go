//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/policy/report"
	"github.com/egressaudit/egressaudit/test/lab/netns"
	"github.com/egressaudit/egressaudit/test/suite"
)

// gatewayPrograms are what every test with a gateway needs.
var gatewayPrograms = []string{"ip", "nft", "iptables", "nsenter", "unshare", "sysctl"}

// gateway is a network of namespaces whose clients know of no proxy:
//
//	client, ... ── gateway (egressaudit serve) ── firewall ── internet
//
// The servers of its internet are mostly this process's own sockets, opened there.
type gateway struct {
	*world
	family  int // of the internet's addresses: 4 or 6
	net     *netns.Net
	clients []*netns.Space
	gate    *netns.Space
	wall    *netns.Space
	inet    *netns.Space
	names   map[string]netip.Addr // what the internet's name server knows
	serve   *process
	ledger  string
}

// The addresses on the clients' side of the gateway, and of the internet's name
// server.
const (
	gateAddr = "10.8.0.1"
	rootAddr = "192.0.2.53"
)

// newGateway builds the network, with so many clients and these names on the
// internet.
func newGateway(t *testing.T, family, clients int, names ...string) *gateway {
	t.Helper()
	swept.Do(func() { require.NoError(t, netns.Sweep(spaces)) })
	w := &world{dir: t.TempDir(), meters: map[string]*meter{}}
	w.authority = newAuthority(t, "Public")
	w.ca = w.write(t, "ca.pem", string(w.authority.pem))
	require.NoError(t, os.Chmod(w.dir, 0o755))
	g := &gateway{world: w, family: family, net: netns.New(spaces, label(t)), names: map[string]netip.Addr{}}
	t.Cleanup(func() { require.NoError(t, g.net.Close()) })
	for i, n := range names {
		g.names[n] = g.internet(i + 1)
	}
	require.NoError(t, g.cables(clients))
	g.answerNames(t)
	w.write(t, "resolv.conf", "nameserver "+gateAddr+"\noptions timeout:5 attempts:1\n")
	return g
}

// spaces begins the names of the namespaces; those of a killed run are removed
// once.
const spaces = "eae2e"

var swept sync.Once

// label tells the networks of one process apart.
func label(t *testing.T) string {
	return strings.ToLower(strings.Map(func(r rune) rune {
		if r == '/' || r == '_' || r == ' ' {
			return -1
		}
		return r
	}, strings.TrimPrefix(t.Name(), "Test")))
}

// internet is the address of a site.
func (g *gateway) internet(n int) netip.Addr {
	if g.family == 6 {
		return netip.MustParseAddr(fmt.Sprintf("2001:db8:1::%x", n))
	}
	return netip.AddrFrom4([4]byte{198, 18, 0, byte(n)})
}

// client is the address of a client, counted from 0.
func (g *gateway) client(n int) netip.Addr {
	if g.family == 6 {
		return netip.MustParseAddr(fmt.Sprintf("fd08:%x::2", n+16))
	}
	return netip.AddrFrom4([4]byte{10, 8, byte(n + 16), 2})
}

func (g *gateway) cables(clients int) error {
	var err error
	for _, s := range []struct {
		to   **netns.Space
		name string
	}{{&g.gate, "gate"}, {&g.wall, "wall"}, {&g.inet, "inet"}} {
		if *s.to, err = g.net.Add(s.name); err != nil {
			return err
		}
	}
	for i := range clients {
		c, err := g.net.Add(fmt.Sprint("client", i))
		if err != nil {
			return err
		}
		g.clients = append(g.clients, c)
		at, ours := fmt.Sprintf("10.8.%d.", i+16), fmt.Sprintf("fd08:%x::", i+16)
		if err := errors.Join(
			g.net.Link(c, at+"2/24 "+ours+"2/64", g.gate, at+"1/24 "+ours+"1/64"),
			c.Route("default", at+"1"), c.Route("default", ours+"1"),
		); err != nil {
			return err
		}
	}
	return errors.Join(
		g.net.Link(g.gate, "10.8.1.2/24 fd08:1::2/64", g.wall, "10.8.1.1/24 fd08:1::1/64"),
		g.net.Link(g.wall, "192.0.2.1/24 fd08:2::1/64", g.inet, rootAddr+"/24 fd08:2::2/64"),
		g.gate.Run("ip", "addr", "add", gateAddr+"/32", "dev", "lo"),
		g.gate.Route("default", "10.8.1.1"), g.gate.Route("default", "fd08:1::1"),
		g.wall.Router(), g.wall.Route("default", rootAddr), g.wall.Route("default", "fd08:2::2"),
		g.wall.Route("10.8.0.0/16", "10.8.1.2"), g.wall.Route("fd08::/16", "fd08:1::2"),
		g.inet.Route("10.8.0.0/16", "192.0.2.1"), g.inet.Route("fd08::/16", "fd08:2::1"),
		g.inet.Own("198.18.0.0/15"), g.inet.Own("2001:db8:1::/64"), g.inet.Run("sysctl", "-qw", "net.ipv6.ip_nonlocal_bind=1"),
	)
}

// rules send all TCP that the clients send beyond the gateway to egressaudit's
// listeners there, and forward nothing.
func (g *gateway) rules(way string) error {
	hook := "type nat hook prerouting priority dstnat;"
	to := map[string]string{"ipv4": "redirect to :3129", "ipv6": "redirect to :3129"}
	if way == "tproxy" {
		hook = "type filter hook prerouting priority mangle;"
		to = map[string]string{"ipv4": "tproxy ip to :3130 meta mark set 1 accept", "ipv6": "tproxy ip6 to :3130 meta mark set 1 accept"}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "table inet capture {\n  chain prerouting {\n    %s\n    fib daddr type local accept;\n", hook)
	for i := range g.clients {
		fmt.Fprintf(&b, "    ip saddr %s meta l4proto tcp %s;\n", fmt.Sprintf("10.8.%d.2", i+16), to["ipv4"])
		fmt.Fprintf(&b, "    ip6 saddr %s meta l4proto tcp %s;\n", fmt.Sprintf("fd08:%x::2", i+16), to["ipv6"])
	}
	b.WriteString("  }\n}\n")
	mine := func(family string) error {
		return errors.Join(g.gate.Run("ip", family, "rule", "add", "fwmark", "1", "lookup", "100"),
			g.gate.Run("ip", family, "route", "add", "local", "default", "dev", "lo", "table", "100"))
	}
	return errors.Join(g.gate.Nft(b.String()), mine("-4"), mine("-6"))
}

// answerNames is the internet's name server.
func (g *gateway) answerNames(t *testing.T) {
	var pc net.PacketConn
	require.NoError(t, g.inet.Do(func() (err error) {
		pc, err = net.ListenPacket("udp", rootAddr+":53")
		return err
	}))
	s := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(g.answer)}
	done, ready := make(chan error, 1), make(chan struct{})
	s.NotifyStartedFunc = func() { close(ready) }
	go func() { done <- s.ActivateAndServe() }()
	<-ready
	t.Cleanup(func() {
		s.Shutdown()
		<-done
	})
}

func (g *gateway) answer(rw dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg).SetReply(q)
	name := q.Question[0].Name
	a, known := g.names[strings.ToLower(strings.TrimSuffix(name, "."))]
	header := dns.RR_Header{Name: name, Rrtype: q.Question[0].Qtype, Class: dns.ClassINET, Ttl: 60}
	switch {
	case !known:
		m.Rcode = dns.RcodeNameError
	case q.Question[0].Qtype == dns.TypeA && a.Is4():
		m.Answer = []dns.RR{&dns.A{Hdr: header, A: a.AsSlice()}}
	case q.Question[0].Qtype == dns.TypeAAAA && a.Is6():
		m.Answer = []dns.RR{&dns.AAAA{Hdr: header, AAAA: a.AsSlice()}}
	}
	rw.WriteMsg(m)
}

// listen is a counting listener at a site of the internet.
func (g *gateway) listen(t *testing.T, name string, port uint16) *meter {
	t.Helper()
	at := netip.AddrPortFrom(g.names[name], port).String()
	var l net.Listener
	require.NoError(t, g.inet.Do(func() (err error) {
		l, err = net.Listen("tcp", at)
		return err
	}))
	m := meterOn(t, l)
	g.meters[at] = m
	return m
}

// web serves pages over TLS, or plainly, at a site.
func (g *gateway) web(t *testing.T, l net.Listener, pages http.Handler) {
	s := &http.Server{Handler: pages, ErrorLog: log.New(io.Discard, "", 0)}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Close()
		<-done
	})
}

// start starts egressaudit in the gateway, with everything it listens on.
func (g *gateway) start(t *testing.T, flags ...string) {
	t.Helper()
	g.begin(t, append([]string{"--redirect", "[::]:3129", "--tproxy", "[::]:3130", "--dns", gateAddr + ":53"}, flags...)...)
}

// begin starts egressaudit in the gateway, with its proxy and what flags say.
func (g *gateway) begin(t *testing.T, flags ...string) {
	t.Helper()
	g.ledger = filepath.Join(g.dir, "gateway.jsonl")
	args := []string{
		suite.Program(t), "serve", "--proxy", gateAddr + ":3128", "--clients", "10.8.0.0/16", "--clients", "fd08::/16", "--resolver", rootAddr, "--trust", g.ca, "--ledger", g.ledger, "--drain", "2s",
	}
	g.serve = g.command(t, nil, append(inside(g.gate, args), flags...)...).start()
	g.serve.says(&g.serve.stderr, "listening")
}

// stop ends egressaudit, and returns what clients did, without their look-ups.
func (g *gateway) stop(t *testing.T) []*policy.Record {
	t.Helper()
	g.serve.signal(syscall.SIGTERM)
	require.Zero(t, g.serve.wait(), g.serve.stderr.String())
	var out []*policy.Record
	for _, r := range closing(readLedger(t, g.ledger)) {
		if r.Kind != policy.KindQuery {
			out = append(out, r)
		}
	}
	return out
}

// judge makes the report of the ledger as far as it is written, against a catalog;
// status is the exit status.
func (g *gateway) judge(t *testing.T, catalog string) (r *report.Report, status int) {
	t.Helper()
	file := filepath.Join(g.dir, "report.json")
	p := g.command(t, nil, suite.Program(t), "report", "--format", "json", "-o", file, "--catalog", catalog, g.ledger).start()
	status = p.wait()
	require.NotEqual(t, 2, status, p.stderr.String())
	return readReport(t, file), status
}

// inside has a command run in a namespace.
func inside(s *netns.Space, args []string) []string {
	return append([]string{"nsenter", "--net=/run/netns/" + s.Name}, args...)
}

// at prepares a command of a client, which asks the gateway's name server.
func (g *gateway) at(t *testing.T, client int, env []string, args ...string) *process {
	t.Helper()
	const own = `mount --bind "$0" /etc/resolv.conf && exec "$@"`
	all := append([]string{"unshare", "-m", "sh", "-c", own, filepath.Join(g.dir, "resolv.conf")}, args...)
	return g.command(t, env, inside(g.clients[client], all)...)
}

// succeeds runs a command of a client to its good end.
func (p *process) succeeds() *process {
	p.t.Helper()
	require.Zero(p.t, p.start().wait(), "%v\n%s%s", p.cmd.Args, p.stdout.String(), p.stderr.String())
	return p
}
