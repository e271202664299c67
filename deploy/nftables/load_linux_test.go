package nftables

import (
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	nft "github.com/google/nftables"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/egressaudit/egressaudit/test/lab/netns"
)

// space is an empty namespace.
func space(t *testing.T) *netns.Space {
	t.Helper()
	needRoot(t)
	n := netns.New("eanft", strings.ToLower(strings.ReplaceAll(t.Name(), "/", "")))
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	s, err := n.Add("us")
	require.NoError(t, err)
	return s
}

func output(t *testing.T, s *netns.Space, name string, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	c := exec.Command(name, args...)
	c.Stdout = &out
	require.NoError(t, s.Start(c))
	require.NoError(t, c.Wait())
	return out.String()
}

// listed is the table as nft tells it, without handles, which count up, and without
// the flag by which only a program's own table differs.
func listed(t *testing.T, s *netns.Space) string {
	t.Helper()
	var all struct{ Nftables []map[string]map[string]any }
	require.NoError(t, json.Unmarshal([]byte(output(t, s, "nft", "-j", "list", "table", "inet", Table)), &all))
	for _, part := range all.Nftables {
		for kind, of := range part {
			delete(of, "handle")
			if kind == "table" {
				delete(of, "flags")
			}
		}
	}
	b, err := json.MarshalIndent(all, "", " ")
	require.NoError(t, err)
	return string(b)
}

// TestSameRules: what Load gives the kernel is what nft makes of Render's text, and
// Routes' commands.
func TestSameRules(t *testing.T) {
	clients := prefixes("10.0.0.0/9", "10.128.0.0/10", "10.1.0.0/16", "192.168.7.0/24", "192.168.8.0/23", "fd00::/8", "fe00::/7", "fd01::/64")
	for name, p := range map[string]Params{
		"redirect":   {Clients: clients, Skip: skipped, Redirect: 3129},
		"quic":       {Clients: clients, Skip: skipped, Redirect: 3129, TProxy: 3130},
		"dns":        {Clients: clients, Skip: skipped, Redirect: 3129, TProxy: 3130, DNS: 5353},
		"tproxy":     {Clients: clients, TProxy: 3130},
		"tproxydns":  {Clients: clients, Skip: clients, TProxy: 3130, DNS: 53},
		"local":      {Clients: clients, Skip: skipped, Redirect: 3129, TProxy: 3130, DNS: 5353, Local: addresses("10.1.0.1", "fd01::1")},
		"local4":     {Clients: clients, Redirect: 3129, DNS: 5353, Local: addresses("10.1.0.1")},
		"local6":     {Clients: clients, Redirect: 3129, Local: addresses("fd01::1")},
		"everything": {Clients: prefixes("0.0.0.0/0", "::/0", "10.0.0.0/8"), Redirect: 65535},
		"own":        {Clients: clients, Own: addresses("10.1.0.9", "10.1.0.8", "fd01::9", "::ffff:10.1.0.10"), Redirect: 3129, TProxy: 3130, DNS: 5353},
		"one":        {Clients: prefixes("255.255.255.255/32", "::1/128"), Redirect: 1},
	} {
		t.Run(name, func(t *testing.T) {
			var text, commands strings.Builder
			require.NoError(t, Render(&text, p))
			require.NoError(t, Routes(&commands, p))
			s := space(t)
			require.NoError(t, s.Nft(text.String()))
			require.NoError(t, s.Run("sh", "-ec", commands.String()))
			want, rules, routes := listed(t, s), ways(t, s, "rule"), ways(t, s, "route", "show", "table", "all")
			var l *Loaded
			require.NoError(t, s.Do(func() (err error) { l, err = Load(p); return err }), "in place of what is there")
			require.Equal(t, want, listed(t, s))
			require.Contains(t, output(t, s, "nft", "list", "table", "inet", Table), "flags owner")
			require.Equal(t, rules, ways(t, s, "rule"))
			require.Equal(t, routes, ways(t, s, "route", "show", "table", "all"))
			require.NoError(t, l.Close())
			require.NotContains(t, output(t, s, "nft", "list", "tables"), Table)
			left := ways(t, s, "rule") + ways(t, s, "route", "show", "table", "all")
			require.NotContains(t, left, "60161")
		})
	}
}

func addresses(list ...string) (out []netip.Addr) {
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

// ways is what ip tells, of both families.
func ways(t *testing.T, s *netns.Space, args ...string) string {
	t.Helper()
	return output(t, s, "ip", append([]string{"-4"}, args...)...) + output(t, s, "ip", append([]string{"-6"}, args...)...)
}

// TestNotLoaded: what stands in the way is told, and nothing stays behind.
func TestNotLoaded(t *testing.T) {
	s := space(t)
	p := Params{Clients: prefixes("10.0.0.0/8"), Redirect: 3129, TProxy: 3130}
	load := func() error {
		return s.Do(func() error {
			l, err := Load(p)
			if err == nil {
				t.Cleanup(func() { require.NoError(t, l.Close()) })
			}
			return err
		})
	}
	require.ErrorContains(t, s.Do(func() error { _, err := Load(Params{Redirect: 1, UID: 7}); return err }), "no range of clients")
	require.ErrorContains(t, s.Do(func() error {
		_, err := Load(Params{Clients: p.Clients})
		return err
	}), "--redirect")
	require.ErrorContains(t, s.Do(func() error { // a thread without the capability
		had := dropNetAdmin(t)
		defer had()
		_, err := Load(p)
		return err
	}), "CAP_NET_ADMIN")
	require.NotContains(t, output(t, s, "nft", "list", "tables"), Table)
	require.NoError(t, load())
	require.ErrorContains(t, load(), "another process owns table inet egressaudit")
	require.Contains(t, output(t, s, "nft", "list", "tables"), Table, "the other's stays")
}

// dropNetAdmin takes the capability from this thread until it is called.
func dropNetAdmin(t *testing.T) (back func()) {
	t.Helper()
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var had, without [2]unix.CapUserData
	require.NoError(t, unix.Capget(&head, &had[0]))
	without = had
	without[0].Effective &^= 1 << unix.CAP_NET_ADMIN
	require.NoError(t, unix.Capset(&head, &without[0]))
	return func() { require.NoError(t, unix.Capset(&head, &had[0])) }
}

// TestUnreadable: the compiler refuses words that it does not know.
func TestUnreadable(t *testing.T) {
	for _, text := range []string{"what is this", "chain a {\n drop\n}", "chain a {\n accepted\n}", "chain a {\n udp dport x\n}", "chain a {\n type nat hook output priority 0; policy drop;\n}", "set a {\n type ipv4_addr\n elements = { x }\n}", "map a {\n}"} {
		c := compiler{conn: new(nft.Conn), table: ours} // which sends nothing
		require.Error(t, c.add(text), text)
	}
}

// TestPass: after Pass what is open lives on and what is new passes, seen as such.
func TestPass(t *testing.T) {
	for name, params := range map[string]Params{
		"passredirect": {Clients: prefixes("10.1.0.0/24", "fd01::/64"), Redirect: 3129, TProxy: 3130, DNS: 5353},
		"passtproxy":   {Clients: prefixes("10.1.0.0/24", "fd01::/64"), TProxy: 3130},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t, name, true)
			rules := p.lead(params)
			l := map[bool]net.Listener{true: p.tcp, false: p.redirect}[params.TransparentTCP()]
			var ours, theirs []net.Conn
			for _, to := range []string{"198.18.7.7:443", "[2001:db8::7]:443"} {
				theirs = append(theirs, p.dial("tcp", to))
				ours = append(ours, accept(t, l))
			}
			require.NoError(t, rules.Pass())
			for _, to := range []string{"198.18.7.7:443", "[2001:db8::7]:443"} {
				p.passes(to)
			}
			require.NotZero(t, p.counters()["unseen_tcp"])
			for i := range ours {
				exchange(t, ours[i], theirs[i])
				exchange(t, theirs[i], ours[i])
			}
			require.NoError(t, p.udp.Close())
			_, err := p.dial("udp", "198.18.7.7:443").Write([]byte("unseen"))
			require.NoError(t, err)
			require.NotZero(t, p.counters()["unseen_udp"], "nobody listens")
			require.NoError(t, rules.Close())
			p.passes("198.18.7.7:443")
		})
	}
}

// TestOwn: clients that are our own are left alone from the moment that they are
// named to the moment that they are not, in both families and whatever they send,
// and count as skipped, not as taken and not as unseen.
func TestOwn(t *testing.T) {
	clients := prefixes("10.1.0.0/24", "fd01::/64")
	for name, params := range map[string]Params{
		"ownredirect": {Clients: clients, Redirect: 3129, TProxy: 3130, DNS: 5353},
		"owntproxy":   {Clients: clients, TProxy: 3130, DNS: 5353},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t, name, true)
			rules := p.lead(params)
			p.takesTCP("198.18.7.7:443")
			p.takesTCP("[2001:db8::7]:443")
			sender := addresses("10.1.0.2", "fd01::2")
			require.NoError(t, rules.Leave(sender[:1]))
			p.isOwn("198.18.7.7")
			p.takesTCP("[2001:db8::7]:443")
			require.NoError(t, rules.Leave(append(sender, addresses("10.1.0.3", "fd01::3")...)), "some were there before")
			p.isOwn("198.18.7.7")
			p.isOwn("2001:db8::7")
			require.NoError(t, rules.Leave(many(5000)), "others, and more than a message holds")
			p.takesTCP("198.18.7.7:443")
			p.takesTCP("[2001:db8::7]:443")
			require.NoError(t, rules.Leave(append(many(5000), sender[1])))
			p.takesTCP("198.18.7.7:443")
			p.isOwn("2001:db8::7")
			require.NoError(t, rules.Leave(nil))
			p.takesTCP("[2001:db8::7]:443")
		})
	}
}

// many are addresses of which no two touch.
func many(n int) (out []netip.Addr) {
	for i := range n {
		out = append(out, netip.AddrFrom4([4]byte{10, 200, byte(i >> 7), byte(i << 1)}))
	}
	return out
}

// isOwn demands that what the sender sends to host goes its way and is counted as
// skipped alone.
func (p *place) isOwn(host string) {
	p.Helper()
	before := p.counters()
	for _, port := range []string{"443", "53", "8080"} {
		p.passes(net.JoinHostPort(host, port))
	}
	for _, port := range []string{"443", "53", "9999"} {
		_, err := p.dial("udp", net.JoinHostPort(host, port)).Write([]byte("our own"))
		require.NoError(p, err)
	}
	now := p.counters()
	require.GreaterOrEqual(p, now["skipped"], before["skipped"]+6)
	delete(now, "skipped")
	delete(before, "skipped")
	require.Equal(p, before, now)
}

// TestRouted: where the interface that clients come in by has no address, as those
// of routed pods, what has an address of the gateway is taken all the same.
func TestRouted(t *testing.T) {
	p := newPlace(t, "routed", true)
	name := strings.Fields(output(t, p.us, "ip", "-o", "-4", "addr", "show", "to", "10.1.0.1"))[1]
	require.NoError(t, errors.Join(
		p.us.Run("sysctl", "-qw", "net.ipv4.conf."+name+".proxy_arp=1"),
		p.us.Run("ip", "addr", "del", "10.1.0.1/24", "dev", name), p.us.Run("ip", "route", "add", "10.1.0.2", "dev", name),
	))
	p.lead(Params{Clients: prefixes("10.1.0.0/24"), Redirect: 3129, DNS: 5353, Local: addresses("10.2.0.1")})
	p.takesTCP("198.18.7.7:443")
	p.takesDNS("198.18.7.7:53")
}

func exchange(t *testing.T, from, to net.Conn) {
	t.Helper()
	require.NoError(t, to.SetReadDeadline(time.Now().Add(10*time.Second)))
	_, err := from.Write([]byte("still"))
	require.NoError(t, err)
	buf := make([]byte, 5)
	_, err = to.Read(buf)
	require.NoError(t, err)
	require.Equal(t, "still", string(buf))
}
