package lab_test

import (
	"context"
	"net"
	"runtime"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/test/lab"
)

// resolver asks the lab's name server and nobody else.
func resolver(w *lab.World, network string) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, w.DNS().String())
	}}
}

// ours counts goroutines of the lab, and of the DNS library, that are no test.
func ours() (n int) {
	buf := make([]byte, 1<<20)
	for _, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if strings.Contains(g, "lab.(*") && !strings.Contains(g, "lab_test.") || strings.Contains(g, "miekg/dns.") {
			n++
		}
	}
	return n
}

func TestDNS(t *testing.T) {
	broken := lab.SERVFAIL
	w := start(t, map[string]lab.Behaviour{
		"site.test:443":    lab.Site{},
		"port.test:80":     lab.Refuse{},
		"*.wild.test":      lab.Site{},
		"nx.test":          lab.NXDOMAIN,
		"broken.test":      lab.SERVFAIL,
		"refused.test":     lab.REFUSED,
		"empty.test":       lab.NODATA,
		"silent.test":      lab.DNSSilence,
		"sink4.test":       lab.Resolves("0.0.0.0"),
		"sink6.test":       lab.Resolves("::", "0.0.0.0"),
		"private.test":     lab.Resolves("10.1.2.3", "172.16.0.1", "192.168.1.1", "127.0.0.2"),
		"chain.test":       lab.Answer{CNAMEs: []string{"one.test", "two.test"}},
		"dangling.test":    lab.Answer{CNAMEs: []string{"one.test"}, Rcode: dns.RcodeNameError},
		"half.test":        lab.Answer{AAAA: &broken},
		"large.test":       lab.Answer{Truncate: true},
		"private.nx.test.": lab.NXDOMAIN,
	})
	own := func(name string) string { return "A " + w.Address(name, 443).Addr().String() }
	for _, tt := range []struct {
		name string
		kind uint16
		want string // rcode, then the records
	}{
		{"site.test.", dns.TypeA, "NOERROR " + own("site.test")},
		{"SITE.Test.", dns.TypeA, "NOERROR " + own("site.test")},
		{"site.test.", dns.TypeAAAA, "NOERROR"},
		{"site.test.", dns.TypeHTTPS, "NOERROR"},
		{"port.test.", dns.TypeA, "NOERROR " + own("port.test")},
		{"a.b.wild.test.", dns.TypeA, "NOERROR " + own("a.b.wild.test")},
		{"wild.test.", dns.TypeA, "NXDOMAIN"},
		{"unknown.test.", dns.TypeA, "NXDOMAIN"},
		{"nx.test.", dns.TypeA, "NXDOMAIN"},
		{"private.nx.test.", dns.TypeA, "NXDOMAIN"},
		{"broken.test.", dns.TypeA, "SERVFAIL"},
		{"refused.test.", dns.TypeA, "REFUSED"},
		{"empty.test.", dns.TypeA, "NOERROR"},
		{"sink4.test.", dns.TypeA, "NOERROR A 0.0.0.0"},
		{"sink4.test.", dns.TypeAAAA, "NOERROR"},
		{"sink6.test.", dns.TypeAAAA, "NOERROR AAAA ::"},
		{"private.test.", dns.TypeA, "NOERROR A 10.1.2.3 A 172.16.0.1 A 192.168.1.1 A 127.0.0.2"},
		{"chain.test.", dns.TypeA, "NOERROR CNAME one.test. CNAME two.test. " + own("chain.test")},
		{"chain.test.", dns.TypeAAAA, "NOERROR CNAME one.test. CNAME two.test."},
		{"dangling.test.", dns.TypeA, "NXDOMAIN CNAME one.test."},
		{"half.test.", dns.TypeA, "NOERROR " + own("half.test")},
		{"half.test.", dns.TypeAAAA, "SERVFAIL"},
		{"large.test.", dns.TypeA, "TC NOERROR"},
	} {
		for _, network := range []string{"udp", "tcp"} {
			want := tt.want
			if network == "tcp" && tt.name == "large.test." {
				want = "NOERROR " + own("large.test")
			}
			q := new(dns.Msg).SetQuestion(tt.name, tt.kind)
			m, _, err := (&dns.Client{Net: network, Timeout: patience}).Exchange(q, w.DNS().String())
			require.NoError(t, err, tt.name)
			require.Equal(t, want, text(m), "%s %s over %s", tt.name, dns.TypeToString[tt.kind], network)
		}
	}
	q := new(dns.Msg).SetQuestion("silent.test.", dns.TypeA)
	_, _, err := (&dns.Client{Timeout: shortly}).Exchange(q, w.DNS().String())
	require.Equal(t, "timeout", what(err))
}

// text is the rcode and the answers of m.
func text(m *dns.Msg) string {
	out := dns.RcodeToString[m.Rcode]
	if m.Truncated {
		out = "TC " + out
	}
	for _, rr := range m.Answer {
		switch rr := rr.(type) {
		case *dns.A:
			out += " A " + rr.A.String()
		case *dns.AAAA:
			out += " AAAA " + rr.AAAA.String()
		case *dns.CNAME:
			out += " CNAME " + rr.Target
		}
	}
	return out
}

// The chain's records have each the owner that the one before leads to, or a
// strict resolver would not follow it.
func TestResolverOfTheStandardLibrary(t *testing.T) {
	w := start(t, map[string]lab.Behaviour{
		"chain.test": lab.Answer{CNAMEs: []string{"one.test", "two.test"}},
		"large.test": lab.Answer{Truncate: true},
		"nx.test":    lab.NXDOMAIN,
	})
	m, _, err := (&dns.Client{Timeout: patience}).Exchange(new(dns.Msg).SetQuestion("chain.test.", dns.TypeA), w.DNS().String())
	require.NoError(t, err)
	for i, owner := range []string{"chain.test.", "one.test.", "two.test."} {
		require.Equal(t, owner, m.Answer[i].Header().Name)
	}
	r := resolver(w, "udp")
	addrs, err := r.LookupNetIP(t.Context(), "ip4", "chain.test.")
	require.NoError(t, err)
	require.Equal(t, w.Address("chain.test", 443).Addr(), addrs[0].Unmap())
	_, err = r.LookupNetIP(t.Context(), "ip4", "nx.test.")
	var dnsErr *net.DNSError
	require.ErrorAs(t, err, &dnsErr)
	require.True(t, dnsErr.IsNotFound)

	// The library turns to TCP by itself when it sees TC.
	r.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, w.DNS().String())
	}
	addrs, err = r.LookupNetIP(t.Context(), "ip4", "large.test.")
	require.NoError(t, err)
	require.Equal(t, w.Address("large.test", 443).Addr(), addrs[0].Unmap())
	require.Contains(t, w.Saw(), lab.Sighting{Door: lab.DoorDNS, Method: "A", Target: "large.test", Network: "tcp"})
}
