package dnsaudit

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
)

func TestForgedAnswersAreIgnored(t *testing.T) {
	stranger, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer stranger.Close()
	at := server(t, func(w dns.ResponseWriter, q *dns.Msg) {
		forged := func() *dns.Msg { return answered(q, dns.RcodeSuccess, "a.example. 60 A 192.0.2.66") }
		id := forged()
		id.Id++
		question := forged()
		question.Question[0].Name = "b.example."
		kind := forged()
		kind.Question[0].Qtype = dns.TypeTXT
		query := forged()
		query.Response = false
		opcode := forged()
		opcode.Opcode = dns.OpcodeNotify
		bare := forged()
		bare.Question, bare.Answer = nil, nil
		for _, m := range []*dns.Msg{id, question, kind, query, opcode, bare} {
			write(w, m)
		}
		_, _ = w.Write([]byte("\x00"))
		elsewhere, _ := forged().Pack()
		_, _ = stranger.WriteTo(elsewhere, w.RemoteAddr())
		<-time.After(50 * time.Millisecond)
		one("192.0.2.1")(w, q)
	})
	got := resolve(t, resolver(t, ample, at))
	require.Equal(t, policy.Resolution{RCode: "NOERROR", Addrs: addrs("192.0.2.1"), Upstream: at.String()}, got)
}

// big is an answer of 12 kB: 750 addresses in an order of its own.
func big() (records []string, want []netip.Addr) {
	for i := range 750 {
		a := netip.AddrFrom4([4]byte{198, 18 + byte(i%2), byte(i >> 8), byte(i)})
		records, want = append(records, "a.example. 60 A "+a.String()), append(want, a)
	}
	return records, want
}

func TestTruncatedAnswerComesOverTCP(t *testing.T) {
	records, want := big()
	at := server(t, families(func(w dns.ResponseWriter, q *dns.Msg) {
		m := answered(q, dns.RcodeSuccess, records...)
		m.Compress = true
		if w.RemoteAddr().Network() == "udp" {
			m.Truncate(dns.MinMsgSize)
		} else if m.Len() < 12_000 {
			t.Errorf("the answer is not big: %d bytes", m.Len())
		}
		write(w, m)
	}, says(dns.RcodeSuccess)))
	got := resolve(t, resolver(t, ample, at))
	require.Equal(t, policy.Resolution{RCode: "NOERROR", Addrs: want, Upstream: at.String()}, got)
}

// A truncated answer is never used for what it has.
func TestTruncatedAnswerWithoutTCP(t *testing.T) {
	at := server(t, func(w dns.ResponseWriter, q *dns.Msg) {
		if w.RemoteAddr().Network() == "tcp" {
			w.Close()
			return
		}
		m := answered(q, dns.RcodeSuccess, "a.example. 60 A 192.0.2.66")
		m.Truncated = true
		write(w, m)
	})
	got := resolve(t, resolver(t, ample, at))
	require.Empty(t, got.Addrs)
	require.Equal(t, at.String()+": truncated over UDP, then over TCP: connection closed without an answer", got.Detail)
}

func TestServerIgnoresTheSizeLimit(t *testing.T) {
	records, want := big()
	at := server(t, func(w dns.ResponseWriter, q *dns.Msg) {
		m := answered(q, dns.RcodeSuccess, records...)
		m.Compress = true
		write(w, m)
	})
	require.Equal(t, want, resolve(t, resolver(t, ample, at)).Addrs)
}

func TestQuestionsAsSent(t *testing.T) {
	type seen struct {
		name, from string
		id         uint16
		edns       uint16
		rd         bool
	}
	asked := make(chan seen, 64)
	at := server(t, func(w dns.ResponseWriter, q *dns.Msg) {
		s := seen{name: q.Question[0].Name, from: w.RemoteAddr().String(), id: q.Id, rd: q.RecursionDesired}
		if opt := q.IsEdns0(); opt != nil {
			s.edns = opt.UDPSize()
		}
		asked <- s
		write(w, answered(q, dns.RcodeSuccess))
	})
	r := resolver(t, ample, at)
	for range 8 {
		r.Resolve(t.Context(), policy.MustName("BÜCHER.Example."))
	}
	ids, ports := map[uint16]bool{}, map[string]bool{}
	for range 16 {
		s := <-asked
		ids[s.id], ports[s.from] = true, true
		require.Equal(t, seen{"xn--bcher-kva.example.", s.from, s.id, 1232, true}, s)
	}
	require.Greater(t, len(ids), 12, "IDs of 16 questions")
	require.Greater(t, len(ports), 8, "source ports of 16 questions")
}
