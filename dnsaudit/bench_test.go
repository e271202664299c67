package dnsaudit

import (
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
