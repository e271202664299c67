package proxy

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
)

// TestJudge reads like the specification of the guard: what each address is, in
// every spelling in which it can be dialled.
func TestJudge(t *testing.T) {
	for _, c := range []struct {
		addr string
		want reach
		why  string
	}{
		{"192.0.2.1", public, ""},
		{"20.150.1.1", public, ""},
		{"2001:db8::1", public, ""},
		{"9.255.255.255", public, "just before 10/8"},
		{"172.32.0.0", public, "just behind 172.16/12"},
		{"100.128.0.0", public, "just behind 100.64/10"},
		{"223.255.255.255", public, "just before multicast"},
		{"10.0.0.0", private, "RFC 1918"},
		{"172.31.255.255", private, "RFC 1918"},
		{"192.168.1.1", private, "RFC 1918"},
		{"100.64.0.1", private, "RFC 6598"},
		{"fc00::1", private, "RFC 4193"},
		{"fdff::1", private, "RFC 4193"},
		{"127.0.0.1", local, ""},
		{"127.255.255.255", local, "all of 127/8"},
		{"0.0.0.0", local, "means this host when dialled"},
		{"0.1.2.3", local, ""},
		{"::", local, ""},
		{"::1", local, ""},
		{"169.254.0.1", local, "link-local"},
		{"169.254.170.2", local, "link-local: container credentials"},
		{"fe80::1", local, ""},
		{"fe80::1%eth0", local, "the zone changes nothing"},
		{"febf::1", local, ""},
		{"169.254.169.254", prohibited, "metadata"},
		{"168.63.129.16", prohibited, "Azure's wire server"},
		{"fd00:ec2::254", prohibited, "metadata, and not merely private"},
		{"fd20:ce::254", prohibited, "Google's metadata by IPv6"},
		{"100.100.100.200", prohibited, "Alibaba's metadata, and not merely shared"},
		{"192.0.0.192", prohibited, "Oracle's metadata"},
		{"224.0.0.1", prohibited, "multicast"},
		{"239.255.255.255", prohibited, "multicast"},
		{"240.0.0.1", prohibited, "reserved"},
		{"255.255.255.255", prohibited, "broadcast"},
		{"ff02::1", prohibited, "multicast"},
		{"ff02::1%eth0", prohibited, "multicast"},

		{"::ffff:127.0.0.1", local, "mapped"},
		{"::ffff:10.0.0.1", private, "mapped"},
		{"::ffff:169.254.169.254", prohibited, "mapped"},
		{"::ffff:192.0.2.1", public, "mapped"},
		{"64:ff9b::7f00:1", local, "NAT64"},
		{"64:ff9b::a00:1", private, "NAT64"},
		{"64:ff9b::a9fe:a9fe", prohibited, "NAT64"},
		{"64:ff9b::c000:201", public, "NAT64"},
		{"64:ff9b:1::7f00:1", local, "NAT64 of a network's own (RFC 8215)"},
		{"64:ff9b:1:abcd::a00:1", private, "NAT64 of a network's own"},
		{"64:ff9b:1::a9fe:a9fe", prohibited, "NAT64 of a network's own"},
		{"64:ff9b:1::c000:201", public, "NAT64 of a network's own"},
		{"64:ff9b:1:c000:2:100::", public, "the same with the address elsewhere (RFC 6052 section 2.2)"},
		{"::ffff:0:127.0.0.1", local, "SIIT (RFC 7915)"},
		{"::ffff:0:10.0.0.1", private, "SIIT"},
		{"::ffff:0:169.254.169.254", prohibited, "SIIT"},
		{"::ffff:0:192.0.2.1", public, "SIIT"},
		{"fec0::1", private, "site-local (RFC 3879)"},
		{"2002:7f00:1::", local, "6to4"},
		{"2002:a00:1::5", private, "6to4"},
		{"2002:a9fe:a9fe::", prohibited, "6to4"},
		{"2002:c000:201::", public, "6to4"},
		{"::127.0.0.1", local, "IPv4-compatible"},
		{"::169.254.169.254", prohibited, "IPv4-compatible"},
	} {
		var g guard
		require.Equal(t, c.want, g.judge(netip.AddrPortFrom(netip.MustParseAddr(c.addr), 443)), "%s %s", c.addr, c.why)
	}
}

// TestJudgeAllowed: --allow-address opens what it names, in every spelling, but
// never the way to ourselves.
func TestJudgeAllowed(t *testing.T) {
	g := guard{allowed: prefixes("127.0.0.0/8", "169.254.169.254/32", "fc00::/7")}
	for _, a := range []string{"127.0.0.1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "169.254.169.254", "fd00:ec2::254"} {
		require.Equal(t, public, g.judge(netip.AddrPortFrom(netip.MustParseAddr(a), 443)), a)
	}
	require.Equal(t, local, g.judge(netip.MustParseAddrPort("[::1]:443")))
	g.listen(netip.MustParseAddrPort("127.0.0.1:3128"))
	for _, a := range []string{"127.0.0.1:3128", "[::ffff:127.0.0.1]:3128", "[64:ff9b::7f00:1]:3128"} {
		require.Equal(t, prohibited, g.judge(netip.MustParseAddrPort(a)), a)
	}
	require.Equal(t, public, g.judge(netip.MustParseAddrPort("127.0.0.1:3129")))
	require.Equal(t, public, g.judge(netip.MustParseAddrPort("127.0.0.2:3128")), "nobody of ours is there")
}

// TestJudgeWildcardListener: a listener on every address is reached by each.
func TestJudgeWildcardListener(t *testing.T) {
	for _, at := range []string{"0.0.0.0:3128", "[::]:3128"} {
		g := guard{allowed: prefixes("0.0.0.0/0", "::/0")}
		g.listen(netip.MustParseAddrPort(at))
		for _, a := range []string{"127.0.0.1:3128", "127.9.9.9:3128", "0.0.0.0:3128", "[::1]:3128", "[::]:3128", "[::ffff:127.0.0.1]:3128"} {
			require.Equal(t, prohibited, g.judge(netip.MustParseAddrPort(a)), "%s at %s", a, at)
		}
	}
}

// TestJudgeLaterInterface: an address that the host gets after the start leads to
// a listener on all addresses just the same.
func TestJudgeLaterInterface(t *testing.T) {
	var now []net.Addr
	g := guard{interfaces: func() ([]net.Addr, error) { return now, nil }}
	g.listen(netip.MustParseAddrPort("[::]:3180"))
	later := netip.MustParseAddrPort("203.0.113.7:3180")
	require.Equal(t, public, g.judge(later))
	now = append(now, &net.IPNet{IP: net.IPv4(203, 0, 113, 7), Mask: net.CIDRMask(24, 32)})
	require.Equal(t, prohibited, g.judge(later))
	g.interfaces = func() ([]net.Addr, error) { return nil, errors.New("no netlink") }
	require.Equal(t, prohibited, g.judge(later))
}

// TestJudgeHome: this host is private by whatever address, a second after it has that.
func TestJudgeHome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var now []net.Addr
		asked := 0
		g := guard{interfaces: func() ([]net.Addr, error) { asked++; return now, nil }}
		home, next := netip.MustParseAddrPort("203.0.113.7:22"), netip.MustParseAddrPort("203.0.113.8:22")
		require.Equal(t, public, g.judge(home))
		now = append(now, &net.IPNet{IP: net.IPv4(203, 0, 113, 7), Mask: net.CIDRMask(24, 32)})
		time.Sleep(homesTime)
		for range 100 {
			require.Equal(t, private, g.judge(home))
			require.Equal(t, private, g.judge(netip.MustParseAddrPort("[64:ff9b::203.0.113.7]:22")))
			require.Equal(t, public, g.judge(next))
		}
		require.Equal(t, 2, asked)
		g.interfaces = func() ([]net.Addr, error) { return nil, errors.New("no netlink") }
		time.Sleep(homesTime)
		require.Equal(t, public, g.judge(home), "who cannot tell must not break what is watched")
	})
}

// TestJudgeUnspecified: the unspecified address leads to a listener on loopback.
func TestJudgeUnspecified(t *testing.T) {
	g := guard{allowed: prefixes("0.0.0.0/0", "::/0")}
	g.listen(netip.MustParseAddrPort("127.0.0.1:3128"))
	require.Equal(t, prohibited, g.judge(netip.MustParseAddrPort("0.0.0.0:3128")))
}

// TestDials: who is dialled, by class and whether a catalog lists the name.
func TestDials(t *testing.T) {
	for _, c := range []struct {
		reach                          reach
		serve, serveListed, run, runLi bool
	}{
		{public, true, true, true, true},
		{private, false, true, true, true},
		{local, false, false, false, false},
		{prohibited, false, false, false, false},
	} {
		serve, run := guard{}, guard{privateAllowed: true}
		require.Equal(t, c.serve, serve.dials(c.reach, false))
		require.Equal(t, c.serveListed, serve.dials(c.reach, true))
		require.Equal(t, c.run, run.dials(c.reach, false))
		require.Equal(t, c.runLi, run.dials(c.reach, true))
	}
}

// TestMixedAnswer: a name with public and guarded addresses is reached by the
// public ones alone, however they are ordered.
func TestMixedAnswer(t *testing.T) {
	for _, answer := range [][]string{{"127.0.0.1", "169.254.169.254"}, {"169.254.169.254", "127.0.0.1"}, {"::1", "10.0.0.1", "127.0.0.1"}} {
		port := site(t, origin("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
		r := newRig(t, func(c *Config) { c.Resolve, c.Allowed = resolveTo(answer...), prefixes("127.0.0.1/32") })
		_, _, resp := r.say("GET", get(port))
		require.Equal(t, 200, resp.StatusCode)
		o := r.one()
		require.Equal(t, "127.0.0.1", o.Address.Addr().String())
		require.NotContains(t, o.Detail, "attempts", "a guarded address is never dialled")
	}
}

// TestKnownBlockPage: a name that resolves to nothing but the block page is a sinkhole,
// listed or not, and the page is not asked; where a real address is among them, that
// one is dialled. What --allow-address names is no block page.
func TestKnownBlockPage(t *testing.T) {
	port := site(t, origin("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
	for _, c := range []struct {
		answer []string
		change func(*Config)
		want   int
	}{
		{[]string{"127.0.0.1"}, nil, 502},
		{[]string{"127.0.0.1", "::ffff:127.0.0.2"}, nil, 502},
		{[]string{"127.0.0.1"}, func(c *Config) { c.Index = listing(9) }, 502},
		{[]string{"127.0.0.2", "127.0.0.1"}, func(c *Config) { c.BlockPages, c.Allowed = prefixes("127.0.0.2/32"), prefixes("127.0.0.1/32") }, 200},
		{[]string{"127.0.0.1"}, func(c *Config) { c.Allowed = prefixes("127.0.0.0/8") }, 200},
	} {
		r := newRig(t, func(o *Config) {
			o.Allowed, o.BlockPages, o.Resolve = nil, prefixes("127.0.0.0/8"), resolveTo(c.answer...)
			if c.change != nil {
				c.change(o)
			}
		})
		_, _, resp := r.say("GET", get(port))
		require.Equal(t, c.want, resp.StatusCode, c.answer)
		o := r.one()
		if c.want == 502 {
			require.Equal(t, policy.Verdict{Outcome: policy.Failed, Stage: policy.StageResolve, Error: policy.DNSSinkhole, By: policy.ByResolver, Confidence: policy.Certain}, o.Verdict)
			require.Equal(t, true, o.Detail["block_page"])
			require.Equal(t, policy.Allow, o.Decision)
		}
	}
}

// TestGuardAtTheDoor: what a literal, a name and localhost behind a parent meet.
func TestGuardAtTheDoor(t *testing.T) {
	unasked := func(c *Config) {
		c.Allowed = nil
		c.Parent = nil
	}
	for target, change := range map[string]func(*Config){
		"169.254.169.254:80":         unasked,
		"[::ffff:a9fe:a9fe]:80":      unasked,
		"10.0.0.1:80":                unasked,
		"unlisted.example.org.:80":   func(c *Config) { c.Allowed, c.Resolve = nil, resolveTo("127.0.0.1", "10.0.0.1") },
		"localhost:80":               through(t, nil),
		"LOCALHOST.:80":              through(t, nil),
		"a.localhost:80":             through(t, nil),
		"169.254.169.254:81":         through(t, nil),
		"[64:ff9b::a9fe:a9fe]:81":    through(t, nil),
		"[2002:a9fe:a9fe::]:81":      through(t, nil),
		"[::ffff:169.254.169.254]:8": through(t, nil),
	} {
		r := newRig(t, change)
		conn, _, resp := r.say("CONNECT", "CONNECT "+target+" HTTP/1.1\r\n\r\n")
		conn.Close()
		require.Equal(t, 403, resp.StatusCode, target)
		require.Equal(t, policy.DestinationProhibited, r.one().Error, target)
	}
}

// TestClients: who is not named may not use the proxy, and that is recorded.
func TestClients(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Clients = prefixes("192.0.2.0/24") })
	for i, text := range []string{"CONNECT site.example.com:443 HTTP/1.1\r\n\r\n", get(80)} {
		conn, _, resp := r.say("GET", text)
		conn.Close()
		require.Equal(t, 403, resp.StatusCode)
		o := r.closing(i + 1)[i]
		require.Equal(t, policy.HTTPRequestDenied, o.Error)
		require.False(t, o.WouldDeny, "it was denied")
	}
	require.True(t, r.proxy.admits(netip.MustParseAddrPort("[::ffff:192.0.2.9]:1")))
}

// TestClientWithZone: a client on the link is within the range that names it.
func TestClientWithZone(t *testing.T) {
	p := New(Config{Index: listing(443), Clients: prefixes("fe80::/10")})
	require.True(t, p.admits(netip.MustParseAddrPort("[fe80::1%eth0]:1")))
}
