package lab_test

import (
	"context"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/test/lab"
)

func TestSitesHaveAddressesOfTheirOwn(t *testing.T) {
	w := start(t, map[string]lab.Behaviour{"*": lab.Site{}, "a.test:8084": lab.Site{}})
	seen := map[netip.AddrPort]bool{}
	for _, host := range []string{"a.test", "b.test", "A.TEST."} {
		for _, port := range []uint16{80, 443, 8084} {
			at := w.Address(host, port)
			require.True(t, at.Addr().IsLoopback())
			require.Equal(t, w.Port(port), at.Port())
			seen[at] = true
		}
	}
	require.Len(t, seen, 6, "A.TEST. is a.test")
	require.False(t, w.Address("a.test", 5000).IsValid(), "a port that no rule has")
}

func TestCloseEndsEverything(t *testing.T) {
	before := ours()
	w := start(t, map[string]lab.Behaviour{
		"*":          lab.AfterHello(lab.Silence),
		"drop.test":  lab.Drop{},
		"slow.test":  lab.Slow{For: time.Hour, Then: lab.Site{}},
		"idle.test":  lab.Site{},
		"quiet.test": lab.DNSSilence,
	})
	for _, host := range []string{"a.test", "slow.test", "idle.test"} {
		for _, by := range []way{direct, tunnel} {
			c, err := by.dial(w, host, 443)
			require.NoError(t, err)
			defer c.Close()
			_, err = c.Write([]byte("x"))
			require.NoError(t, err)
		}
	}
	dns, err := net.Dial("tcp", w.DNS().String())
	require.NoError(t, err)
	defer dns.Close()
	ctx, cancel := context.WithTimeout(t.Context(), shortly)
	defer cancel()
	_, err = resolver(w, "udp").LookupNetIP(ctx, "ip4", "quiet.test")
	require.Error(t, err)
	parent := w.Parent().Host

	w.Close()
	w.Close()
	require.Equal(t, before, ours())
	_, err = net.Dial("tcp", parent)
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
}
