package dnsaudit

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"
)

// TestChainLimit walks the limit: 16 CNAMEs are followed, 17 are not.
func TestChainLimit(t *testing.T) {
	for _, n := range []int{maxChain, maxChain + 1} {
		var rrs []dns.RR
		for i := range n {
			rrs = append(rrs, record(fmt.Sprintf("n%d.example. 60 CNAME n%d.example.", i, i+1)))
		}
		rrs = append(rrs, record(fmt.Sprintf("n%d.example. 60 A 192.0.2.1", n)))
		q := question{name: "n0.example.", kind: dns.TypeA}
		a := q.interpret(&dns.Msg{Answer: rrs})
		require.Len(t, a.cnames, maxChain)
		if n == maxChain {
			require.Equal(t, addrs("192.0.2.1"), a.addrs)
			require.Empty(t, a.odd)
		} else {
			require.Empty(t, a.addrs)
			require.Equal(t, "more than 16 CNAMEs", a.odd)
		}
	}
}

// TestSmallWorlds holds chain and addresses against a naive oracle, for every
// set of CNAMEs among three names and the root.
func TestSmallWorlds(t *testing.T) {
	names := []string{"a.", "b.", "c.", "."}
	for world := range 5 * 5 * 5 * 5 {
		var rrs []dns.RR
		to := map[string]string{}
		for i, left := 0, world; i < 4; i, left = i+1, left/5 {
			rrs = append(rrs, record(fmt.Sprintf("%s 60 A 192.0.2.%d", names[i], i)))
			if left%5 < 4 {
				to[names[i]] = names[left%5]
				rrs = append(rrs, record(names[i]+" 60 CNAME "+names[left%5]))
			}
		}
		var want []netip.Addr // none where ten steps do not end
		at := "a."
		for range 10 {
			if next, more := to[at]; more {
				at = next
			} else {
				want = addrs(fmt.Sprintf("192.0.2.%d", strings.Index("a.b.c. .", at)/2))
			}
		}
		if at == "." && want != nil {
			want = addrs("192.0.2.3")
		}
		got := question{name: "a.", kind: dns.TypeA}.interpret(&dns.Msg{Answer: rrs})
		require.Equal(t, want, got.addrs, "%v", to)
		require.Equal(t, want == nil, got.odd == "a CNAME loop", "%v", to)
	}
}

// FuzzAnswer reads any bytes as the answer to the question they name (or to one
// for a.example), with its ID put right so that they are looked at.
func FuzzAnswer(f *testing.F) {
	q := new(dns.Msg).SetQuestion("a.example.", dns.TypeA)
	for _, m := range []*dns.Msg{
		answered(q, dns.RcodeSuccess, "a.example. 60 CNAME b.example.", "b.example. 60 A 192.0.2.1", "c.example. 60 A 192.0.2.66"),
		answered(q, dns.RcodeSuccess, "a.example. 60 CNAME b.example.", "b.example. 60 CNAME a.example.", "a.example. 60 A 192.0.2.1"),
		answered(q, dns.RcodeSuccess, `a.example. 60 CNAME \000\.\200.example.`, `\000\.\200.example. 60 A 192.0.2.1`),
		answered(q, dns.RcodeNameError), answered(q, dns.RcodeServerFailure),
		answered(new(dns.Msg).SetQuestion("A.eXample.", dns.TypeAAAA), 0, "a.example. 60 AAAA ::ffff:192.0.2.1"),
	} {
		for _, compress := range []bool{false, true} {
			m.Compress = compress
			pkt, err := m.Pack()
			require.NoError(f, err)
			f.Add(pkt)
		}
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, pkt []byte) {
		var m dns.Msg
		_ = m.Unpack(pkt)
		q := question{name: "a.example.", kind: dns.TypeA, id: m.Id}
		if len(m.Question) == 1 && m.Question[0].Qtype == dns.TypeAAAA {
			q.kind = dns.TypeAAAA
		}
		if len(m.Question) == 1 {
			q.name = dns.CanonicalName(m.Question[0].Name)
		}
		a, err := q.read(pkt)
		if err != nil {
			require.Zero(t, a)
			return
		}
		require.True(t, m.Response)
		require.LessOrEqual(t, len(a.cnames), maxChain+1)
		require.NotEmpty(t, a.rcode)
		require.Equal(t, a.rcode == noError, len(a.addrs) > 0)
		for _, addr := range a.addrs {
			require.True(t, led(q, m.Answer, addr), "%v is of no name that %q leads to:\n%v", addr, q.name, &m)
		}
	})
}

// led says whether some record of q's type gives addr to a name that CNAMEs lead
// to from the one asked: by closure, without a thought of order.
func led(q question, records []dns.RR, addr netip.Addr) bool {
	reached := map[string]bool{q.name: true}
	for before := 0; before < len(reached); {
		before = len(reached)
		for _, rr := range records {
			if c, ok := rr.(*dns.CNAME); ok && reached[dns.CanonicalName(c.Hdr.Name)] {
				reached[dns.CanonicalName(c.Target)] = true
			}
		}
	}
	for _, rr := range records {
		if h := rr.Header(); h.Rrtype != q.kind || h.Class != dns.ClassINET || !reached[dns.CanonicalName(h.Name)] {
			continue
		}
		fields := strings.Fields(rr.String())
		if got, err := netip.ParseAddr(fields[len(fields)-1]); err == nil && got.Unmap() == addr {
			return true
		}
	}
	return false
}
