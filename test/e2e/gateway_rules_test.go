//go:build linux

package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/deploy/nftables"
	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/test/suite"
)

// TestRules: serve --nftables takes what clients send with rules of its own, and
// leaves nothing behind: told to stop, it lets new connections pass at once, while
// those that it carries go on; killed, it takes the rules with it.
func TestRules(t *testing.T) {
	suite.Need(t, gatewayPrograms...)
	t.Parallel()
	for _, way := range []string{"redirect", "tproxy"} {
		t.Run(way, func(t *testing.T) {
			g := newGateway(t, 4, 1, "echo.egress.test")
			require.NoError(t, g.gate.Router())
			l := g.listen(t, "echo.egress.test", 443)
			go echo(l)
			flags := []string{"--nftables", "--nftables-skip", "192.0.2.0/24", "--tproxy", "[::]:3130", "--dns", "[::]:5353", "--drain", "20s"}
			if way == "redirect" {
				flags = append(flags, "--redirect", "[::]:3129")
			}

			g.begin(t, flags...)
			old := g.dial(t)
			require.Equal(t, "10.8.1.2", old.ask(t), "it was taken: the gateway dialed")
			g.unseen(t)
			g.serve.signal(syscall.SIGTERM)
			eventually(t, "new connections pass", func() bool { return g.who(t) == g.client(0).String() })
			require.Equal(t, "10.8.1.2", old.ask(t), "it lives on")
			require.NoError(t, old.Close())
			require.Zero(t, g.serve.wait(), g.serve.stderr.String())
			g.ordinary(t)
			g.recorded(t, way)

			g.begin(t, flags...)
			require.Equal(t, "10.8.1.2", g.who(t))
			g.serve.signal(syscall.SIGKILL)
			g.serve.wait()
			g.ordinary(t)

			g.begin(t, flags...) // over the routes that the killed one left
			require.Equal(t, "10.8.1.2", g.who(t))
			g.serve.signal(syscall.SIGTERM)
			require.Zero(t, g.serve.wait(), g.serve.stderr.String())
			g.ordinary(t)
		})
	}
}

// echo tells each line's sender its address.
func echo(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			from := netip.MustParseAddrPort(c.RemoteAddr().String())
			for s := bufio.NewScanner(c); s.Scan(); {
				fmt.Fprintln(c, from.Addr())
			}
		}()
	}
}

// caller is a connection of the client to the echo.
type caller struct{ net.Conn }

func (g *gateway) dial(t *testing.T) caller {
	t.Helper()
	var c net.Conn
	require.NoError(t, g.clients[0].Do(func() (err error) {
		c, err = net.DialTimeout("tcp", netip.AddrPortFrom(g.names["echo.egress.test"], 443).String(), 10*time.Second)
		return err
	}))
	t.Cleanup(func() { c.Close() })
	return caller{c}
}

// ask is whom the echo takes the client for.
func (c caller) ask(t *testing.T) string {
	t.Helper()
	require.NoError(t, c.SetDeadline(time.Now().Add(10*time.Second)))
	_, err := io.WriteString(c, "who\n")
	require.NoError(t, err)
	s := bufio.NewScanner(c)
	require.True(t, s.Scan(), s.Err())
	return s.Text()
}

// who is whom the echo takes a new connection of the client for.
func (g *gateway) who(t *testing.T) string {
	t.Helper()
	c := g.dial(t)
	defer c.Close()
	return c.ask(t)
}

// unseen sends what no rule takes.
func (g *gateway) unseen(t *testing.T) {
	t.Helper()
	require.NoError(t, g.clients[0].Do(func() error {
		c, err := net.Dial("udp", netip.AddrPortFrom(g.names["echo.egress.test"], 123).String())
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = io.WriteString(c, "ntp")
		return err
	}))
}

// ordinary demands that no rule is left, and that traffic goes its ordinary way.
func (g *gateway) ordinary(t *testing.T) {
	t.Helper()
	require.Error(t, g.gate.Run("nft", "list", "table", "inet", nftables.Table))
	require.Equal(t, g.client(0).String(), g.who(t))
}

// recorded demands the connection, and the blind spot, in the ledger.
func (g *gateway) recorded(t *testing.T, way string) {
	t.Helper()
	ways, blind := map[string]int{}, []string{}
	for _, r := range readLedger(t, g.ledger) {
		if r.Kind == policy.KindConnection && r.Origin == policy.OriginClient {
			ways[r.Listener]++
		}
		if r.Kind == policy.KindStop {
			blind = append(blind, r.BlindSpots...)
		}
	}
	require.NotZero(t, ways[way], ways)
	require.Contains(t, fmt.Sprint(blind), "packets of UDP other than DNS and QUIC went by that no rule of the firewall sends to us: 1")
}
