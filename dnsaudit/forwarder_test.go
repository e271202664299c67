package dnsaudit

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
)

const (
	eventually = 10 * time.Second
	tick       = time.Millisecond
)

// odd is an answer that no library would write: names uncompressed here and
// compressed there, records out of order, octets behind the last.
func oddAnswer(pkt []byte) []byte {
	a := append([]byte(nil), pkt...)
	a[2] |= 0x80
	end, _ := plainName(a, headerLen)
	a = append(a[:end+4:end+4], "\xC0\x0C\x00\x01\x00\x01\x00\x00\x00\x3C\x00\x04\xC0\x00\x02\x01"...)
	a = append(a, "\x01A\x07eXample\x00\xFF\x00\x00\x01\x00\x00\x00\x3C\x00\x01!junk"...)
	copy(a[6:], []byte{0, 2, 0, 0, 0, 0})
	return a
}

func TestPacketsPassAsTheyAre(t *testing.T) {
	cookie := asking("a.example.", dns.TypeA)
	cookie.SetEdns0(4096, true)
	opt := cookie.IsEdns0()
	opt.SetVersion(1)
	opt.Option = []dns.EDNS0{
		&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0123456789abcdef"},
		&dns.EDNS0_LOCAL{Code: 65001, Data: []byte("whatever")},
		&dns.EDNS0_PADDING{Padding: make([]byte, 31)},
	}
	flags := asking("a.example.", dns.TypeA)
	flags.AuthenticatedData, flags.CheckingDisabled, flags.Zero, flags.RecursionDesired = true, true, true, false
	chaos := asking("version.bind.", dns.TypeTXT)
	chaos.Question[0].Qclass = dns.ClassCHAOS
	tests := []struct {
		name     string
		pkt      []byte
		asked, a string
	}{
		{"plain", packed(t, asking("a.example.", dns.TypeA)), "a.example", "A"},
		{"0x20", packed(t, asking("mCr.MicroSOFT.cOm.", dns.TypeAAAA)), "mcr.microsoft.com", "AAAA"},
		{"EDNS 1 with options", packed(t, cookie), "a.example", "A"},
		{"AD, CD, Z and no RD", packed(t, flags), "a.example", "A"},
		{"unknown type", packed(t, asking("a.example.", 65280)), "a.example", "TYPE65280"},
		{"ANY", packed(t, asking("a.example.", dns.TypeANY)), "a.example", "ANY"},
		{"another class", packed(t, chaos), "version.bind", "TXT"},
		{"the root", packed(t, asking(".", dns.TypeNS)), ".", "NS"},
		{"octets behind the end", append(packed(t, asking("a.example.", dns.TypeA)), 0, 1, 2), "a.example", "A"},
		{"not text", packed(t, asking(`\000a b\.c\"\200.e\\.`, dns.TypeA)), `\000a\ b\.c\"\200.e\\`, "A"},
	}
	for _, network := range []string{"udp", "tcp"} {
		seen := make(chan []byte, 1)
		d := forward(t, ForwarderConfig{}, raw(t, func(pkt []byte, via string) [][]byte {
			seen <- pkt
			return [][]byte{oddAnswer(pkt)}
		}))
		for _, tt := range tests {
			t.Run(network+"/"+tt.name, func(t *testing.T) {
				pkt := withID(tt.pkt, 0xBEEF)
				got := d.ask(t, network, pkt)
				asked := <-seen
				require.Equal(t, pkt[2:], asked[2:], "what the upstream got")
				require.Equal(t, withID(oddAnswer(asked), 0xBEEF), got, "what the client got")
				o := d.next(t)
				require.Equal(t, tt.asked, o.Name)
				require.Equal(t, tt.a, o.Type)
				require.Equal(t, network, o.Transport)
			})
		}
	}
}

func TestEachQuestionHasItsOwnIDAndPort(t *testing.T) {
	var mu sync.Mutex
	ids, ports := map[uint16]bool{}, map[string]bool{}
	d := forward(t, ForwarderConfig{}, server(t, func(w dns.ResponseWriter, q *dns.Msg) {
		mu.Lock()
		ids[q.Id], ports[w.RemoteAddr().String()] = true, true
		mu.Unlock()
		one("192.0.2.1")(w, q)
	}))
	for range 64 {
		q := asking("a.example.", dns.TypeA)
		q.Id = 7
		d.exchange(t, "udp", q)
	}
	mu.Lock()
	defer mu.Unlock()
	require.Greater(t, len(ids), 60)
	require.Greater(t, len(ports), 56)
}

// Forged answers first, and the true one 50 ms later.
func TestForgedAnswersToClients(t *testing.T) {
	stranger, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer stranger.Close()
	d := forward(t, ForwarderConfig{}, server(t, func(w dns.ResponseWriter, q *dns.Msg) {
		forged := func(change func(m *dns.Msg)) {
			m := answered(q, dns.RcodeSuccess, "a.example. 60 A 192.0.2.66")
			change(m)
			write(w, m)
		}
		forged(func(m *dns.Msg) { m.Id++ })
		forged(func(m *dns.Msg) { m.Question[0].Name = "b.example." })
		forged(func(m *dns.Msg) { m.Question[0].Name = "a.eXample." })
		forged(func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeTXT })
		forged(func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS })
		forged(func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) })
		forged(func(m *dns.Msg) { m.Question = nil })
		forged(func(m *dns.Msg) { m.Response = false })
		forged(func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify })
		_, _ = w.Write([]byte("\x00"))
		elsewhere, _ := answered(q, dns.RcodeSuccess, "a.example. 60 A 192.0.2.66").Pack()
		_, _ = stranger.WriteTo(elsewhere, w.RemoteAddr())
		<-time.After(50 * time.Millisecond)
		one("192.0.2.1")(w, q)
	}))
	m := d.exchange(t, "udp", asking("a.example.", dns.TypeA))
	require.Equal(t, "192.0.2.1", m.Answer[0].(*dns.A).A.String())
	o := d.next(t)
	require.Equal(t, []string{"192.0.2.1"}, o.Answers)
	require.Equal(t, 8, o.Detail["ignored"], "with the right ID")
	require.Equal(t, uint64(10), d.Stats().Ignored, "from the right address")
}

// A server that answers in lower case is asked by TCP, where that is no risk.
func TestServerThatLosesTheCase(t *testing.T) {
	d := forward(t, ForwarderConfig{Timeout: short}, raw(t, func(pkt []byte, via string) [][]byte {
		a := oddAnswer(pkt)
		copy(a[headerLen:], bytes.ToLower(a[headerLen:headerLen+11]))
		return [][]byte{a}
	}))
	m := d.exchange(t, "udp", asking("A.Example.", dns.TypeA))
	require.Equal(t, "a.example.", m.Question[0].Name, "as the server wrote it")
	o := d.next(t)
	require.Equal(t, policy.OK, o.Outcome)
	require.Equal(t, "a.example", o.Name)
}

func TestLateAnswersAreCounted(t *testing.T) {
	release := make(chan struct{})
	d := forward(t, ForwarderConfig{Timeout: short / 5}, server(t, func(w dns.ResponseWriter, q *dns.Msg) {
		<-release
		one("192.0.2.1")(w, q)
	}))
	m := d.exchange(t, "udp", asking("a.example.", dns.TypeA))
	require.Equal(t, dns.RcodeServerFailure, m.Rcode)
	require.Equal(t, policy.Verdict{Outcome: policy.Failed, Error: policy.DNSTimeout, By: policy.ByResolver, Confidence: policy.Certain}, d.next(t).Verdict)
	close(release)
	require.Eventually(t, func() bool { return d.Stats().Ignored > 0 }, eventually, tick)
	d.empty(t)
}

func bigServer(t *testing.T) netip.AddrPort {
	records, _ := big()
	return server(t, func(w dns.ResponseWriter, q *dns.Msg) {
		m := answered(q, dns.RcodeSuccess, records...)
		m.Compress = true
		if w.RemoteAddr().Network() == "udp" {
			m.Truncate(dns.MinMsgSize)
		}
		write(w, m)
	})
}

func TestLargeAnswers(t *testing.T) {
	_, want := big()
	d := forward(t, ForwarderConfig{}, bigServer(t))
	m := d.exchange(t, "udp", asking("a.example.", dns.TypeA))
	require.True(t, m.Truncated)
	o := d.next(t)
	require.Equal(t, policy.OK, o.Outcome)
	require.Equal(t, true, o.Detail["truncated"])
	require.Empty(t, o.Answers, "a truncated answer is not used for what it has")

	pkt := d.ask(t, "tcp", packed(t, asking("a.example.", dns.TypeA)))
	require.Greater(t, len(pkt), 12_000)
	o = d.next(t)
	require.Len(t, o.Answers, len(want))
	require.Equal(t, want[749].String(), o.Answers[749])
	require.Nil(t, o.Detail)
}

// Over UDP nobody gets more than he takes, whatever the server sends.
func TestAnswersFitTheClient(t *testing.T) {
	answer := func(size int) func(pkt []byte, _ string) [][]byte {
		return func(pkt []byte, _ string) [][]byte {
			a := append(oddAnswer(pkt), make([]byte, size)...)
			return [][]byte{a[:size]}
		}
	}
	tests := []struct {
		edns     int // 0: none
		answer   int
		complete bool
	}{
		{0, 512, true}, {0, 513, false}, {0, 12000, false},
		{100, 512, true}, {100, 513, false},
		{1232, 1232, true}, {1232, 1233, false},
		{4096, 4096, true}, {65535, 12000, true},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%d of %d", tt.answer, tt.edns), func(t *testing.T) {
			d := forward(t, ForwarderConfig{}, raw(t, answer(tt.answer)))
			q := asking("a.example.", dns.TypeA)
			if tt.edns > 0 {
				q.SetEdns0(uint16(tt.edns), true)
			}
			asked := packed(t, q)
			pkt := d.ask(t, "udp", asked)
			o := d.next(t)
			require.Equal(t, []string{"192.0.2.1"}, o.Answers)
			if tt.complete {
				require.Len(t, pkt, tt.answer)
				return
			}
			require.LessOrEqual(t, len(pkt), len(asked), "no amplification")
			var m dns.Msg
			require.NoError(t, m.Unpack(pkt))
			require.True(t, m.Truncated && m.Response)
			require.Equal(t, q.Question, m.Question)
			require.Empty(t, m.Answer)
			require.Equal(t, tt.edns > 0, m.IsEdns0() != nil && m.IsEdns0().Do())
			require.Equal(t, uint64(1), d.Stats().Truncated)
		})
	}
}

// Several questions on one TCP connection are answered as their answers come.
func TestTCPAnswersOutOfOrder(t *testing.T) {
	release := make(chan struct{})
	d := forward(t, ForwarderConfig{}, server(t, func(w dns.ResponseWriter, q *dns.Msg) {
		go func() {
			if q.Question[0].Name == "slow.example." {
				<-release
			}
			write(w, answered(q, dns.RcodeSuccess, q.Question[0].Name+" 60 A 192.0.2.1"))
		}()
	}))
	conn := d.dial(t, "tcp")
	names := map[uint16]string{1: "slow.example.", 2: "b.example.", 3: "c.example."}
	for id := uint16(1); id <= 3; id++ {
		q := asking(names[id], dns.TypeA)
		q.Id = id
		send(t, conn, packed(t, q))
	}
	var last uint16
	for n := range 3 {
		if n == 2 {
			close(release)
		}
		var m dns.Msg
		require.NoError(t, m.Unpack(receive(t, conn)))
		require.Equal(t, names[m.Id], m.Question[0].Name)
		last = m.Id
	}
	require.Equal(t, uint16(1), last)
}

// A client that closes its half of the connection still gets its answers.
func TestTCPHalfClose(t *testing.T) {
	asked := make(chan struct{})
	release := make(chan struct{})
	d := forward(t, ForwarderConfig{}, server(t, func(w dns.ResponseWriter, q *dns.Msg) {
		close(asked)
		<-release
		one("192.0.2.1")(w, q)
	}))
	conn := d.dial(t, "tcp")
	send(t, conn, packed(t, asking("a.example.", dns.TypeA)))
	require.NoError(t, conn.(*net.TCPConn).CloseWrite())
	<-asked
	close(release)
	receive(t, conn)
	_, err := conn.Read(make([]byte, 1))
	require.Error(t, err, "and then the end")
}

// One address has an eighth of the connections, and what is too many is closed.
func TestTCPConnections(t *testing.T) {
	d := forward(t, ForwarderConfig{Connections: 16}, server(t, one("192.0.2.1")))
	ends := func(conn net.Conn) bool {
		_, err := conn.Write(frame(packed(t, asking("a.example.", dns.TypeA))))
		if err == nil {
			_, err = conn.Read(make([]byte, 1))
		}
		return err != nil
	}
	for range 2 {
		require.False(t, ends(d.dial(t, "tcp")))
	}
	require.True(t, ends(d.dial(t, "tcp")))
	require.Equal(t, uint64(1), d.Stats().Dropped)
}

func TestRate(t *testing.T) {
	d := forward(t, ForwarderConfig{Rate: 0.001}, server(t, one("192.0.2.1")))
	require.Equal(t, dns.RcodeSuccess, d.exchange(t, "udp", asking("a.example.", dns.TypeA)).Rcode)
	require.Equal(t, policy.OK, d.next(t).Outcome)
	require.Equal(t, dns.RcodeRefused, d.exchange(t, "tcp", asking("a.example.", dns.TypeA)).Rcode)
	o := d.next(t)
	require.Equal(t, policy.Verdict{Outcome: policy.Denied, Error: policy.ConnectionLimitReached, By: policy.BySelf, Confidence: policy.Certain}, o.Verdict)
	require.Equal(t, whyRate, o.Detail["why"])
	require.Equal(t, Stats{Questions: 2, Denied: 1}, d.Stats())
}

// What comes while too many questions wait is refused, and recorded as that.
func TestTooManyQuestions(t *testing.T) {
	d := forward(t, ForwarderConfig{}, nobody(t))
	d.waiting.Store(maxQuestions)
	require.Equal(t, dns.RcodeServerFailure, d.exchange(t, "udp", asking("a.example.", dns.TypeA)).Rcode)
	o := d.next(t)
	require.Equal(t, policy.Verdict{Outcome: policy.Denied, Error: policy.ConnectionLimitReached, By: policy.BySelf, Confidence: policy.Certain}, o.Verdict)
	require.Equal(t, whyFull, o.Detail["why"])
	require.Equal(t, "SERVFAIL", o.RCode)
}

// Answers come from the address that was asked, where the socket has them all.
func TestWildcardListener(t *testing.T) {
	f, err := NewForwarder(ForwarderConfig{Upstreams: []Upstream{{Addr: server(t, one("192.0.2.1"))}}, Sink: (&notebook{more: make(chan struct{}, 8)}).sink})
	require.NoError(t, err)
	udp, err := net.ListenPacket("udp4", "0.0.0.0:0")
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- f.Serve(udp, nil) }()
	port := udp.LocalAddr().(*net.UDPAddr).Port
	for _, own := range []net.IP{net.IPv4(127, 0, 0, 1), net.IPv4(127, 0, 0, 5)} {
		conn, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}, &net.UDPAddr{IP: own, Port: port})
		require.NoError(t, err)
		defer conn.Close()
		require.NoError(t, conn.SetDeadline(time.Now().Add(eventually)))
		send(t, conn, packed(t, asking("a.example.", dns.TypeA)))
		receive(t, conn) // a connected socket takes nothing from another address
	}
	f.Shutdown(t.Context())
	require.NoError(t, <-done)
}

func TestUnrecordedIsCounted(t *testing.T) {
	d := forward(t, ForwarderConfig{Sink: func(*policy.Observation) error { return fmt.Errorf("disk full") }}, server(t, one("192.0.2.1")))
	d.exchange(t, "udp", asking("a.example.", dns.TypeA))
	require.Eventually(t, func() bool { return d.Stats().Unrecorded == 1 }, eventually, tick)
}

func TestServeRefusesItself(t *testing.T) {
	for _, bind := range []string{"127.0.0.1:0", "0.0.0.0:0"} {
		udp, err := net.ListenPacket("udp4", bind)
		require.NoError(t, err)
		port := udp.LocalAddr().(*net.UDPAddr).AddrPort().Port()
		f, err := NewForwarder(ForwarderConfig{
			Upstreams: []Upstream{{Addr: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)}}, Sink: (&notebook{}).sink,
		})
		require.NoError(t, err)
		require.ErrorContains(t, f.Serve(udp, nil), "that is our own listener")
	}
}

func TestNewForwarder(t *testing.T) {
	up := []Upstream{{Addr: netip.MustParseAddrPort("192.0.2.1:53")}}
	sink := (&notebook{}).sink
	for why, c := range map[string]ForwarderConfig{
		"no name server is known": {Sink: sink},
		"records nothing":         {Upstreams: up},
		"DNS timeout -1ns: less":  {Upstreams: up, Sink: sink, Timeout: -1},
		"DNS rate -1: less":       {Upstreams: up, Sink: sink, Rate: -1},
		"not an address and port": {Upstreams: []Upstream{{}}, Sink: sink},
		"and how to ask it":       {Upstreams: []Upstream{{Addr: up[0].Addr, Transport: "quic"}}, Sink: sink},
	} {
		_, err := NewForwarder(c)
		require.ErrorContains(t, err, why)
	}
}

// The canary is refused without asking anybody, and is no client's question.
func TestCanary(t *testing.T) {
	d := forward(t, ForwarderConfig{
		Canary: policy.MustName("c.canary.egressaudit.invalid"), Clients: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
	}, server(t, func(dns.ResponseWriter, *dns.Msg) {
		t.Error("somebody else than the clients was served, or the canary passed on")
	}))
	send(t, d.dial(t, "udp"), packed(t, asking("a.example.", dns.TypeA)))
	send(t, d.dial(t, "tcp"), packed(t, asking("a.example.", dns.TypeA)))
	for _, network := range []string{"udp", "tcp"} {
		require.Equal(t, dns.RcodeRefused, d.exchange(t, network, asking("C.canary.egressaudit.invalid.", dns.TypeA)).Rcode)
		o := d.next(t)
		require.Equal(t, policy.OriginCanary, o.Origin)
		require.Equal(t, policy.Denied, o.Outcome)
		require.Empty(t, o.Error)
	}
	require.Eventually(t, func() bool { return d.Stats().Strangers == 2 }, eventually, tick)
}

// TestLoop: an upstream that asks us again is found, one that only fails is not.
func TestLoop(t *testing.T) {
	udp, tcp := listen(t)
	back := udp.LocalAddr().(*net.UDPAddr).AddrPort()
	middle := forward(t, ForwarderConfig{}, back) // asks the forwarder below
	seen := &notebook{more: make(chan struct{}, 1<<20)}
	f, err := NewForwarder(ForwarderConfig{Upstreams: []Upstream{{Addr: middle.at}}, Sink: seen.sink})
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- f.Serve(udp, tcp) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		f.Shutdown(ctx)
		require.NoError(t, <-done)
	})
	ctx, cancel := context.WithTimeout(t.Context(), ample)
	defer cancel()
	require.ErrorContains(t, f.Loop(ctx), "it asks us again")
	require.Equal(t, policy.OriginCanary, seen.next(t).Origin)

	d := forward(t, ForwarderConfig{}, server(t, says(dns.RcodeNameError)), server(t, says(dns.RcodeServerFailure)))
	require.NoError(t, d.Loop(ctx))
	d.empty(t)
}
