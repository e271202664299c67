package isolate

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/quic"

	"github.com/egressaudit/egressaudit/policy"
)

var (
	from = netip.MustParseAddrPort("192.0.0.8:40000")
	to   = netip.MustParseAddrPort("198.51.100.9:443")
)

// book is a Refusals with what it records.
type book struct {
	*Refusals
	records []policy.Observation
}

func newBook(judge func(*policy.Observation)) *book {
	b := &book{}
	b.Refusals = NewRefusals(func(o *policy.Observation) bool {
		o.ID, o.Verdict = o.SNI+o.Address.String(), policy.Verdict{Outcome: policy.Denied, Error: policy.HTTPRequestDenied}
		judge(o)
		return false
	}, func(o *policy.Observation) error { b.records = append(b.records, *o); return nil })
	return b
}

func agree(*policy.Observation) {}

// initials are the first datagrams of a QUIC client that asks for name.
func initials(t *testing.T, name string) (datagrams [][]byte) {
	t.Helper()
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer server.Close()
	client, err := quic.Listen("udp", "127.0.0.1:0", nil)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	dialed := make(chan struct{})
	go func() {
		defer close(dialed)
		client.Dial(ctx, "udp", server.LocalAddr().String(), &quic.Config{TLSConfig: &tls.Config{ServerName: name, MinVersion: tls.VersionTLS13, NextProtos: []string{"h3"}}})
	}()
	for range 2 { // a post-quantum hello is longer than one
		b := make([]byte, 2048)
		n, _, err := server.ReadFrom(b)
		require.NoError(t, err)
		datagrams = append(datagrams, b[:n])
	}
	cancel()
	<-dialed
	client.Close(ctx)
	return datagrams
}

// TestRefusals: a record at once and one at the end for each destination, QUIC by
// the name in it.
func TestRefusals(t *testing.T) {
	b := newBook(agree)
	ntp := Packet{Why: Refused, Protocol: "udp", From: from, To: netip.MustParseAddrPort("198.51.100.9:123"), Payload: []byte("x")}
	for range 3 {
		b.Add(ntp)
	}
	require.Len(t, b.records, 1, "once, at once")
	require.True(t, b.records[0].Open)
	b.Add(Packet{Why: Refused, Protocol: "icmp", From: netip.AddrPortFrom(from.Addr(), 0), To: netip.AddrPortFrom(to.Addr(), 0)})
	for i, name := range []string{"one.example.org", "two.example.org"} {
		for _, d := range initials(t, name) {
			b.Add(Packet{Why: Refused, Protocol: "udp", From: netip.AddrPortFrom(from.Addr(), uint16(1000+i)), To: to, Payload: d})
		}
	}
	b.Add(Packet{Why: Refused, Protocol: "udp", From: netip.AddrPortFrom(from.Addr(), 999), To: to, Payload: initials(t, "three.example.org")[1]})
	b.Add(Packet{Why: Closed, Protocol: "tcp", From: from, To: netip.MustParseAddrPort("127.0.0.1:6443")})
	b.Add(Packet{Why: Closed, Protocol: "tcp", From: from, To: netip.MustParseAddrPort("127.0.0.1:6443")})
	require.Equal(t, []string{"the command asked for 127.0.0.1:6443 on its own loopback, where nothing listens: where the host's is meant, run it with --isolate-allow 127.0.0.1:6443"}, b.End())

	type line struct {
		protocol, sni string
		state         policy.SNIState
		port          uint16
		packets       any
		why           any
	}
	var last []line
	for _, o := range b.records {
		if !o.Open {
			require.Equal(t, policy.Denied, o.Outcome)
			last = append(last, line{o.Protocol, o.SNI, o.SNIState, o.Port, o.Detail["packets"], o.Detail["why"]})
		}
	}
	const udp, quic = "UDP is refused with --isolate, which carries TCP and DNS", "QUIC is refused with --isolate, which carries TCP and DNS; clients turn to TCP"
	require.Equal(t, line{"other", "", policy.SNINotTLS, 123, 3, udp}, last[0])
	require.Equal(t, line{"other", "", policy.SNINotTLS, 0, 1, "ICMP is refused with --isolate, which carries TCP and DNS"}, last[1])
	require.Equal(t, []any{"quic", "one.example.org", policy.SNIPresent, quic}, []any{last[2].protocol, last[2].sni, last[2].state, last[2].why})
	require.Equal(t, "two.example.org", last[3].sni)
	require.Equal(t, line{"quic", "", policy.SNIUnparsed, 443, 1, quic}, last[4], "half a hello is told at the end")
	require.Len(t, last, 5)
}

// TestGuarded leaves a denial by the guard as it is.
func TestGuarded(t *testing.T) {
	b := newBook(func(o *policy.Observation) { o.Error = policy.DestinationProhibited })
	b.Add(Packet{Why: Refused, Protocol: "udp", From: from, To: netip.MustParseAddrPort("224.0.0.251:5353")})
	require.Nil(t, b.records[0].Detail)
	require.Empty(t, b.End())
}

// TestBounds: a command that sends everywhere fills no memory, and is told of.
func TestBounds(t *testing.T) {
	b := newBook(agree)
	at := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, 0xc6330000+uint32(i)))), 443)
	}
	half := initials(t, "one.example.org")[1]
	for i := range maxRefused + 10 {
		b.Add(Packet{Why: Refused, Protocol: "udp", From: from, To: at(i), Payload: half})
		b.Add(Packet{Why: Closed, Protocol: "tcp", From: from, To: at(i)})
		require.LessOrEqual(t, len(b.hellos), maxHellos)
	}
	blind := b.End()
	require.Equal(t, "10 packets to more destinations than 4096 were refused, and are not recorded one by one", blind[0])
	require.Len(t, blind, 1+maxClosed)
	require.Len(t, b.records, 2*maxRefused)
}

func TestParse(t *testing.T) {
	four := []byte{0x46, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 0, 8, 198, 51, 100, 9, 1, 1, 1, 1, 0x9c, 0x40, 1, 0xbb, 0, 0, 0, 0, 'h', 'i'}
	p, ok := parse(Refused, four)
	require.True(t, ok)
	require.Equal(t, Packet{Refused, "udp", from, to, []byte("hi")}, p)
	for n := range 24 {
		_, ok := parse(Refused, four[:n])
		require.False(t, ok, "cut to %d", n)
	}
	six := append([]byte{0x60, 0, 0, 0, 0, 0, 58, 64}, append(netip.MustParseAddr("100:0:0:1::1").AsSlice(), netip.MustParseAddr("2001:db8::9").AsSlice()...)...)
	p, ok = parse(Refused, six)
	require.True(t, ok)
	require.Equal(t, "icmp", p.Protocol)
	require.Equal(t, "[2001:db8::9]:0", p.To.String())
	six[6] = 47
	p, _ = parse(Refused, six)
	require.Equal(t, "47", p.Protocol)
	tcp := append(append([]byte{}, six...), 1, 0xbb, 0x9c, 0x40, 0, 0, 0, 0)
	tcp[6] = 6
	p, _ = parse(Closed, tcp)
	require.Equal(t, "[2001:db8::9]:40000 [100:0:0:1::1]:443", p.From.String()+" "+p.To.String(), "the answer tells who asked")
}

func FuzzParse(f *testing.F) {
	f.Add(uint16(1), []byte{0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 1, 2, 3, 4, 5, 6, 7, 8})
	f.Add(uint16(2), make([]byte, 60))
	f.Fuzz(func(t *testing.T, why uint16, b []byte) {
		if p, ok := parse(Why(why), b); ok && (!p.To.Addr().IsValid() || !p.From.Addr().IsValid() || p.Protocol == "") {
			t.Fatalf("%v", p)
		}
	})
}
