package dnsaudit

import (
	"net"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"

	"github.com/egressaudit/egressaudit/policy"
)

// BenchmarkResolve looks one name up, A and AAAA, at a server on loopback.
func BenchmarkResolve(b *testing.B) {
	r, name := resolver(b, ample, server(b, one("192.0.2.1"))), policy.MustName("a.example")
	b.ReportAllocs()
	for b.Loop() {
		if got := r.Resolve(b.Context(), name); got.RCode != noError {
			b.Fatal(got)
		}
	}
}

// BenchmarkExchange is the measure beside it: two bare exchanges of miekg/dns,
// one after the other.
func BenchmarkExchange(b *testing.B) {
	at := server(b, one("192.0.2.1")).String()
	client := dns.Client{}
	b.ReportAllocs()
	for b.Loop() {
		for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA} {
			if _, _, err := client.Exchange(new(dns.Msg).SetQuestion("a.example.", kind), at); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkForward asks through a forwarder, with many questions waiting at once
// as under dnsperf, at an upstream in this process. Beside it BenchmarkExchange
// shows what two bare exchanges cost.
func BenchmarkForward(b *testing.B) {
	at := raw(b, func(pkt []byte, _ string) [][]byte { pkt[2] |= 0x80; return [][]byte{pkt} })
	var n atomic.Int64
	d := forward(b, ForwarderConfig{Memory: NewMemory(0), Sink: func(*policy.Observation) error { n.Add(1); return nil }}, at)
	q := packed(b, asking("a.example.", dns.TypeA))
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(p *testing.PB) {
		conn, err := net.Dial("udp", d.at.String())
		if err != nil {
			b.Error(err)
			return
		}
		defer conn.Close()
		buf := make([]byte, 512)
		for p.Next() {
			if _, err := conn.Write(q); err != nil {
				b.Error(err)
				return
			}
			if _, err := conn.Read(buf); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.StopTimer()
	if d.Shutdown(b.Context()); n.Load() != int64(b.N) {
		b.Fatalf("%d observations of %d questions", n.Load(), b.N)
	}
}
