package proxy

import (
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
)

// dialFrom connects from an address of loopback.
func (r *rig) dialFrom(from string) *net.TCPConn {
	r.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := d.Dial("tcp", r.address)
	require.NoError(r.t, err)
	r.t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

// TestStrangersWait: those who may not use the proxy never keep clients out, nor does
// one client keep out another. A stranger is told so while there is room.
func TestStrangersWait(t *testing.T) {
	const most, ofOne = 16, 4
	r := newRig(t, func(c *Config) {
		c.Clients = prefixes("127.0.0.1/32", "127.0.0.2/32")
		c.Limits.Tunnels, c.Limits.ClientTunnels, c.Limits.HeaderTimeout = most, ofOne, time.Hour
	})
	for range most / 8 {
		r.dialFrom("127.0.0.3")
	}
	for range ofOne {
		r.dialFrom("127.0.0.2")
	}
	require.Eventually(t, func() bool { return r.proxy.waiting.count() == most/8+ofOne }, patience, time.Millisecond)
	for i, from := range []string{"127.0.0.3", "127.0.0.4", "127.0.0.2"} {
		_, err := r.dialFrom(from).Read(make([]byte, 1))
		require.Error(t, err, "ended at once")
		require.Equal(t, policy.ConnectionLimitReached, r.closing(i + 1)[i].Error)
	}
	conn, _ := r.connect(host, site(t, func(s *net.TCPConn) { io.Copy(s, s) }))
	conn.Close()
	require.NotEqual(t, policy.Denied, r.closing(4)[3].Outcome)
}

// TestTurnedAway: those for whom there is no room take none, however many come before
// net/http has seen the end of the first.
func TestTurnedAway(t *testing.T) {
	l := newLobby(Limits{Tunnels: 16, ClientTunnels: 16})
	var stranger netip.Addr
	for i := range 100 {
		require.Equal(t, i < 2, l.enter(stranger))
	}
	client := netip.MustParseAddr("192.0.2.1")
	for i := range 100 {
		require.Equal(t, i < 14, l.enter(client))
	}
	l.leave(client)
	require.True(t, l.enter(client))
}

// TestManyWithoutARequest: connections that say nothing are bounded, and those
// turned away are recorded.
func TestManyWithoutARequest(t *testing.T) {
	const most = 5
	r := newRig(t, func(c *Config) { c.Limits.Tunnels, c.Limits.HeaderTimeout = most, time.Hour })
	var all []*net.TCPConn
	for range most {
		all = append(all, r.dial())
	}
	require.Eventually(t, func() bool { return r.proxy.waiting.count() == most }, patience, time.Millisecond)
	extra := r.dial()
	_, err := extra.Read(make([]byte, 1))
	require.Error(t, err, "ended at once")
	o := r.one()
	require.Equal(t, []any{policy.Denied, policy.ConnectionLimitReached}, []any{o.Outcome, o.Error})
	for _, c := range all {
		c.Close()
	}
	require.Eventually(t, func() bool { return r.proxy.waiting.count() == 0 }, patience, time.Millisecond)
	conn, _ := r.connect(host, site(t, func(s *net.TCPConn) { io.Copy(s, s) }))
	conn.Close()
	require.NotEqual(t, policy.Denied, r.closing(2)[1].Outcome, "and then there is room again")
}
