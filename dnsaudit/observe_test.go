package dnsaudit

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
)

// replies answers whatever is asked with these records.
func replies(rcode int, records ...string) script {
	return func(w dns.ResponseWriter, q *dns.Msg) { write(w, answered(q, rcode, records...)) }
}

func TestObservations(t *testing.T) {
	okay := policy.Verdict{Outcome: policy.OK}
	failed := func(e policy.Error, c policy.Confidence) policy.Verdict {
		return policy.Verdict{Outcome: policy.Failed, Error: e, By: policy.ByResolver, Confidence: c}
	}
	sinkhole := failed(policy.DNSSinkhole, policy.Certain)
	chain5 := []string{"a.example. 9 CNAME b.example.", "d.example. 9 CNAME e.example.", "c.example. 9 CNAME d.example.",
		"b.example. 9 CNAME C.example.", "e.example. 9 CNAME f.example.", "f.example. 9 A 192.0.2.7", "x.example. 9 A 192.0.2.66"}
	type detail = map[string]any
	tests := []struct {
		name  string
		asked string // "NAME TYPE"
		says  script
		want  policy.Observation
	}{
		{"an address", "A.Example. A", one("192.0.2.1"),
			policy.Observation{RCode: "NOERROR", Answers: []string{"192.0.2.1"}, Verdict: okay}},
		{"a chain of five", "a.example. A", replies(0, chain5...),
			policy.Observation{RCode: "NOERROR", Answers: []string{"192.0.2.7"}, CNAMEs: []string{"b.example", "c.example", "d.example", "e.example", "f.example"}, Verdict: okay}},
		{"a chain that leads nowhere", "a.example. AAAA", replies(0, "a.example. 9 CNAME ."),
			policy.Observation{RCode: "NOERROR", CNAMEs: []string{"."}, Verdict: okay}},
		{"a loop", "a.example. A", replies(0, "a.example. 9 CNAME a.example.", "a.example. 9 A 192.0.2.1"),
			policy.Observation{RCode: "NOERROR", CNAMEs: []string{"a.example"}, Verdict: okay, Detail: detail{"chain": "a CNAME loop"}}},
		{"a CNAME, asked for", "a.example. CNAME", replies(0, "a.example. 9 CNAME b.example."),
			policy.Observation{RCode: "NOERROR", Answers: []string{"b.example."}, CNAMEs: []string{"b.example"}, Verdict: okay}},
		{"no address in this family is no failure", "a.example. AAAA", says(dns.RcodeSuccess),
			policy.Observation{RCode: "NOERROR", Verdict: okay}},
		{"NXDOMAIN may be a stale row", "a.example. A", says(dns.RcodeNameError),
			policy.Observation{RCode: "NXDOMAIN", Verdict: failed(policy.DNSError, policy.Likely), Detail: detail{"rcode": "NXDOMAIN"}}},
		{"NXDOMAIN behind a chain", "a.example. A", replies(dns.RcodeNameError, "a.example. 9 CNAME b.example."),
			policy.Observation{RCode: "NXDOMAIN", CNAMEs: []string{"b.example"}, Verdict: failed(policy.DNSError, policy.Likely), Detail: detail{"rcode": "NXDOMAIN"}}},
		{"SERVFAIL", "a.example. A", says(dns.RcodeServerFailure),
			policy.Observation{RCode: "SERVFAIL", Verdict: failed(policy.DNSError, policy.Certain), Detail: detail{"rcode": "SERVFAIL"}}},
		{"REFUSED with a reason", "a.example. A", func(w dns.ResponseWriter, q *dns.Msg) {
			m := answered(q, dns.RcodeRefused)
			m.SetEdns0(1232, false)
			m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeBlocked, ExtraText: "policy 7"}}
			write(w, m)
		}, policy.Observation{RCode: "REFUSED", Verdict: failed(policy.DNSError, policy.Certain),
			Detail: detail{"rcode": "REFUSED", "extended_error": `extended error 15 (Blocked) "policy 7"`}}},
		{"BADVERS", "a.example. A", func(w dns.ResponseWriter, q *dns.Msg) {
			m := answered(q, dns.RcodeSuccess)
			m.SetEdns0(1232, false)
			m.Rcode = dns.RcodeBadVers
			write(w, m)
		}, policy.Observation{RCode: "BADVERS", Verdict: failed(policy.DNSError, policy.Certain), Detail: detail{"rcode": "BADVERS"}}},
		{"a sinkhole", "a.example. A", one("0.0.0.0"),
			policy.Observation{RCode: "NOERROR", Answers: []string{"0.0.0.0"}, Verdict: sinkhole}},
		{"a sinkhole in IPv6", "a.example. AAAA", replies(0, "a.example. 9 AAAA ::"),
			policy.Observation{RCode: "NOERROR", Answers: []string{"::"}, Verdict: sinkhole}},
		{"a sinkhole on this host", "a.example. A", one("127.0.0.53"),
			policy.Observation{RCode: "NOERROR", Answers: []string{"127.0.0.53"}, Verdict: sinkhole}},
		{"a sinkhole, translated", "a.example. AAAA", replies(0, "a.example. 9 AAAA 64:ff9b::7f00:1"),
			policy.Observation{RCode: "NOERROR", Answers: []string{"64:ff9b::7f00:1"}, Verdict: sinkhole}},
		{"a link-local sinkhole", "a.example. A", one("169.254.1.1"),
			policy.Observation{RCode: "NOERROR", Answers: []string{"169.254.1.1"}, Verdict: sinkhole}},
		{"an address that is allowed", "a.example. A", one("127.0.0.99"),
			policy.Observation{RCode: "NOERROR", Answers: []string{"127.0.0.99"}, Verdict: okay}},
		{"one good address is enough", "a.example. A", replies(0, "a.example. 9 A 0.0.0.0", "a.example. 9 A 192.0.2.1"),
			policy.Observation{RCode: "NOERROR", Answers: []string{"0.0.0.0", "192.0.2.1"}, Verdict: okay}},
		{"a block page", "a.example. A", one("198.51.100.7"),
			policy.Observation{RCode: "NOERROR", Answers: []string{"198.51.100.7"}, Verdict: sinkhole}},
		{"localhost is no sinkhole", "x.localhost. A", replies(0, "x.localhost. 9 A 127.0.0.1"),
			policy.Observation{RCode: "NOERROR", Answers: []string{"127.0.0.1"}, Verdict: okay}},
		{"texts", "a.example. TXT", replies(0, `a.example. 9 TXT "x y" "\000\"z"`, "b.example. 9 TXT no"),
			policy.Observation{RCode: "NOERROR", Answers: []string{`"x y" "\000\"z"`}, Verdict: okay}},
		{"ANY", "a.example. ANY", replies(0, "a.example. 9 A 192.0.2.1", "a.example. 9 MX 1 m.example."),
			policy.Observation{RCode: "NOERROR", Answers: []string{"A 192.0.2.1", "MX 1 m.example."}, Verdict: okay}},
		{"an unknown type", "a.example. TYPE65280", replies(0, `a.example. 9 TYPE65280 \# 2 abcd`),
			policy.Observation{RCode: "NOERROR", Answers: []string{`\# 2 abcd`}, Verdict: okay}},
		{"h3 and ech offered", "a.example. HTTPS", replies(0, `a.example. 9 HTTPS 1 . alpn="h3,h2" ech="AEX+DQA="`, `a.example. 9 HTTPS 2 . alpn="h2"`),
			policy.Observation{RCode: "NOERROR", Answers: []string{`1 . alpn="h3,h2" ech="AEX+DQA="`, `2 . alpn="h2"`}, Verdict: okay,
				Detail: detail{"alpn": []string{"h3", "h2"}, "ech": true}}},
		{"a name that is not text", `\000a\ b\"\.\200. A`, says(dns.RcodeNameError),
			policy.Observation{Name: `\000a\ b\"\.\200`, RCode: "NXDOMAIN", Verdict: failed(policy.DNSError, policy.Likely), Detail: detail{"rcode": "NXDOMAIN"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			at := server(t, tt.says)
			d := forward(t, ForwarderConfig{
				Allowed: []netip.Prefix{netip.MustParsePrefix("127.0.0.99/32")}, BlockPages: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/28")},
			}, at)
			name, kind, _ := strings.Cut(tt.asked, ". ")
			q := asking(name+".", 65280)
			if k, known := dns.StringToType[kind]; known {
				q.Question[0].Qtype = k
			}
			d.exchange(t, "tcp", q)
			o := d.next(t)
			require.WithinDuration(t, time.Now(), o.Begun, time.Minute)
			require.True(t, o.Client.Addr().IsLoopback())
			want := tt.want
			want.Kind, want.Type, want.Transport, want.Upstream = policy.KindQuery, kind, "tcp", at.String()
			want.Begun, want.Client, want.DurationMS = o.Begun, o.Client, o.DurationMS
			if want.Name == "" {
				want.Name = strings.ToLower(name)
			}
			require.Equal(t, &want, o)
			text, err := json.Marshal(o)
			require.NoError(t, err)
			require.True(t, json.Valid(text))
		})
	}
}

// What cannot be read is passed on as it is, and told.
func TestMalformedAnswer(t *testing.T) {
	d := forward(t, ForwarderConfig{}, raw(t, func(pkt []byte, _ string) [][]byte {
		a := oddAnswer(pkt)
		return [][]byte{a[:len(a)-20]}
	}))
	pkt := packed(t, asking("a.example.", dns.TypeA))
	require.Len(t, d.ask(t, "udp", pkt), len(oddAnswer(pkt))-20)
	o := d.next(t)
	require.Equal(t, "0 of 2 answer records readable", o.Detail["malformed"])
	require.Equal(t, "NOERROR", o.RCode)
}

func TestLongTextsAreCut(t *testing.T) {
	var records []string
	for range 40 {
		records = append(records, `a.example. 9 TXT "`+strings.Repeat("x", 200)+`"`)
	}
	d := forward(t, ForwarderConfig{}, server(t, replies(0, records...)))
	d.exchange(t, "tcp", asking("a.example.", dns.TypeTXT))
	o := d.next(t)
	require.Len(t, o.Answers, maxTexts/202)
	require.Equal(t, true, o.Detail["answers_cut"])
}

func TestForwarderTeachesMemory(t *testing.T) {
	memory := NewMemory(0)
	d := forward(t, ForwarderConfig{Memory: memory}, server(t, replies(0,
		"A.example. 300 CNAME b.example.", "b.example. 120 A 192.0.2.1", "b.example. 120 A 192.0.2.2", "c.example. 300 A 192.0.2.66")))
	d.exchange(t, "udp", asking("A.example.", dns.TypeA))
	o := d.next(t)
	for _, a := range []string{"192.0.2.1", "192.0.2.2"} {
		require.Equal(t, []string{"a.example"}, memory.Names(netip.MustParseAddr(a), o.Begun.Add(119*time.Second)))
		require.Empty(t, memory.Names(netip.MustParseAddr(a), o.Begun.Add(120*time.Second)))
	}
	require.Empty(t, memory.Names(netip.MustParseAddr("192.0.2.66"), o.Begun))

	d = forward(t, ForwarderConfig{Memory: memory}, server(t, replies(0, "a.example. 300 A 127.0.0.1")))
	d.exchange(t, "udp", asking("a.example.", dns.TypeA))
	d.next(t)
	require.Empty(t, memory.Names(netip.MustParseAddr("127.0.0.1"), o.Begun), "a sinkhole is nobody's address")
}

func TestStripECH(t *testing.T) {
	// The names behind the HTTPS records are compressed, and point behind them.
	says := replies(0, `a.example. 9 HTTPS 1 svc.other.test. mandatory="alpn,ech" alpn="h3,h2" ech="AEX+DQA=" ipv4hint="192.0.2.1"`,
		`a.example. 9 HTTPS 2 . mandatory="ech" ech="AEX+DQA="`, `a.example. 9 HTTPS 3 . alpn="h2"`,
		"x.deep.zone.test. 9 NS ns1.zone.test.", "y.deep.zone.test. 9 SOA ns1.zone.test. m.deep.zone.test. 1 2 3 4 5", "z.deep.zone.test. 9 MX 1 x.deep.zone.test.")
	want := []string{`a.example. 9 IN HTTPS 1 svc.other.test. mandatory="alpn" alpn="h3,h2" ipv4hint="192.0.2.1"`,
		"a.example. 9 IN HTTPS 2 .", `a.example. 9 IN HTTPS 3 . alpn="h2"`,
		"x.deep.zone.test. 9 IN NS ns1.zone.test.", "y.deep.zone.test. 9 IN SOA ns1.zone.test. m.deep.zone.test. 1 2 3 4 5", "z.deep.zone.test. 9 IN MX 1 x.deep.zone.test."}
	at := server(t, func(w dns.ResponseWriter, q *dns.Msg) {
		says(writer{w, func(m *dns.Msg) { m.Compress, m.AuthenticatedData = true, true }}, q)
	})
	d := forward(t, ForwarderConfig{StripECH: true}, at)
	m := d.exchange(t, "tcp", asking("a.example.", dns.TypeHTTPS))
	var got []string
	for _, rr := range m.Answer {
		got = append(got, strings.ReplaceAll(rr.String(), "\t", " "))
	}
	require.Equal(t, want, got)
	require.False(t, m.AuthenticatedData)
	o := d.next(t)
	require.Equal(t, map[string]any{"alpn": []string{"h3", "h2"}, "ech": true, "ech_stripped": true}, o.Detail)
	require.Contains(t, o.Answers[0], "ech=", "the record tells what the upstream said")

	m = forward(t, ForwarderConfig{}, at).exchange(t, "tcp", asking("a.example.", dns.TypeHTTPS))
	require.Contains(t, m.Answer[0].String(), "ech=", "off by default")
}

// writer changes each message before it is written.
type writer struct {
	dns.ResponseWriter
	change func(*dns.Msg)
}

func (w writer) WriteMsg(m *dns.Msg) error { w.change(m); return w.ResponseWriter.WriteMsg(m) }

// Whatever is cut out of a message, all else in it reads as before.
func FuzzStripECH(f *testing.F) {
	for _, compress := range []bool{true, false} {
		m := answered(asking("a.example.", dns.TypeHTTPS), 0, `a.example. 9 HTTPS 1 svc.a.example. mandatory="alpn,ech" alpn="h3" ech="AEX+DQA=" port=1`,
			`svc.a.example. 9 SVCB 2 . ech="AEX+DQA="`, "b.svc.example. 9 CNAME c.svc.example.", "c.svc.example. 9 SRV 1 2 3 b.svc.example.", "d.svc.example. 9 TXT x")
		m.Compress = compress
		m.SetEdns0(1232, true)
		pkt, err := m.Pack()
		require.NoError(f, err)
		f.Add(pkt)
	}
	f.Fuzz(func(t *testing.T, pkt []byte) {
		c, ok := findECH(pkt)
		if !ok {
			return
		}
		if len(c.holes) == 0 {
			require.Equal(t, pkt, c.pkt)
			return
		}
		before := pkt[:len(pkt):len(pkt)]
		out := c.close()
		require.Less(t, len(out), len(before))
		again, ok := findECH(out)
		require.True(t, ok)
		require.Empty(t, again.holes, "nothing is left")
		var was, is dns.Msg
		if was.Unpack(before) != nil {
			return
		}
		was.AuthenticatedData = false
		if err := is.Unpack(out); err != nil {
			t.Fatalf("%v:\n%x\n%x", err, before, out)
		}
		withoutECH(&was)
		require.Equal(t, was.String(), is.String(), "%x\n%x", before, out)
	})
}

// withoutECH does by the library what cut does by octets.
func withoutECH(m *dns.Msg) {
	for _, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range section {
			switch rr := rr.(type) {
			case *dns.HTTPS:
				rr.Value, rr.Hdr.Rdlength = lessECH(rr.Value), 0
			case *dns.SVCB:
				rr.Value, rr.Hdr.Rdlength = lessECH(rr.Value), 0
			}
		}
	}
}

func lessECH(params []dns.SVCBKeyValue) (left []dns.SVCBKeyValue) {
	for _, p := range params {
		if m, ok := p.(*dns.SVCBMandatory); ok {
			had := len(m.Code)
			m.Code = deleteCode(m.Code, dns.SVCB_ECHCONFIG)
			if had > 0 && len(m.Code) == 0 {
				continue
			}
		}
		if p.Key() != dns.SVCB_ECHCONFIG {
			left = append(left, p)
		}
	}
	return left
}

func deleteCode(codes []dns.SVCBKey, gone dns.SVCBKey) (left []dns.SVCBKey) {
	for _, c := range codes {
		if c != gone {
			left = append(left, c)
		}
	}
	return left
}
