package proxy

import (
	"context"
	"fmt"
	"math"
	"net"
	"net/netip"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
)

// at is the i-th address of tests, at port 443.
func at(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 443)
}

func TestInterleave(t *testing.T) {
	for in, want := range map[string]string{
		"6a":             "6a",
		"6a 6b 4a 4b":    "6a 4a 6b 4b",
		"4a 4b 4c 6a":    "4a 6a 4b 4c",
		"4a 6a":          "4a 6a",
		"6a 4a 4b 4c 6b": "6a 4a 6b 4b 4c",
	} {
		require.Equal(t, addresses(want), interleave(addresses(in)), in)
	}
}

// addresses reads "6a 4b": a family and a letter each.
func addresses(s string) (out []netip.AddrPort) {
	for i := 0; i+1 < len(s); i += 3 {
		a := netip.AddrFrom4([4]byte{192, 0, 2, s[i+1]})
		if s[i] == '6' {
			a = netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: s[i+1]})
		}
		out = append(out, netip.AddrPortFrom(a, 443))
	}
	return out
}

// dead is an address on loopback at which nobody listens.
func dead(t *testing.T) netip.AddrPort {
	l := listen(t)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// TestRace: a dead address does not hide a living one, and is told.
func TestRace(t *testing.T) {
	p := New(Config{Index: listing(443), Allowed: prefixes("127.0.0.0/8")})
	alive := netip.MustParseAddrPort(fmt.Sprintf("127.0.0.1:%d", site(t, func(c *net.TCPConn) { c.Read(make([]byte, 1)) })))
	gone := dead(t)
	for name, c := range map[string]struct {
		to   []netip.AddrPort
		won  netip.AddrPort
		lost int
	}{
		"one":                {[]netip.AddrPort{alive}, alive, 0},
		"one, dead":          {[]netip.AddrPort{gone}, netip.AddrPort{}, 1},
		"dead, then alive":   {[]netip.AddrPort{gone, alive}, alive, 1},
		"alive, then dead":   {[]netip.AddrPort{alive, gone}, alive, 0},
		"both dead":          {[]netip.AddrPort{gone, gone}, netip.AddrPort{}, 2},
		"guarded, and alive": {[]netip.AddrPort{netip.MustParseAddrPort("169.254.169.254:80"), alive}, alive, 1},
	} {
		t.Run(name, func(t *testing.T) {
			begun := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			won, lost := p.race(ctx, c.to, dialing{guarded: true})
			require.Equal(t, c.won, won.to)
			require.Len(t, lost, c.lost)
			require.Equal(t, c.won.IsValid(), won.conn != nil)
			if won.conn != nil {
				won.conn.Close()
			}
			require.Less(t, time.Since(begun), patience, "a refusal is not waited out")
		})
	}
}

// TestRaceEndsInTime: the limit is the total over all addresses.
func TestRaceEndsInTime(t *testing.T) {
	p := New(Config{Index: listing(443), Allowed: prefixes("127.0.0.0/8")})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	won, lost := p.race(ctx, []netip.AddrPort{dead(t), dead(t), dead(t)}, dialing{guarded: true})
	require.Nil(t, won.conn)
	require.Len(t, lost, 3)
}

// TestDialIsGuarded: the last look is at the very address that is dialled.
func TestDialIsGuarded(t *testing.T) {
	p := New(Config{Index: listing(443)})
	port := uint16(site(t, func(*net.TCPConn) {}))
	for _, a := range []string{"127.0.0.1", "::ffff:127.0.0.1", "0.0.0.0"} {
		to := netip.AddrPortFrom(netip.MustParseAddr(a), port)
		require.ErrorIs(t, p.dial(t.Context(), to, dialing{guarded: true}).err, errGuard, a)
		open := p.dial(t.Context(), to, dialing{})
		require.NoError(t, open.err, "a parent may be anywhere")
		open.conn.Close()
	}
}

func TestDefaultLimits(t *testing.T) {
	for files, want := range map[uint64]int{1024: (1024 - 128) / 6, 64: 32 / 6, 1 << 20: (1<<20 - 128) / 6, 0: 0} {
		l := DefaultLimits(files)
		require.Equal(t, want, l.Tunnels, "%d", files)
		require.Equal(t, l.Tunnels, l.ClientTunnels)
		require.LessOrEqual(t, uint64(l.Tunnels)*descriptors, files)
	}
	require.Positive(t, DefaultLimits(math.MaxUint64).Tunnels)
	require.Equal(t, 5*time.Second, DefaultLimits(1024).AnswerTimeout)
	require.Equal(t, 15*time.Minute, DefaultLimits(1024).IdleTimeout)
	require.Equal(t, 10*time.Second, DefaultLimits(1024).ConnectTimeout)
}

// TestLimitsOr: zero fields have their defaults, and a client may use all tunnels
// where nothing else is said.
func TestLimitsOr(t *testing.T) {
	l := Limits{Tunnels: 7, IdleTimeout: time.Second}.or(DefaultLimits(1024))
	require.Equal(t, []int{7, 7}, []int{l.Tunnels, l.ClientTunnels})
	require.Equal(t, time.Second, l.IdleTimeout)
	require.Equal(t, 64<<10, l.Header)
	require.Len(t, l.Map(), 10)
	require.Equal(t, int64(1000), l.Map()["idle_timeout_ms"])
}

// TestEnter: the count of a client's connections is exact, and forgotten with the
// last.
func TestEnter(t *testing.T) {
	p := New(Config{Index: listing(443), Limits: Limits{Tunnels: 3, ClientTunnels: 2}})
	a, b := at(1).Addr(), at(2).Addr()
	require.True(t, p.carried.enter(a))
	require.True(t, p.carried.enter(a))
	require.False(t, p.carried.enter(a), "its own limit")
	require.True(t, p.carried.enter(b))
	require.False(t, p.carried.enter(b), "the limit of all")
	for _, c := range []netip.Addr{a, a, b} {
		p.carried.leave(c)
	}
	require.Zero(t, p.Open())
	require.Empty(t, p.carried.of)
}

func TestCheckParent(t *testing.T) {
	for in, says := range map[string]string{
		"http://proxy.corp.example:3128":  "",
		"http://alice:s3cret@proxy:3128":  "",
		"http://[2001:db8::1]:3128":       "",
		"http://192.0.2.1":                "",
		"https://alice:s3cret@proxy:3128": "only http://",
		"socks5://proxy:1080":             "only http://",
		"http://:3128":                    "host is missing",
		"http://127.1:3128":               "four decimal",
	} {
		u, err := url.Parse(in)
		require.NoError(t, err)
		err = CheckParent(u)
		if says == "" {
			require.NoError(t, err, in)
			continue
		}
		require.ErrorContains(t, err, says)
		require.NotContains(t, err.Error(), "s3cret")
	}
}

func TestParentPort(t *testing.T) {
	for in, want := range map[string]uint16{"http://p": 80, "http://p:3128": 3128, "http://p:0": 80, "http://p:": 80} {
		u, err := url.Parse(in)
		require.NoError(t, err)
		require.Equal(t, want, parentPort(u))
	}
}

func TestBasicAuth(t *testing.T) {
	for in, want := range map[string]string{"http://p": "", "http://a:b@p": "Basic YTpi", "http://a@p": "Basic YTo=", "http://a:%40@p": "Basic YTpA"} {
		u, err := url.Parse(in)
		require.NoError(t, err)
		require.Equal(t, want, basicAuth(u))
	}
}

// TestLimited: an endless header ends, and the cause of an end is remembered.
func TestLimited(t *testing.T) {
	ours, theirs := loop(t)
	theirs.Write(make([]byte, 100))
	l := &limited{Conn: ours, n: 60}
	n := 0
	var err error
	for err == nil {
		var k int
		k, err = l.Read(make([]byte, 50))
		n += k
	}
	require.Equal(t, 60, n)
	require.ErrorIs(t, err, errTooLong)
	require.Equal(t, policy.HTTPProtocolError, replyVerdict(err).Error)
	l = &limited{Conn: ours, n: 1000}
	theirs.SetLinger(0)
	theirs.Close()
	for err = nil; err == nil; {
		_, err = l.Read(make([]byte, 50))
	}
	require.Equal(t, closeRST, ending(l.err))
}
