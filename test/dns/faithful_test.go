//go:build linux

package dns

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
)

const (
	ech    = "AEX+DQBBpQAgACAH"
	failed = policy.Failed
)

// TestFaithful asks what a forwarder gets wrong that takes packets apart, with
// and without EDNS, of an authority and of a validating resolver. Nothing but the
// ID may change, and the ledger has to say what was answered.
func TestFaithful(t *testing.T) {
	need(t)
	n := network(t)
	www := want{name: "www.lab.example", kind: "A", via: "udp", rcode: "NOERROR", answers: []string{"192.0.2.1"}}
	over := func(w want, via string) want { w.via = via; return w }
	for _, row := range []struct {
		name, server, args string
		says               []string // in what the client prints
		wants              []want
	}{
		{"plain, without EDNS", n.authority, "dig @ +noedns www.lab.example", []string{"status: NOERROR", "192.0.2.1", "flags: qr aa rd;"}, []want{www}},
		{"over TCP", n.resolver, "kdig @ +tcp www.lab.example", []string{"status: NOERROR", "192.0.2.1"}, []want{over(www, "tcp")}},
		{"an EDNS version that nobody has", n.authority, "dig @ +edns=7 +noednsnegotiation www.lab.example", []string{"status: BADVERS", "version: 0"},
			[]want{{name: "www.lab.example", kind: "A", via: "udp", rcode: "BADVERS", outcome: failed, err: policy.DNSError, detail: map[string]any{"rcode": "BADVERS"}}}},
		{"an EDNS version that is negotiated", n.authority, "dig @ +edns=7 +nocookie www.lab.example", []string{"status: NOERROR", "192.0.2.1"},
			[]want{{name: "www.lab.example", kind: "A", via: "udp", rcode: "BADVERS", outcome: failed, err: policy.DNSError, detail: map[string]any{"rcode": "BADVERS"}}, www}},
		{"an EDNS option that nobody has", n.authority, "dig @ +nocookie +ednsopt=65001:68656c6c6f +ednsflags=0x40 www.lab.example", []string{"status: NOERROR", "192.0.2.1"}, []want{www}},
		{"NSID of the server behind us", n.authority, "kdig @ +nsid www.lab.example", []string{"knot-of-the-test"}, []want{www}},
		{"padding and client subnet", n.resolver, "kdig @ +padding=64 +subnet=192.0.2.0/24 www.lab.example", []string{"status: NOERROR", "192.0.2.1"}, []want{www}},
		{"a cookie, which the server demands", n.authority, "dig @ +cookie www.lab.example", []string{"(good)", "192.0.2.1"},
			[]want{{name: "www.lab.example", kind: "A", via: "udp", rcode: "BADCOOKIE", outcome: failed, err: policy.DNSError, detail: map[string]any{"rcode": "BADCOOKIE"}}, www}},
		{"a signed answer", n.resolver, "dig @ +dnssec +nocookie www.lab.example", []string{"flags: qr rd ra ad;", "flags: do;", "RRSIG"}, []want{www}},
		{"AD alone", n.resolver, "dig @ +adflag +nocookie www.lab.example", []string{"flags: qr rd ra ad;", "192.0.2.1"}, []want{www}},
		{"no AD where it is not asked for", n.resolver, "dig @ +noadflag +nocookie www.lab.example", []string{"flags: qr rd ra;", "192.0.2.1"}, []want{www}},
		{"CD", n.resolver, "dig @ +cdflag +nocookie www.bogus.example", []string{"status: NOERROR", "192.0.2.66", "flags: qr rd ra cd;"},
			[]want{{name: "www.bogus.example", kind: "A", via: "udp", rcode: "NOERROR", answers: []string{"192.0.2.66"}}}},
		{"a name that does not exist", n.resolver, "dig @ +nocookie gone.lab.example", []string{"status: NXDOMAIN"},
			[]want{{name: "gone.lab.example", kind: "A", via: "udp", rcode: "NXDOMAIN", outcome: failed, err: policy.DNSError, detail: map[string]any{"rcode": "NXDOMAIN"}}}},
		{"a type that the name does not have", n.resolver, "dig @ +nocookie www.lab.example MX", []string{"status: NOERROR", "ANSWER: 0"},
			[]want{{name: "www.lab.example", kind: "MX", via: "udp", rcode: "NOERROR"}}},
		{"five CNAMEs", n.resolver, "dig @ +nocookie chain.lab.example", []string{"192.0.2.4"},
			[]want{{name: "chain.lab.example", kind: "A", via: "udp", rcode: "NOERROR", answers: []string{"192.0.2.4"},
				cnames: []string{"c1.lab.example", "c2.lab.example", "c3.lab.example", "c4.lab.example", "end.lab.example"}}}},
		{"a type without a name", n.resolver, "dig @ +nocookie odd.lab.example TYPE65280", []string{`\# 4 0A000001`},
			[]want{{name: "odd.lab.example", kind: "TYPE65280", via: "udp", rcode: "NOERROR", answers: []string{`\# 4 0a000001`}}}},
		{"HTTPS with ech", n.resolver, "dig @ +nocookie svc.lab.example HTTPS", []string{"ech=" + ech},
			[]want{{name: "svc.lab.example", kind: "HTTPS", via: "udp", rcode: "NOERROR", answers: []string{`1 . alpn="h3,h2" ech="` + ech + `"`},
				detail: map[string]any{"alpn": []any{"h3", "h2"}, "ech": true}}}},
		{"text", n.resolver, "dig @ +nocookie text.lab.example TXT", []string{`"one" "two three"`},
			[]want{{name: "text.lab.example", kind: "TXT", via: "udp", rcode: "NOERROR", answers: []string{`"one" "two three"`}}}},
		{"any type", n.authority, "dig @ +nocookie +notcp text.lab.example ANY +noedns", []string{"status: NOERROR", `"two three"`},
			[]want{{name: "text.lab.example", kind: "ANY", via: "udp", rcode: "NOERROR", answers: []string{`TXT "one" "two three"`}}}},
		{"the letters of the name as the client spells them", n.resolver, "dig @ +nocookie wWw.LaB.eXaMpLe", []string{"wWw.LaB.eXaMpLe."}, []want{www}},
		{"a name with octets that are no text", n.resolver, `dig @ +nocookie a\032b\000c\".any.lab.example`, []string{"192.0.2.9"},
			[]want{{name: `a\ b\000c\".any.lab.example`, kind: "A", via: "udp", rcode: "NOERROR", answers: []string{"192.0.2.9"}}}},
		{"a name of 63 octets in a label", n.resolver, "dig @ +nocookie " + strings.Repeat("x", 63) + ".any.lab.example", []string{"192.0.2.9"},
			[]want{{name: strings.Repeat("x", 63) + ".any.lab.example", kind: "A", via: "udp", rcode: "NOERROR", answers: []string{"192.0.2.9"}}}},
		{"this host, by a public name", n.resolver, "dig @ +nocookie here.lab.example", []string{"127.0.0.1"},
			[]want{{name: "here.lab.example", kind: "A", via: "udp", rcode: "NOERROR", answers: []string{"127.0.0.1"}, outcome: failed, err: policy.DNSSinkhole}}},
	} {
		t.Run(row.name, func(t *testing.T) {
			l := between(t, row.server, "", nil)
			said := ask(t, l.front.at, row.args)
			for _, word := range row.says {
				require.Contains(t, said, word)
			}
			records := l.queries(t)
			l.faithful(t)
			holds(t, l.back.at, records, row.wants...)
		})
	}
}

// TestBogus has a zone that unbound is told to be signed, and is not.
func TestBogus(t *testing.T) {
	need(t)
	l := between(t, network(t).resolver, "", nil)
	require.Contains(t, ask(t, l.front.at, "dig @ +nocookie www.bogus.example"), "status: SERVFAIL")
	records := l.queries(t)
	asked, told := l.front.packets()
	passed, heard := l.back.packets()
	require.Contains(t, passed, asked[0], "as it came")
	require.Contains(t, heard, told[0])
	require.Len(t, records, 1)
	require.Equal(t, "SERVFAIL", records[0].RCode)
	require.Equal(t, policy.Verdict{Outcome: failed, Error: policy.DNSError, By: policy.ByResolver, Confidence: policy.Certain}, records[0].Verdict)
	require.Contains(t, records[0].Detail["extended_error"], "extended error")
}

// TestUnknownOptionArrives reads the option where the server does.
func TestUnknownOptionArrives(t *testing.T) {
	need(t)
	l := between(t, network(t).authority, "", nil)
	ask(t, l.front.at, "kdig @ +edns +ednsopt=65001:68656c6c6f www.lab.example")
	l.queries(t)
	passed, _ := l.back.packets()
	require.Len(t, passed, 1)
	require.True(t, bytes.Contains(passed[0], []byte("\xFD\xE9\x00\x05hello")), "%x", passed[0])
}

// TestStripECH keeps server names visible: the ech parameter goes, and the rest
// of the answer stays.
func TestStripECH(t *testing.T) {
	need(t)
	l := between(t, network(t).resolver, "", nil, "--strip-ech")
	said := ask(t, l.front.at, "dig @ +nocookie svc.lab.example HTTPS")
	require.Contains(t, said, `1 . alpn="h3,h2"`)
	require.NotContains(t, said, "ech")
	require.Contains(t, ask(t, l.front.at, "dig @ +nocookie www.lab.example"), "192.0.2.1")
	holds(t, l.back.at, l.queries(t),
		want{name: "svc.lab.example", kind: "HTTPS", via: "udp", rcode: "NOERROR", answers: []string{`1 . alpn="h3,h2" ech="` + ech + `"`},
			detail: map[string]any{"alpn": []any{"h3", "h2"}, "ech": true, "ech_stripped": true}},
		want{name: "www.lab.example", kind: "A", via: "udp", rcode: "NOERROR", answers: []string{"192.0.2.1"}})
	_, told := l.front.packets()
	_, heard := l.back.packets()
	require.Less(t, len(told[0]), len(heard[0]))
	same(t, heard[1:], told[1:])
}
