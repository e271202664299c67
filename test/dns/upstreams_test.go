//go:build linux

package dns

import (
	"bytes"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/test/suite"
)

// TestForged has somebody guess: answers with another ID, another question, and
// from another port arrive first, and the server's own 50 ms later.
func TestForged(t *testing.T) {
	need(t)
	late := func(answer []byte, send func([]byte)) {
		send(lie(answer, func(m *dns.Msg) { m.Id++ }))
		send(lie(answer, func(m *dns.Msg) { m.Question[0].Name = "wwv.lab.example." }))
		send(lie(answer, func(m *dns.Msg) { m.Question[0].Name = "WWW.lab.example." }))
		send([]byte("no DNS at all"))
		<-time.After(50 * time.Millisecond)
		send(answer)
	}
	l := between(t, network(t).resolver, "", late)
	said := ask(t, l.front.at, "dig @ +nocookie www.lab.example")
	require.Contains(t, said, "192.0.2.1")
	require.NotContains(t, said, "203.0.113.66")
	holds(t, l.back.at, l.queries(t),
		want{name: "www.lab.example", kind: "A", via: "udp", rcode: "NOERROR", answers: []string{"192.0.2.1"}, detail: map[string]any{"ignored": float64(2)}})
	asked, told := l.front.packets()
	passed, heard := l.back.packets()
	same(t, asked, passed)
	require.Len(t, heard, 5)
	same(t, heard[4:], told)
}

// lie is an answer with another address, and changed as told.
func lie(answer []byte, change func(*dns.Msg)) []byte {
	var m dns.Msg
	if m.Unpack(answer) != nil || len(m.Answer) == 0 {
		return nil
	}
	m.Answer[0].(*dns.A).A = net.IPv4(203, 0, 113, 66)
	change(&m)
	pkt, _ := m.Pack()
	return pkt
}

// TestForgedFromElsewhere sends the very answer that would be believed from
// another port of the same host.
func TestForgedFromElsewhere(t *testing.T) {
	need(t)
	elsewhere, err := net.ListenPacket("udp", address()+":0")
	require.NoError(t, err)
	defer elsewhere.Close()
	var back atomic.Pointer[tap]
	late := func(answer []byte, send func([]byte)) {
		forged := lie(answer, func(*dns.Msg) {})
		for _, c := range back.Load().clients() {
			elsewhere.WriteTo(forged, net.UDPAddrFromAddrPort(c))
		}
		<-time.After(50 * time.Millisecond)
		send(answer)
	}
	l := between(t, network(t).resolver, "", late)
	back.Store(l.back)
	require.Contains(t, ask(t, l.front.at, "dig @ +nocookie www.lab.example"), "\t192.0.2.1\n")
	l.faithful(t)
	holds(t, l.back.at, l.queries(t), want{name: "www.lab.example", kind: "A", via: "udp", rcode: "NOERROR", answers: []string{"192.0.2.1"}})
}

// TestOutOfOrder asks two questions on one TCP connection, of which the first is
// answered only after the second was.
func TestOutOfOrder(t *testing.T) {
	need(t)
	release := make(chan struct{})
	slow := func(answer []byte, send func([]byte)) {
		if bytes.Contains(answer, []byte("\x04slow")) {
			<-release
		}
		send(answer)
	}
	l := between(t, network(t).resolver, "", slow)
	conn, err := net.Dial("tcp", l.front.at)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	for id, name := range []string{"slow.lab.example.", "fast.lab.example.", "www.lab.example."} {
		q := new(dns.Msg).SetQuestion(name, dns.TypeA)
		q.Id = uint16(id)
		pkt, err := q.Pack()
		require.NoError(t, err)
		require.NoError(t, writeFrame(conn, pkt))
	}
	var order []uint16
	for i := range 3 {
		if i == 2 {
			close(release)
		}
		pkt, err := readFrame(conn)
		require.NoError(t, err)
		order = append(order, uint16(pkt[0])<<8|uint16(pkt[1]))
	}
	require.Equal(t, uint16(0), order[2], "the slow one comes last")
	records := l.queries(t)
	require.Len(t, records, 3)
	require.Equal(t, "slow.lab.example", records[2].Name)
	for _, r := range records {
		require.Equal(t, "tcp", r.Transport)
		require.Equal(t, records[0].Client, r.Client, "one connection")
		require.Equal(t, policy.OK, r.Outcome)
	}
}

// TestPipelined has dnsperf keep many questions open on a few TCP connections.
func TestPipelined(t *testing.T) {
	need(t)
	f := serve(t, network(t).authority)
	said := feed(t, strings.Repeat("www.lab.example A\nchain.lab.example A\nsvc.lab.example HTTPS\n", 500),
		"/usr/bin/dnsperf", "-m", "tcp", "-s", hostOf(f.at), "-n", "1", "-c", "4", "-q", "100")
	require.Regexp(t, `Queries completed: +1500 \(100`, said)
	require.Len(t, f.queries(t), 1500)
}

// TestDownThenBack ends the first of two resolvers, and starts it again.
func TestDownThenBack(t *testing.T) {
	need(t)
	n := network(t)
	anchor, err := n.anchor()
	require.NoError(t, err)
	host, dir := address(), t.TempDir()
	first, err := n.startUnbound(dir, host, anchor, false)
	require.NoError(t, err)
	t.Cleanup(func() { first.stop(syscall.SIGKILL) })
	f := serve(t, host+":53,"+n.resolver)
	who := func() string {
		require.Contains(t, ask(t, f.at, "dig @ +tries=1 +nocookie www.lab.example"), "192.0.2.1", "no client notices")
		return host
	}
	who()
	require.Zero(t, first.stop(syscall.SIGTERM))
	for range 5 {
		who()
	}
	first, err = n.startUnbound(dir, host, anchor, false)
	require.NoError(t, err)
	for begun := time.Now(); time.Since(begun) < 3*time.Second; { // it is tried again once a second
		who()
	}
	records := f.queries(t)
	var by []string
	for _, r := range records {
		require.Equal(t, policy.OK, r.Outcome)
		by = append(by, r.Upstream)
	}
	require.Equal(t, host+":53", by[0])
	require.Equal(t, slices.Repeat([]string{n.resolver}, 5), by[1:6])
	require.Contains(t, records[1].Detail["resolve"], host+":53: connection refused")
	back := slices.Index(by[6:], host+":53")
	require.GreaterOrEqual(t, back, 0, "asked again: %v", by)
	require.NotContains(t, by[6+back:], n.resolver, "and first from then on")
}

// TestOverTLS asks unbound over TLS, whose certificate the flag --trust makes
// good, for the name that stands behind the #.
func TestOverTLS(t *testing.T) {
	need(t)
	n := network(t)
	good := want{name: "www.lab.example", kind: "A", via: "udp", rcode: "NOERROR", answers: []string{"192.0.2.1"}}
	for _, row := range []struct {
		name, server string
		trust        bool
		why          string
	}{
		{"the name of its certificate", "#dns.lab.example", true, ""},
		{"its address", "", true, ""},
		{"another name", "#other.lab.example", true, "certificate is valid for dns.lab.example, not other.lab.example"},
		{"an authority that nobody knows", "#dns.lab.example", false, "certificate signed by unknown authority"},
	} {
		t.Run(row.name, func(t *testing.T) {
			var flags []string
			if row.trust {
				flags = []string{"--trust", n.ca}
			}
			upstream := "tls://" + n.secure + row.server
			f := serve(t, upstream, flags...)
			said := ask(t, f.at, "dig @ +tries=1 +nocookie www.lab.example") + ask(t, f.at, "dig @ +tcp +nocookie big.lab.example")
			records := f.queries(t)
			if row.why == "" {
				require.Contains(t, said, "192.0.2.1")
				require.Equal(t, 750, strings.Count(said, "\t198.51."))
				holds(t, upstream, records, good, want{name: "big.lab.example", kind: "A", via: "tcp", rcode: "NOERROR", answers: big()})
				return
			}
			require.Equal(t, 2, strings.Count(said, "status: SERVFAIL"), said)
			for _, r := range records {
				require.Equal(t, policy.DNSError, r.Error)
				require.Empty(t, r.Upstream)
				require.Contains(t, r.Detail["resolve"], row.why)
			}
		})
	}
}

// TestSilentUpstream has nobody answer: the client hears so in time, and the
// ledger who was silent.
func TestSilentUpstream(t *testing.T) {
	need(t)
	l := between(t, network(t).authority, "", func([]byte, func([]byte)) {}, "--dns-timeout", "600ms")
	require.Contains(t, ask(t, l.front.at, "dig @ +tries=1 +nocookie www.lab.example"), "status: SERVFAIL")
	holds(t, "", l.queries(t), want{name: "www.lab.example", kind: "A", via: "udp", outcome: failed, err: policy.DNSTimeout,
		detail: map[string]any{"resolve": l.back.at + ": no answer"}})
}

// TestCache keeps an answer as long as it may be kept.
func TestCache(t *testing.T) {
	need(t)
	l := between(t, network(t).authority, "", nil, "--dns-cache")
	for range 2 {
		require.Contains(t, ask(t, l.front.at, "dig @ +noedns www.lab.example"), "192.0.2.1")
	}
	require.Contains(t, ask(t, l.front.at, "dig @ +noedns www.lab.example AAAA"), "2001:db8::1")
	good := want{name: "www.lab.example", kind: "A", via: "udp", rcode: "NOERROR", answers: []string{"192.0.2.1"}}
	again := good
	again.detail = map[string]any{"cached": true}
	other := want{name: "www.lab.example", kind: "AAAA", via: "udp", rcode: "NOERROR", answers: []string{"2001:db8::1"}}
	holds(t, l.back.at, l.queries(t), good, again, other)
	passed, _ := l.back.packets()
	require.Len(t, passed, 2)
}

// TestOwnListener is an upstream that is our own door.
func TestOwnListener(t *testing.T) {
	need(t)
	host := address()
	d, err := spawn(suite.Program(t), "serve", "--proxy", host+":3128", "--dns", host+":53", "--resolver", host, "--ledger", filepath.Join(t.TempDir(), "l"))
	require.NoError(t, err)
	t.Cleanup(func() { d.stop(syscall.SIGKILL) })
	select {
	case <-d.done:
	case <-time.After(patience):
		require.FailNow(t, "serve goes on")
	}
	require.Equal(t, 2, d.cmd.ProcessState.ExitCode())
	require.Contains(t, d.said.String(), "that is our own listener")
}
