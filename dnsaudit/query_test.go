package dnsaudit

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
)

// nobody is an upstream that must not be asked.
func nobody(t testing.TB) netip.AddrPort {
	return raw(t, func(pkt []byte, via string) [][]byte {
		t.Errorf("an upstream was asked by %s: %x", via, pkt)
		return nil
	})
}

// plain is a question for a.example, changed.
func plain(t testing.TB, change func(pkt []byte) []byte) []byte {
	m := asking("a.example.", dns.TypeA)
	m.Id = 0x1234
	m.SetEdns0(1232, false)
	return change(packed(t, m))
}

func TestRefusedPackets(t *testing.T) {
	set := func(at int, values ...byte) func([]byte) []byte {
		return func(pkt []byte) []byte { copy(pkt[at:], values); return pkt }
	}
	to := func(n int) func([]byte) []byte { return func(pkt []byte) []byte { return pkt[:n] } }
	const end = headerLen + len("\x01a\x07example\x00")
	tests := []struct {
		name   string
		change func([]byte) []byte
		rcode  int // -1: no answer
	}{
		{"no header", to(11), -1},
		{"nothing", to(0), -1},
		{"an answer", set(2, 0x80), -1},
		{"an answer of another opcode", set(2, 0xA8), -1},
		{"IQUERY", set(2, 0x08), dns.RcodeNotImplemented},
		{"STATUS", set(2, 0x10), dns.RcodeNotImplemented},
		{"NOTIFY", set(2, 0x20), dns.RcodeNotImplemented},
		{"UPDATE", set(2, 0x28), dns.RcodeNotImplemented},
		{"opcode 15", set(2, 0x78), dns.RcodeNotImplemented},
		{"truncated, it says itself", set(2, 0x02), dns.RcodeFormatError},
		{"no question", set(4, 0, 0), dns.RcodeFormatError},
		{"two questions", set(4, 0, 2), dns.RcodeFormatError},
		{"65535 questions", set(4, 0xFF, 0xFF), dns.RcodeFormatError},
		{"header alone", to(headerLen), dns.RcodeFormatError},
		{"cut in the name", to(headerLen + 5), dns.RcodeFormatError},
		{"cut before the root", to(end - 1), dns.RcodeFormatError},
		{"cut in the type", to(end + 1), dns.RcodeFormatError},
		{"cut in the class", to(end + 3), dns.RcodeFormatError},
		{"cut before OPT", to(end + 4), dns.RcodeFormatError},
		{"cut in OPT", to(end + 10), dns.RcodeFormatError},
		{"a name that points", set(headerLen, 0xC0, 0x0C), dns.RcodeFormatError},
		{"a label of an unknown kind", set(headerLen, 0x41), dns.RcodeFormatError},
		{"a label longer than the packet", set(headerLen, 63), dns.RcodeFormatError},
		{"a record more than there are", set(10, 0, 2), dns.RcodeFormatError},
		{"two OPT", func(pkt []byte) []byte {
			pkt[11] = 2
			return append(pkt, pkt[len(pkt)-optLen:]...)
		}, dns.RcodeFormatError},
		{"a name of 256 octets", func(pkt []byte) []byte {
			long := strings.Repeat("\x3F"+strings.Repeat("a", 63), 4) // and the root
			return append(append(append([]byte(nil), pkt[:headerLen]...), long...), pkt[end-1:]...)
		}, dns.RcodeFormatError},
	}
	for _, network := range []string{"udp", "tcp"} {
		d := forward(t, ForwarderConfig{}, nobody(t))
		for _, tt := range tests {
			t.Run(network+"/"+tt.name, func(t *testing.T) {
				pkt := plain(t, tt.change)
				conn := d.dial(t, network)
				send(t, conn, pkt)
				if tt.rcode >= 0 {
					got := receive(t, conn)
					require.Len(t, got, headerLen)
					require.Equal(t, pkt[:2], got[:2])
					require.Equal(t, flagQR|pkt[2]&(opcode|flagRD), got[2])
					require.Equal(t, byte(tt.rcode), got[3]&0x0F)
					require.Equal(t, make([]byte, 8), got[4:])
				}
				d.empty(t)
			})
		}
		// what got no answer gets none later either: the next answer is the next question's
		d.exchange(t, network, asking("a.example.", dns.TypeAXFR))
		require.Equal(t, "AXFR", d.next(t).Type)
		d.empty(t)
	}
}

func TestZoneTransfersAreRefused(t *testing.T) {
	d := forward(t, ForwarderConfig{}, nobody(t))
	for _, network := range []string{"udp", "tcp"} {
		for _, kind := range []uint16{dns.TypeAXFR, dns.TypeIXFR} {
			q := asking("Example.ORG.", kind)
			if kind == dns.TypeIXFR {
				q.Ns = []dns.RR{record("example.org. 0 SOA a. b. 1 2 3 4 5")}
			}
			m := d.exchange(t, network, q)
			require.Equal(t, dns.RcodeRefused, m.Rcode)
			require.Equal(t, q.Question, m.Question)
			o := d.next(t)
			require.Equal(t, policy.Verdict{Outcome: policy.Denied, By: policy.BySelf, Confidence: policy.Certain}, o.Verdict)
			require.Equal(t, "example.org", o.Name)
			require.Equal(t, dns.TypeToString[kind], o.Type)
			require.Equal(t, whyTransfer, o.Detail["why"])
		}
	}
}

func TestStrangersGetNothing(t *testing.T) {
	d := forward(t, ForwarderConfig{Clients: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}, nobody(t))
	udp := d.dial(t, "udp")
	send(t, udp, packed(t, asking("a.example.", dns.TypeA)))
	tcp := d.dial(t, "tcp")
	_, err := tcp.Read(make([]byte, 1))
	require.Error(t, err, "the connection is closed")
	require.Eventually(t, func() bool { return d.Stats().Strangers == 2 }, eventually, tick)
	require.Zero(t, d.Stats().Questions)
	d.empty(t)
}

// readQuery agrees with miekg/dns about the name, type and EDNS of whatever both
// take, and whatever it takes stands in the packet.
func FuzzReadQuery(f *testing.F) {
	f.Add(plain(f, func(pkt []byte) []byte { return pkt }))
	f.Add([]byte("\x00\x00\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03\x00\\.\x02\xff \x00\xff\x00\x00\x01junk"))
	f.Fuzz(func(t *testing.T, pkt []byte) {
		before := bytes.Clone(pkt)
		q, d := readQuery(pkt)
		require.Equal(t, before, pkt)
		reply := refusal(pkt, d)
		require.LessOrEqual(t, len(reply), len(pkt))
		if d != enter {
			require.Nil(t, q)
			return
		}
		require.Nil(t, reply)
		require.Equal(t, uint16(1), binary.BigEndian.Uint16(pkt[4:]))
		wire := make([]byte, 512)
		end, err := dns.PackDomainName(dns.Fqdn(strings.TrimSuffix(q.name, ".")+"."), wire, 0, nil, false)
		if q.name == "." {
			end, err = dns.PackDomainName(".", wire, 0, nil, false)
		}
		require.NoError(t, err, "%q", q.name)
		require.True(t, foldedEqual(append(wire[:end:end], q.question[len(q.question)-4:]...), q.question), "%q", q.name)
		short := q.short(dns.RcodeServerFailure, true)
		require.LessOrEqual(t, len(short), len(pkt), "no amplification")
		var m dns.Msg
		require.NoError(t, m.Unpack(short))
		require.Equal(t, q.edns, m.IsEdns0() != nil)
		if err := m.Unpack(pkt); err == nil {
			require.Equal(t, m.Question[0].Qtype, q.kind)
			require.Equal(t, bare(dns.CanonicalName(m.Question[0].Name)), q.name)
			if opt := m.IsEdns0(); opt != nil && q.edns {
				require.Equal(t, min(max(512, int(opt.UDPSize())), maxUDP), q.size)
				require.Equal(t, opt.Do(), q.do)
			}
		}
	})
}
