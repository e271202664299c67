package dnsaudit

import (
	"context"
	"encoding/binary"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
)

// Nothing that was read is lost on shutdown: every packet that had arrived is
// answered and recorded.
func TestShutdownLosesNothing(t *testing.T) {
	udp, tcp := listen(t)
	shutdownLosesNothing(t, tcp, udp)
}

func shutdownLosesNothing(t *testing.T, tcp net.Listener, udps ...net.PacketConn) {
	const n = 40 // so many packets of four clients find room in a socket
	release := make(chan struct{})
	var asked atomic.Int32
	upstream := server(t, func(w dns.ResponseWriter, q *dns.Msg) {
		asked.Add(1)
		<-release
		one("192.0.2.1")(w, q)
	})
	book := &notebook{more: make(chan struct{}, 1<<16)}
	f, err := NewForwarder(ForwarderConfig{Upstreams: []Upstream{{Addr: upstream}}, Sink: book.sink})
	require.NoError(t, err)
	var clients []net.Conn
	for _, network := range []string{"udp", "udp", "udp", "udp", "tcp", "tcp"} {
		conn, err := net.Dial(network, udps[0].LocalAddr().String())
		require.NoError(t, err)
		defer conn.Close()
		require.NoError(t, conn.SetDeadline(time.Now().Add(eventually)))
		clients = append(clients, conn)
		for id := range n {
			q := asking("a.example.", dns.TypeA)
			q.Id = uint16(id)
			send(t, conn, packed(t, q))
		}
	}
	done := make(chan error, len(udps))
	for i, udp := range udps { // the packets have arrived before
		l := tcp
		if i > 0 {
			l = nil
		}
		go func() { done <- f.Serve(udp, l) }()
	}
	// A Serve that begins after the end takes nothing from its socket any more.
	require.Eventually(t, func() bool { return goroutines("(*udpDoor).serve(") == len(udps) && asked.Load() >= 8 }, eventually, tick)
	down := make(chan struct{})
	go func() { f.Shutdown(context.Background()); close(down) }()
	<-f.closing
	close(release)
	for _, conn := range clients {
		ids := map[uint16]bool{}
		for range n {
			ids[binary.BigEndian.Uint16(receive(t, conn))] = true
		}
		require.Len(t, ids, n)
	}
	<-down
	for range udps {
		require.NoError(t, <-done)
	}
	require.Len(t, book.all, n*len(clients))
	require.Eventually(t, func() bool { return running() == 0 }, eventually, tick, "goroutines that run on")
}

// When the time for it is over, what still waits is answered and recorded as
// ended by us.
func TestShutdownCutsOff(t *testing.T) {
	asked := make(chan struct{}, 8)
	d := forward(t, ForwarderConfig{}, server(t, func(dns.ResponseWriter, *dns.Msg) { asked <- struct{}{} }))
	for _, network := range []string{"udp", "tcp"} {
		conn := d.dial(t, network)
		send(t, conn, packed(t, asking("a.example.", dns.TypeA)))
	}
	<-asked
	<-asked
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	d.Shutdown(ctx)
	for range 2 {
		require.Equal(t, policy.Verdict{Outcome: policy.Abandoned, By: policy.BySelf}, d.next(t).Verdict)
	}
	require.Eventually(t, func() bool { return running() == 0 }, eventually, tick, "goroutines that run on")
	require.NoError(t, d.Serve(nil, nil), "after the end")
}
