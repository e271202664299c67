package dnsaudit

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	bignum "math/big"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
)

func TestFailover(t *testing.T) {
	good := one("192.0.2.1")
	failed := func(e policy.Error) policy.Verdict {
		return policy.Verdict{Outcome: policy.Failed, Error: e, By: policy.ByResolver, Confidence: policy.Certain}
	}
	tests := []struct {
		name    string
		servers []script // nil: a closed port
		rcode   string   // that the client gets
		by      int      // which upstream is told, -1 for none
		resolve string   // the detail, #i being server i
		verdict policy.Verdict
	}{
		{"silent, then good", []script{silence, good}, "NOERROR", 1, "#0: no answer", policy.Verdict{Outcome: policy.OK}},
		{"closed, then good", []script{nil, good}, "NOERROR", 1, "#0: connection refused", policy.Verdict{Outcome: policy.OK}},
		{"SERVFAIL, then good", []script{says(dns.RcodeServerFailure), good}, "NOERROR", 1, "", policy.Verdict{Outcome: policy.OK}},
		{"REFUSED, then NXDOMAIN", []script{says(dns.RcodeRefused), says(dns.RcodeNameError)}, "NXDOMAIN", 1, "",
			policy.Verdict{Outcome: policy.Failed, Error: policy.DNSError, By: policy.ByResolver, Confidence: policy.Likely}},
		{"NXDOMAIN is final", []script{says(dns.RcodeNameError), mustNotBeAsked(t)}, "NXDOMAIN", 0, "",
			policy.Verdict{Outcome: policy.Failed, Error: policy.DNSError, By: policy.ByResolver, Confidence: policy.Likely}},
		{"NODATA is final", []script{says(dns.RcodeSuccess), mustNotBeAsked(t)}, "NOERROR", 0, "", policy.Verdict{Outcome: policy.OK}},
		{"SERVFAIL from both", []script{says(dns.RcodeServerFailure), says(dns.RcodeServerFailure)}, "SERVFAIL", 0, "#1: SERVFAIL", failed(policy.DNSError)},
		{"SERVFAIL alone", []script{says(dns.RcodeServerFailure)}, "SERVFAIL", 0, "", failed(policy.DNSError)},
		{"REFUSED, then silence", []script{says(dns.RcodeRefused), silence}, "REFUSED", 0, "#1: no answer", failed(policy.DNSError)},
		{"REFUSED, then closed", []script{says(dns.RcodeRefused), nil}, "REFUSED", 0, "#1: connection refused", failed(policy.DNSError)},
		{"silence from all", []script{silence, silence}, "SERVFAIL", -1, "#0: no answer; #1: no answer", failed(policy.DNSTimeout)},
		{"closed ports alone are no silence", []script{nil, nil}, "SERVFAIL", -1, "#0: connection refused; #1: connection refused", failed(policy.DNSError)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var ups []netip.AddrPort
			for i, s := range tt.servers {
				at := closedPort(t)
				if s != nil {
					at = server(t, s)
				}
				ups = append(ups, at)
				tt.resolve = strings.ReplaceAll(tt.resolve, fmt.Sprintf("#%d", i), at.String())
			}
			d := forward(t, ForwarderConfig{Timeout: short}, ups...)
			m := d.exchange(t, "udp", asking("a.example.", dns.TypeA))
			require.Equal(t, tt.rcode, dns.RcodeToString[m.Rcode])
			o := d.next(t)
			require.Equal(t, tt.verdict, o.Verdict)
			detail, _ := o.Detail["resolve"].(string)
			require.Equal(t, tt.resolve, detail)
			if tt.by >= 0 {
				require.Equal(t, ups[tt.by].String(), o.Upstream)
				require.Equal(t, tt.rcode, o.RCode)
			} else {
				require.Empty(t, o.Upstream+o.RCode)
			}
		})
	}
}

// A server that is only slow is not lost.
func TestSlowUpstreamStillCounts(t *testing.T) {
	asked := make(chan struct{}, 16)
	slow := server(t, func(w dns.ResponseWriter, q *dns.Msg) { <-asked; one("192.0.2.1")(w, q) })
	second := server(t, func(dns.ResponseWriter, *dns.Msg) { asked <- struct{}{} })
	d := forward(t, ForwarderConfig{Timeout: 4 * time.Second}, slow, second)
	d.exchange(t, "udp", asking("a.example.", dns.TypeA))
	require.Equal(t, slow.String(), d.next(t).Upstream)
}

// A server that is down is asked last, beside another one at times, and first
// again when it is back.
func TestUpstreamDownThenBack(t *testing.T) {
	var up atomic.Bool
	var asked atomic.Int32
	first := server(t, func(w dns.ResponseWriter, q *dns.Msg) {
		asked.Add(1)
		if up.Load() {
			one("192.0.2.1")(w, q)
		}
	})
	second := server(t, one("192.0.2.2"))
	d := forward(t, ForwarderConfig{Timeout: short}, first, second)
	who := func() string {
		d.exchange(t, "udp", asking("a.example.", dns.TypeA))
		return d.next(t).Upstream
	}
	for range unhealthyAfter {
		require.Equal(t, second.String(), who())
	}
	before := asked.Load()
	for range 5 {
		require.Equal(t, second.String(), who())
	}
	require.LessOrEqual(t, asked.Load(), before+1, "nobody waits for it any more")
	up.Store(true)
	require.Eventually(t, func() bool { return who() == first.String() }, eventually, 10*tick)
	require.Equal(t, first.String(), who())
}

func TestOnlyUpstreamDownThenBack(t *testing.T) {
	held := closedPort(t)
	d := forward(t, ForwarderConfig{Timeout: short}, held)
	for range 2 * unhealthyAfter {
		require.Equal(t, dns.RcodeServerFailure, d.exchange(t, "udp", asking("a.example.", dns.TypeA)).Rcode)
		require.Equal(t, policy.DNSError, d.next(t).Error)
	}
	var up atomic.Bool
	d = forward(t, ForwarderConfig{Timeout: short / 3}, server(t, func(w dns.ResponseWriter, q *dns.Msg) {
		if up.Load() {
			one("192.0.2.1")(w, q)
		}
	}))
	for range 2 {
		require.Equal(t, dns.RcodeServerFailure, d.exchange(t, "udp", asking("a.example.", dns.TypeA)).Rcode)
		require.Equal(t, policy.DNSTimeout, d.next(t).Error)
	}
	up.Store(true)
	require.Equal(t, dns.RcodeSuccess, d.exchange(t, "udp", asking("a.example.", dns.TypeA)).Rcode, "at once")
}

// A client that comes by TCP is served where the upstream has no TCP, too.
func TestUpstreamWithoutTCP(t *testing.T) {
	d := forward(t, ForwarderConfig{}, server(t, func(w dns.ResponseWriter, q *dns.Msg) {
		if w.RemoteAddr().Network() == "tcp" {
			w.Close()
			return
		}
		one("192.0.2.1")(w, q)
	}))
	require.Len(t, d.exchange(t, "tcp", asking("a.example.", dns.TypeA)).Answer, 1)
	require.Contains(t, d.next(t).Detail["resolve"], "connection closed without an answer")
}

// A truncated answer is none for a client that came by TCP because of it: where
// another server has the whole one that counts, and where nobody has the look-up
// failed, although something came back.
func TestTruncatedWithoutTCP(t *testing.T) {
	short := server(t, func(w dns.ResponseWriter, q *dns.Msg) {
		if w.RemoteAddr().Network() == "tcp" {
			w.Close()
			return
		}
		m := new(dns.Msg).SetReply(q)
		m.Truncated = true
		_ = w.WriteMsg(m)
	})
	d := forward(t, ForwarderConfig{}, short)
	require.True(t, d.exchange(t, "tcp", asking("a.example.", dns.TypeA)).Truncated, "it is passed on all the same")
	o := d.next(t)
	require.Equal(t, []any{policy.Failed, policy.DNSError, policy.ByResolver, true}, []any{o.Outcome, o.Error, o.By, o.Detail["truncated"]}, "%+v", o)
	require.Contains(t, o.Detail["resolve"], "connection closed without an answer")

	d = forward(t, ForwarderConfig{}, short, server(t, one("192.0.2.1")))
	require.Len(t, d.exchange(t, "tcp", asking("a.example.", dns.TypeA)).Answer, 1)
	require.Equal(t, policy.OK, d.next(t).Outcome)
	d.exchange(t, "udp", asking("a.example.", dns.TypeA))
	o = d.next(t)
	require.Equal(t, []any{policy.OK, true}, []any{o.Outcome, o.Detail["truncated"]}, "over UDP it is the usual thing")
}

// secure is a name server over TLS (RFC 7858) that has a certificate for
// dns.example and 127.0.0.1.
func secure(t *testing.T, s script) (netip.AddrPort, *x509.CertPool, *atomic.Int32) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: bignum.NewInt(1), DNSNames: []string{"dns.example"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	leaf, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	inner, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	conns := new(atomic.Int32)
	l := tls.NewListener(counting{inner, conns}, &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, NextProtos: []string{"dot"},
	})
	srv := &dns.Server{Listener: l, Handler: dns.HandlerFunc(s), MaxTCPQueries: -1}
	up, done := make(chan struct{}), make(chan error, 1)
	srv.NotifyStartedFunc = func() { close(up) }
	go func() { done <- srv.ActivateAndServe() }()
	<-up
	t.Cleanup(func() { _ = srv.Shutdown(); <-done })
	return inner.Addr().(*net.TCPAddr).AddrPort(), roots, conns
}

type counting struct {
	net.Listener
	n *atomic.Int32
}

func (c counting) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.n.Add(1)
	}
	return conn, err
}

func TestUpstreamOverTLS(t *testing.T) {
	tests := []struct {
		name, server string
		trusted      bool
		fails        string
	}{
		{"its name", "dns.example", true, ""},
		{"its address", "", true, ""},
		{"another name", "other.example", true, "certificate is valid for dns.example, not other.example"},
		{"nobody we trust", "dns.example", false, "certificate signed by unknown authority"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			at, roots, conns := secure(t, one("192.0.2.1"))
			if !tt.trusted {
				roots = x509.NewCertPool()
			}
			up := Upstream{Addr: at, Transport: "tls", ServerName: tt.server}
			d := forward(t, ForwarderConfig{Upstreams: []Upstream{up}, Roots: roots})
			for _, network := range []string{"udp", "tcp", "udp"} {
				m := d.exchange(t, network, asking("a.example.", dns.TypeA))
				o := d.next(t)
				if tt.fails == "" {
					require.Len(t, m.Answer, 1)
					require.Equal(t, up.String(), o.Upstream)
					continue
				}
				require.Equal(t, dns.RcodeServerFailure, m.Rcode)
				require.Equal(t, policy.DNSError, o.Error)
				require.Contains(t, o.Detail["resolve"], tt.fails)
			}
			if tt.fails == "" {
				require.Equal(t, int32(1), conns.Load(), "one connection for all")
			}
		})
	}
}

// A connection that the server has closed meanwhile costs no question.
func TestUpstreamClosesConnections(t *testing.T) {
	var conns atomic.Int32
	at := server(t, func(w dns.ResponseWriter, q *dns.Msg) {
		conns.Add(1)
		one("192.0.2.1")(w, q)
		w.Close()
	})
	d := forward(t, ForwarderConfig{Upstreams: []Upstream{{Addr: at, Transport: "tcp"}}})
	for range 20 {
		require.Len(t, d.exchange(t, "udp", asking("a.example.", dns.TypeA)).Answer, 1)
		require.Nil(t, d.next(t).Detail)
	}
	require.Equal(t, int32(20), conns.Load())
}

// What comes from a tcp:// server still fits a client's UDP.
func TestUpstreamOverTCPAlone(t *testing.T) {
	records, _ := big()
	at := server(t, func(w dns.ResponseWriter, q *dns.Msg) {
		if w.RemoteAddr().Network() == "udp" {
			t.Error("asked over UDP")
		}
		m := answered(q, dns.RcodeSuccess, records...)
		m.Compress = true
		write(w, m)
	})
	d := forward(t, ForwarderConfig{Upstreams: []Upstream{{Addr: at, Transport: "tcp"}}})
	require.True(t, d.exchange(t, "udp", asking("a.example.", dns.TypeA)).Truncated)
	require.Len(t, d.next(t).Answers, 750)
}

func TestParseUpstreams(t *testing.T) {
	at := netip.MustParseAddrPort
	tests := []struct {
		list string
		want []Upstream
		err  string
	}{
		{"192.0.2.1", []Upstream{{at("192.0.2.1:53"), "udp", ""}}, ""},
		{"udp://192.0.2.1:54, tcp://[2001:db8::1] ,TLS://192.0.2.2#DNS.Example.", []Upstream{
			{at("192.0.2.1:54"), "udp", ""}, {at("[2001:db8::1]:53"), "tcp", ""}, {at("192.0.2.2:853"), "tls", "dns.example"}}, ""},
		{"tls://1.2.3.4:8853#a.b,tls://1.2.3.4:8853#a.b", []Upstream{{at("1.2.3.4:8853"), "tls", "a.b"}}, ""},
		{"tls://1.2.3.4", []Upstream{{at("1.2.3.4:853"), "tls", ""}}, ""},
		{"", nil, `resolver "": an address is missing`},
		{"https://192.0.2.1/dns-query", nil, `a server is asked by udp://, tcp:// or tls://, not by "https://"`},
		{"192.0.2.1#dns.example", nil, "a name behind # is for tls:// servers"},
		{"tls://192.0.2.1#", nil, "the name of its certificate"},
		{"tls://192.0.2.1#a b", nil, "the name of its certificate"},
		{"tls://dns.example", nil, "by its address, not by a name"},
		{"tls://192.0.2.1:0", nil, "port 0"},
	}
	for _, tt := range tests {
		got, err := ParseUpstreams(tt.list)
		if tt.err != "" {
			require.ErrorContains(t, err, tt.err, tt.list)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, tt.want, got)
		for _, u := range got {
			again, err := ParseUpstreams(u.String())
			require.NoError(t, err)
			require.Equal(t, []Upstream{u}, again)
		}
	}
}
