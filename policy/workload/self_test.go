package workload

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

// What the kernel prints, in a pod of a bridge network.
const (
	route4 = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n" +
		"eth0\t00000000\t0100F40A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n" +
		"eth0\t0000F40A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n" +
		"eth0\t0000F50A\t0200F40A\t0003\t0\t0\t0\t0000FFFF\t0\t0\t0\n"
	route6 = "fd000000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0\n" +
		"00000000000000000000000000000000 00 00000000000000000000000000000000 00 fd000000000000000000000000000001 00000400 00000001 00000000 00000003     eth0\n" +
		"00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003     eth0\n" +
		"00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo\n"
)

func TestGateways(t *testing.T) {
	require.Equal(t, []netip.Addr{netip.MustParseAddr("10.244.0.1")}, gateways4(route4))
	require.Equal(t, []netip.Addr{netip.MustParseAddr("fd00::1")}, gateways6(route6), "not the link-local one, which every link has")
	require.Empty(t, gateways4(""))
	require.NotPanics(t, func() { Here("n1") })
	require.Equal(t, "n1", Here("n1").Node)
}

func FuzzGateways(f *testing.F) {
	f.Add(route4)
	f.Add(route6)
	f.Fuzz(func(t *testing.T, table string) {
		for _, a := range append(gateways4(table), gateways6(table)...) {
			require.True(t, a.IsGlobalUnicast())
		}
	})
}
