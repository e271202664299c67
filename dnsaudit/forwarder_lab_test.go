package dnsaudit

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
)

// notebook keeps what a forwarder tells.
type notebook struct {
	mu   sync.Mutex
	all  []*policy.Observation
	more chan struct{}
}

func (n *notebook) sink(o *policy.Observation) error {
	n.mu.Lock()
	n.all = append(n.all, o)
	n.mu.Unlock()
	n.more <- struct{}{}
	return nil
}

// next waits for one observation more.
func (n *notebook) next(t testing.TB) *policy.Observation {
	t.Helper()
	select {
	case <-n.more:
	case <-time.After(10 * time.Second):
		t.Fatal("no observation came")
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	o := n.all[0]
	n.all = n.all[1:]
	return o
}

func (n *notebook) empty(t testing.TB) {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	require.Empty(t, n.all)
}

// desk is a forwarder that serves on loopback until the test ends.
type desk struct {
	*Forwarder
	*notebook
	at netip.AddrPort
}

func forward(t testing.TB, c ForwarderConfig, upstreams ...netip.AddrPort) *desk {
	t.Helper()
	for _, u := range upstreams {
		c.Upstreams = append(c.Upstreams, Upstream{Addr: u})
	}
	d := &desk{notebook: &notebook{more: make(chan struct{}, 1<<20)}}
	if c.Sink == nil {
		c.Sink = d.sink
	}
	f, err := NewForwarder(c)
	require.NoError(t, err)
	d.Forwarder = f
	udp, tcp := listen(t)
	d.at = udp.LocalAddr().(*net.UDPAddr).AddrPort()
	done := make(chan error, 1)
	go func() { done <- f.Serve(udp, tcp) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		f.Shutdown(ctx)
		require.NoError(t, <-done)
	})
	return d
}

// raw answers packets by their octets alone, on one port of 127.0.0.1.
func raw(t testing.TB, answer func(pkt []byte, via string) [][]byte) netip.AddrPort {
	t.Helper()
	udp, tcp := listen(t)
	t.Cleanup(func() { udp.Close(); tcp.Close() })
	go func() {
		buf := make([]byte, 1<<16)
		for {
			n, from, err := udp.ReadFrom(buf)
			if err != nil {
				return
			}
			for _, a := range answer(append([]byte(nil), buf[:n]...), "udp") {
				_, _ = udp.WriteTo(a, from)
			}
		}
	}()
	go func() {
		for {
			conn, err := tcp.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for {
					pkt, err := readFrame(conn)
					if err != nil {
						return
					}
					for _, a := range answer(pkt, "tcp") {
						_, _ = conn.Write(frame(a))
					}
				}
			}()
		}
	}()
	return udp.LocalAddr().(*net.UDPAddr).AddrPort()
}

func frame(pkt []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(pkt))), pkt...)
}

// dial connects a client to d.
func (d *desk) dial(t testing.TB, network string) net.Conn {
	t.Helper()
	conn, err := net.Dial(network, d.at.String())
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	return conn
}

func send(t testing.TB, conn net.Conn, pkt []byte) {
	t.Helper()
	if conn.LocalAddr().Network() == "tcp" {
		pkt = frame(pkt)
	}
	_, err := conn.Write(pkt)
	require.NoError(t, err)
}

func receive(t testing.TB, conn net.Conn) []byte {
	t.Helper()
	if conn.LocalAddr().Network() == "tcp" {
		pkt, err := readFrame(conn)
		require.NoError(t, err)
		return pkt
	}
	buf := make([]byte, 1<<16)
	n, err := conn.Read(buf)
	require.NoError(t, err)
	return buf[:n]
}

// ask sends one packet, and returns what comes back.
func (d *desk) ask(t testing.TB, network string, pkt []byte) []byte {
	t.Helper()
	conn := d.dial(t, network)
	defer conn.Close()
	send(t, conn, pkt)
	return receive(t, conn)
}

// exchange asks by message.
func (d *desk) exchange(t testing.TB, network string, q *dns.Msg) *dns.Msg {
	t.Helper()
	var m dns.Msg
	require.NoError(t, m.Unpack(d.ask(t, network, packed(t, q))))
	require.Equal(t, q.Id, m.Id)
	return &m
}

func packed(t testing.TB, m *dns.Msg) []byte {
	t.Helper()
	pkt, err := m.Pack()
	require.NoError(t, err)
	return pkt
}

func asking(name string, kind uint16) *dns.Msg { return new(dns.Msg).SetQuestion(name, kind) }

// withID is pkt with another ID.
func withID(pkt []byte, id uint16) []byte {
	pkt = append([]byte(nil), pkt...)
	binary.BigEndian.PutUint16(pkt, id)
	return pkt
}

// running counts the goroutines of forwarders.
func running() int {
	return goroutines("(*Forwarder)", "(*udpDoor)", "(*tcpDoor)", "(*tcpClient)", "(*socket)", "(*stream)", "(*streams)")
}

// goroutines counts those that one of these functions of the package is part of.
func goroutines(within ...string) (n int) {
	stacks := make([]byte, 4<<20)
	for g := range strings.SplitSeq(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
		if slices.ContainsFunc(within, func(f string) bool { return strings.Contains(g, "dnsaudit."+f) }) {
			n++
		}
	}
	return n
}
