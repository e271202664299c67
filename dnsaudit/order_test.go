package dnsaudit

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestOrder(t *testing.T) {
	tests := []struct {
		why    string
		v4, v6 bool
		want   []netip.Addr
	}{
		{"IPv4 alone", true, false, addrs("192.0.2.2", "192.0.2.1", "2001:db8::2", "2001:db8::1")},
		{"both: IPv6 as RFC 6724 has it", true, true, addrs("2001:db8::2", "2001:db8::1", "192.0.2.2", "192.0.2.1")},
		{"IPv6 alone", false, true, addrs("2001:db8::2", "2001:db8::1", "192.0.2.2", "192.0.2.1")},
		{"neither: what is connected decides nothing", false, false, addrs("2001:db8::2", "2001:db8::1", "192.0.2.2", "192.0.2.1")},
	}
	for _, tt := range tests {
		r := Resolver{routes: fixedRoutes(tt.v4, tt.v6)}
		require.Equal(t, tt.want, r.order(addrs("192.0.2.2", "2001:db8::2", "192.0.2.1", "2001:db8::1", "192.0.2.2")), tt.why)
	}
}

func TestRoutesAreBelievedForAWhile(t *testing.T) {
	clock, probed := time.Unix(1e9, 0), 0
	r := routes{now: func() time.Time { return clock }, probe: func(string, string) bool { probed++; return probed > 2 }}
	v4, v6 := r.families()
	require.False(t, v4 || v6)
	clock = clock.Add(routesFor - 1)
	r.families()
	require.Equal(t, 2, probed)
	clock = clock.Add(1)
	v4, v6 = r.families()
	require.True(t, v4 && v6, "an interface came up")
}

func TestRouted(t *testing.T) {
	require.True(t, routed("udp4", "127.0.0.1:53"))
	require.False(t, routed("udp6", "[::1]:53"), "loopback leads nowhere in IPv6")
	require.False(t, routed("udp4", "[2001:db8::1]:53"))
}
