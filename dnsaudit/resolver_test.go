package dnsaudit

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/netip"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
)

// ample is a limit that no test reaches: one that waits for it has failed.
const ample = time.Minute

// short is a limit for the tests that must reach it.
const short = 300 * time.Millisecond

func TestResolveOneServer(t *testing.T) {
	loop := []string{"a.example. 60 CNAME b.example.", "b.example. 60 CNAME a.example.", "a.example. 60 A 192.0.2.66", "b.example. 60 A 192.0.2.66"}
	tests := []struct {
		name   string
		script script
		want   policy.Resolution // without Upstream; # in Detail stands for the server
	}{
		{"both families, IPv4 first without an IPv6 route",
			zone([]string{"a.example. 60 A 192.0.2.2", "a.example. 60 A 192.0.2.1"}, []string{"a.example. 60 AAAA 2001:db8::1"}),
			policy.Resolution{RCode: "NOERROR", Addrs: addrs("192.0.2.2", "192.0.2.1", "2001:db8::1")}},
		{"only A exists", one("192.0.2.1"),
			policy.Resolution{RCode: "NOERROR", Addrs: addrs("192.0.2.1")}},
		{"only AAAA exists", zone(nil, []string{"a.example. 60 AAAA 2001:db8::1"}),
			policy.Resolution{RCode: "NOERROR", Addrs: addrs("2001:db8::1")}},
		{"IPv4 in an AAAA, and twice", zone([]string{"a.example. 60 A 192.0.2.1"}, []string{"a.example. 60 AAAA ::ffff:192.0.2.1"}),
			policy.Resolution{RCode: "NOERROR", Addrs: addrs("192.0.2.1")}},
		{"no address in either family", says(dns.RcodeSuccess),
			policy.Resolution{RCode: "NODATA"}},
		{"NXDOMAIN", says(dns.RcodeNameError),
			policy.Resolution{RCode: "NXDOMAIN"}},
		{"NXDOMAIN for A, as a filter of A alone says it", families(says(dns.RcodeNameError), says(dns.RcodeSuccess)),
			policy.Resolution{RCode: "NXDOMAIN", Detail: "AAAA: #: NODATA"}},
		{"an address goes before the other family's NXDOMAIN", families(one("192.0.2.1"), says(dns.RcodeNameError)),
			policy.Resolution{RCode: "NOERROR", Addrs: addrs("192.0.2.1"), Detail: "AAAA: #: NXDOMAIN"}},
		{"an address goes before the other family's failure", families(one("192.0.2.1"), says(dns.RcodeServerFailure)),
			policy.Resolution{RCode: "NOERROR", Addrs: addrs("192.0.2.1"), Detail: "AAAA: #: SERVFAIL"}},
		{"SERVFAIL for A proves more than NODATA for AAAA", families(says(dns.RcodeServerFailure), says(dns.RcodeSuccess)),
			policy.Resolution{RCode: "SERVFAIL", Detail: "AAAA: #: NODATA"}},
		{"silence for A, NODATA for AAAA: not NODATA", families(silence, says(dns.RcodeSuccess)),
			policy.Resolution{Timeout: true, Detail: "A: #: no answer; AAAA: #: NODATA"}},
		{"FORMERR", says(dns.RcodeFormatError), policy.Resolution{RCode: "FORMERR"}},
		{"SERVFAIL", says(dns.RcodeServerFailure), policy.Resolution{RCode: "SERVFAIL"}},
		{"NOTIMP", says(dns.RcodeNotImplemented), policy.Resolution{RCode: "NOTIMP"}},
		{"REFUSED", says(dns.RcodeRefused), policy.Resolution{RCode: "REFUSED"}},
		{"YXDOMAIN", says(dns.RcodeYXDomain), policy.Resolution{RCode: "YXDOMAIN"}},
		{"YXRRSET", says(dns.RcodeYXRrset), policy.Resolution{RCode: "YXRRSET"}},
		{"NXRRSET", says(dns.RcodeNXRrset), policy.Resolution{RCode: "NXRRSET"}},
		{"NOTAUTH", says(dns.RcodeNotAuth), policy.Resolution{RCode: "NOTAUTH"}},
		{"NOTZONE", says(dns.RcodeNotZone), policy.Resolution{RCode: "NOTZONE"}},
		{"a code without a name", says(13), policy.Resolution{RCode: "RCODE13"}},
		{"a code that only EDNS carries", extended(3841), policy.Resolution{RCode: "RCODE3841"}},
		{"silence", silence,
			policy.Resolution{Timeout: true, Detail: "#: no answer"}},
		{"a chain of five, in no order, among unrelated records", zone([]string{
			"d.example. 60 CNAME E.Example.", "e.example. 60 A 192.0.2.5", "b.example. 60 CNAME c.example.", "x.example. 60 A 192.0.2.66",
			"A.EXAMPLE. 60 CNAME b.example.", "c.example. 60 CNAME d.example.", "b.example. 60 A 192.0.2.66", "e.example. 60 CNAME f.privatelink.example.",
			"f.privatelink.example. 60 A 192.0.2.7", "f.privatelink.example. 60 CH A 192.0.2.66"}, nil),
			policy.Resolution{RCode: "NOERROR", Addrs: addrs("192.0.2.7"),
				CNAMEs: []string{"b.example", "c.example", "d.example", "e.example", "f.privatelink.example"}}},
		{"a chain that ends outside the answer", zone([]string{"a.example. 60 CNAME b.example.", "a.example. 60 A 192.0.2.66"}, []string{"a.example. 60 CNAME b.example."}),
			policy.Resolution{RCode: "NODATA", CNAMEs: []string{"b.example"}}},
		{"the end of a chain does not exist", func(w dns.ResponseWriter, q *dns.Msg) {
			write(w, answered(q, dns.RcodeNameError, "a.example. 60 CNAME gone.example."))
		}, policy.Resolution{RCode: "NXDOMAIN", CNAMEs: []string{"gone.example"}}},
		{"a loop", zone(loop, loop),
			policy.Resolution{RCode: "NODATA", CNAMEs: []string{"b.example", "a.example"}, Detail: "#: NODATA, a CNAME loop"}},
		{"unrelated records alone", zone([]string{"b.example. 60 A 192.0.2.66"}, []string{"b.example. 60 AAAA 2001:db8::66"}),
			policy.Resolution{RCode: "NODATA"}},
		{"a referral proves nothing, and is told", func(w dns.ResponseWriter, q *dns.Msg) {
			m := answered(q, dns.RcodeSuccess)
			m.RecursionAvailable, m.Ns = false, []dns.RR{record("example. 60 NS ns.example.")}
			write(w, m)
		}, policy.Resolution{RCode: "NODATA", Detail: "#: NODATA, it does not look names up for others"}},
		{"a filter that says so", func(w dns.ResponseWriter, q *dns.Msg) {
			m := answered(q, dns.RcodeNameError)
			m.SetEdns0(udpSize, false)
			m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeBlocked, ExtraText: "by\x1b policy"}}
			write(w, m)
		}, policy.Resolution{RCode: "NXDOMAIN", Detail: `#: NXDOMAIN, extended error 15 (Blocked) "by\x1b policy"`}},
		{"EDNS is not understood: a bare header, then an answer", func(w dns.ResponseWriter, q *dns.Msg) {
			if q.IsEdns0() == nil {
				one("192.0.2.1")(w, q)
				return
			}
			m := answered(q, dns.RcodeFormatError)
			m.Question = nil
			write(w, m)
		}, policy.Resolution{RCode: "NOERROR", Addrs: addrs("192.0.2.1")}},
		{"EDNS is dropped on the way", func(w dns.ResponseWriter, q *dns.Msg) {
			if q.IsEdns0() == nil {
				one("192.0.2.1")(w, q)
			}
		}, policy.Resolution{RCode: "NOERROR", Addrs: addrs("192.0.2.1")}},
		{"the case of the question changed", func(w dns.ResponseWriter, q *dns.Msg) {
			m := answered(q, dns.RcodeSuccess, "a.eXample. 60 A 192.0.2.1")
			m.Question[0].Name = "A.ExamplE."
			write(w, m)
		}, policy.Resolution{RCode: "NOERROR", Addrs: addrs("192.0.2.1")}},
		{"more records promised than sent", func(w dns.ResponseWriter, q *dns.Msg) {
			pkt, _ := answered(q, dns.RcodeSuccess, "a.example. 60 A 192.0.2.66").Pack()
			pkt[7] = 2
			_, _ = w.Write(pkt)
		}, policy.Resolution{Detail: "#: malformed answer (1 of 2 records readable): it ends too early"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			at := server(t, tt.script)
			tt.want.Detail = strings.ReplaceAll(tt.want.Detail, "#", at.String())
			if tt.want.RCode != "" {
				tt.want.Upstream = at.String()
			}
			limit := ample
			if tt.want.Timeout {
				limit = short
			}
			require.Equal(t, tt.want, resolve(t, resolver(t, limit, at)))
		})
	}
}

// extended answers with a code of more than four bits.
func extended(rcode int) script {
	return func(w dns.ResponseWriter, q *dns.Msg) {
		m := answered(q, dns.RcodeSuccess)
		m.SetEdns0(udpSize, false)
		m.Rcode = rcode
		write(w, m)
	}
}

func TestResolveSeveralServers(t *testing.T) {
	good := one("192.0.2.1")
	tests := []struct {
		name    string
		servers []script // nil: its port is closed
		want    policy.Resolution
		by      int // who is reported; -1: nobody
	}{
		{"the first answers, the second is not asked", []script{good, mustNotBeAsked(t)},
			policy.Resolution{RCode: "NOERROR", Addrs: addrs("192.0.2.1")}, 0},
		{"NXDOMAIN is the last word", []script{says(dns.RcodeNameError), mustNotBeAsked(t)},
			policy.Resolution{RCode: "NXDOMAIN"}, 0},
		{"closed port", []script{nil, good},
			policy.Resolution{RCode: "NOERROR", Addrs: addrs("192.0.2.1"), Detail: "#0: connection refused"}, 1},
		{"silent", []script{silence, good},
			policy.Resolution{RCode: "NOERROR", Addrs: addrs("192.0.2.1"), Detail: "#0: no answer"}, 1},
		{"REFUSED", []script{says(dns.RcodeRefused), good},
			policy.Resolution{RCode: "NOERROR", Addrs: addrs("192.0.2.1"), Detail: "#0: REFUSED"}, 1},
		{"SERVFAIL", []script{says(dns.RcodeServerFailure), good},
			policy.Resolution{RCode: "NOERROR", Addrs: addrs("192.0.2.1"), Detail: "#0: SERVFAIL"}, 1},
		{"SERVFAIL, then NXDOMAIN", []script{says(dns.RcodeServerFailure), says(dns.RcodeNameError)},
			policy.Resolution{RCode: "NXDOMAIN", Detail: "#0: SERVFAIL"}, 1},
		{"SERVFAIL from all", []script{says(dns.RcodeServerFailure), says(dns.RcodeServerFailure)},
			policy.Resolution{RCode: "SERVFAIL", Detail: "#1: SERVFAIL"}, 0},
		{"REFUSED, then SERVFAIL: who tried tells more", []script{says(dns.RcodeRefused), says(dns.RcodeServerFailure)},
			policy.Resolution{RCode: "SERVFAIL", Detail: "#0: REFUSED"}, 1},
		{"silent, then REFUSED", []script{silence, says(dns.RcodeRefused)},
			policy.Resolution{RCode: "REFUSED", Detail: "#0: no answer"}, 1},
		{"silence from all", []script{silence, silence},
			policy.Resolution{Timeout: true, Detail: "#0: no answer; #1: no answer"}, -1},
		{"closed ports alone are no silence", []script{nil, nil},
			policy.Resolution{Detail: "#0: connection refused; #1: connection refused"}, -1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var servers []netip.AddrPort
			for i, s := range tt.servers {
				at := closedPort(t)
				if s != nil {
					at = server(t, s)
				}
				servers = append(servers, at)
				tt.want.Detail = strings.ReplaceAll(tt.want.Detail, fmt.Sprintf("#%d", i), at.String())
			}
			if tt.by >= 0 {
				tt.want.Upstream = servers[tt.by].String()
			}
			limit := 3 * time.Second
			if strings.Contains(tt.want.Detail, "no answer") {
				limit = short
			}
			require.Equal(t, tt.want, resolve(t, resolver(t, limit, servers...)))
		})
	}
}

func mustNotBeAsked(t *testing.T) script {
	return func(dns.ResponseWriter, *dns.Msg) { t.Error("a server was asked without need") }
}

// A server that is only slow is not lost: its answer counts when it comes after
// the next server was asked.
func TestSlowServerStillCounts(t *testing.T) {
	secondAsked := make(chan struct{})
	var once sync.Once
	slow := server(t, families(func(w dns.ResponseWriter, q *dns.Msg) {
		<-secondAsked
		one("192.0.2.1")(w, q)
	}, says(dns.RcodeSuccess)))
	second := server(t, func(dns.ResponseWriter, *dns.Msg) { once.Do(func() { close(secondAsked) }) })
	got := resolve(t, resolver(t, 4*time.Second, slow, second))
	require.Equal(t, policy.Resolution{RCode: "NOERROR", Addrs: addrs("192.0.2.1"), Upstream: slow.String()}, got,
		"and the second is not blamed for an answer it had no time for")
}

func TestAAAASilent(t *testing.T) {
	at := server(t, families(one("192.0.2.1"), silence))
	t.Run("A does not wait for it", func(t *testing.T) {
		got := resolve(t, resolver(t, ample, at))
		require.Equal(t, policy.Resolution{RCode: "NOERROR", Addrs: addrs("192.0.2.1"), Upstream: at.String(),
			Detail: "AAAA: no answer within 50ms of the one to A"}, got)
	})
	t.Run("unless this host has an IPv6 route alone", func(t *testing.T) {
		r := resolver(t, short, at)
		r.routes = fixedRoutes(false, true)
		got := resolve(t, r)
		require.Equal(t, "AAAA: "+at.String()+": no answer", got.Detail)
		require.Equal(t, addrs("192.0.2.1"), got.Addrs)
	})
}

// An AAAA that comes first does not end the look-up: A is on its way, and the
// IPv6 route may lead nowhere.
func TestASlowerThanAAAA(t *testing.T) {
	at := server(t, families(
		func(w dns.ResponseWriter, q *dns.Msg) { <-time.After(3 * resolutionDelay); one("192.0.2.1")(w, q) },
		zone(nil, []string{"a.example. 60 AAAA 2001:db8::1"})))
	r := resolver(t, ample, at)
	r.routes = fixedRoutes(true, true)
	require.Equal(t, policy.Resolution{RCode: "NOERROR", Addrs: addrs("2001:db8::1", "192.0.2.1"), Upstream: at.String()}, resolve(t, r))
}

// Only an address ends the wait for AAAA early.
func TestAAAASlowerThanNoA(t *testing.T) {
	slow := func(w dns.ResponseWriter, q *dns.Msg) {
		<-time.After(3 * resolutionDelay)
		write(w, answered(q, dns.RcodeSuccess, "a.example. 60 AAAA 2001:db8::1"))
	}
	for _, a := range []int{dns.RcodeSuccess, dns.RcodeNameError, dns.RcodeServerFailure} {
		at := server(t, families(says(a), slow))
		require.Equal(t, addrs("2001:db8::1"), resolve(t, resolver(t, ample, at)).Addrs, dns.RcodeToString[a])
	}
}

func TestBothFamiliesAreAskedAtOnce(t *testing.T) {
	var asked sync.WaitGroup
	asked.Add(2)
	at := server(t, func(w dns.ResponseWriter, q *dns.Msg) {
		asked.Done()
		asked.Wait() // answers neither before both were asked
		write(w, answered(q, dns.RcodeSuccess))
	})
	require.Equal(t, "NODATA", resolve(t, resolver(t, ample, at)).RCode)
}

func TestNamesThatNobodyIsAsked(t *testing.T) {
	r := resolver(t, ample, server(t, mustNotBeAsked(t)))
	loopback := policy.Resolution{RCode: "NOERROR", Addrs: addrs("127.0.0.1", "::1"), Upstream: "hosts"}
	tests := []struct {
		name policy.Name
		want policy.Resolution
	}{
		{policy.MustName("localhost"), loopback},
		{policy.MustName("a.b.LOCALHOST."), loopback},
		{policy.MustName("192.0.2.1"), policy.Resolution{RCode: "NOERROR", Addrs: addrs("192.0.2.1")}},
		{policy.MustName("[::ffff:192.0.2.1]"), policy.Resolution{RCode: "NOERROR", Addrs: addrs("192.0.2.1")}},
		{policy.Name{}, policy.Resolution{Detail: "no name to look up"}},
	}
	for _, tt := range tests {
		require.Equal(t, tt.want, r.Resolve(t.Context(), tt.name), tt.name.String())
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	at := server(t, func(dns.ResponseWriter, *dns.Msg) { cancel() })
	got := resolver(t, ample, at).Resolve(ctx, policy.MustName("a.example"))
	require.Equal(t, policy.Resolution{Detail: "look-up given up: context canceled"}, got)
}

func TestCallersDeadline(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), short)
	defer cancel()
	require.True(t, resolver(t, ample, server(t, silence)).Resolve(ctx, policy.MustName("a.example")).Timeout)
}

func TestNothingRunsOn(t *testing.T) {
	silent, good := server(t, silence), server(t, families(one("192.0.2.1"), silence))
	resolve(t, resolver(t, short/3, silent, silent))
	resolve(t, resolver(t, ample, good))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	resolver(t, ample, silent).Resolve(ctx, policy.MustName("a.example"))
	require.Eventually(t, func() bool { return ours() == 0 }, 5*time.Second, time.Millisecond, "goroutines of look-ups that have returned")
}

// ours counts the goroutines inside a look-up of this package's.
func ours() (n int) {
	stacks := make([]byte, 4<<20)
	for g := range strings.SplitSeq(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
		if strings.Contains(g, "dnsaudit.(*walk)") || strings.Contains(g, "dnsaudit.over") || strings.Contains(g, "dnsaudit.(*Resolver)") {
			n++
		}
	}
	return n
}

func TestManyAtOnce(t *testing.T) {
	at := server(t, func(w dns.ResponseWriter, q *dns.Msg) {
		var n byte
		_, _ = fmt.Sscanf(q.Question[0].Name, "n%d.", &n)
		if q.Question[0].Qtype == dns.TypeA {
			write(w, answered(q, dns.RcodeSuccess, fmt.Sprintf("%s 60 A 192.0.2.%d", q.Question[0].Name, n)))
			return
		}
		write(w, answered(q, dns.RcodeSuccess))
	})
	r := resolver(t, ample, at)
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			got := r.Resolve(t.Context(), policy.MustName(fmt.Sprintf("n%d.example", i)))
			assert.Equal(t, addrs(fmt.Sprintf("192.0.2.%d", i)), got.Addrs, "%+v", got)
		})
	}
	wg.Wait()
}

// A server may be asked over TCP alone, or over TLS; a certificate of somebody
// else is a failure, and told.
func TestResolveOverStreams(t *testing.T) {
	look := func(roots *x509.CertPool, u Upstream) policy.Resolution {
		r, err := New(Config{Servers: []Upstream{u}, Roots: roots, Hosts: filepath.Join(t.TempDir(), "none"), Timeout: 5 * time.Second})
		require.NoError(t, err)
		r.routes = fixedRoutes(true, false)
		return resolve(t, r)
	}
	at := server(t, func(w dns.ResponseWriter, q *dns.Msg) {
		if w.RemoteAddr().Network() == "udp" {
			t.Error("asked over UDP")
		}
		one("192.0.2.1")(w, q)
	})
	require.Equal(t, addrs("192.0.2.1"), look(nil, Upstream{Addr: at, Transport: "tcp"}).Addrs)

	at, roots, _ := secure(t, one("192.0.2.2"))
	u := Upstream{Addr: at, Transport: "tls", ServerName: "dns.example"}
	require.Equal(t, addrs("192.0.2.2"), look(roots, u).Addrs)
	u.ServerName = "other.example"
	got := look(roots, u)
	require.Empty(t, got.Addrs)
	require.Contains(t, got.Detail, "not other.example")
}
