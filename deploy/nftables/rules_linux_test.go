package nftables

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/egressaudit/egressaudit/proxy/capture"
	"github.com/egressaudit/egressaudit/test/lab/netns"
)

// user is who egressaudit would run as on a host.
const user = 64042

// skipped are destinations left alone, in the world below.
var skipped = prefixes("198.19.0.0/16", "2001:db8:ffff::/48")

// place is one namespace with the rules and our listeners, one that sends, which on
// a host is the same, and an internet.
type place struct {
	*testing.T
	us, sender, inet *netns.Space
	local            map[string]string // an address of ours, by family
	redirect         net.Listener
	tcp              *net.TCPListener
	udp              *capture.PacketConn
	dns              *net.UDPConn
	dnsTCP           net.Listener
	params           Params
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	for _, program := range []string{"ip", "nft"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("needs %s: %v", program, err)
		}
	}
}

// newPlace makes the namespaces and listeners. The rules come with load.
func newPlace(t *testing.T, label string, gateway bool) *place {
	t.Helper()
	needRoot(t)
	require.NoError(t, netns.Sweep("eanft"))
	n := netns.New("eanft", label)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	p := &place{T: t, local: map[string]string{"4": "10.1.0.1", "6": "fd01::1"}}
	var err error
	p.us, err = n.Add("us")
	require.NoError(t, err)
	p.inet, err = n.Add("inet")
	require.NoError(t, err)
	p.sender = p.us
	if gateway {
		p.sender, err = n.Add("client")
		require.NoError(t, err)
		require.NoError(t, errors.Join(
			n.Link(p.sender, "10.1.0.2/24 fd01::2/64", p.us, "10.1.0.1/24 fd01::1/64"), p.us.Router(),
			p.sender.Route("default", "10.1.0.1"), p.sender.Route("default", "fd01::1"),
		))
	}
	require.NoError(t, errors.Join(
		n.Link(p.us, "10.2.0.1/24 fd02::1/64", p.inet, "10.2.0.2/24 fd02::2/64"),
		p.us.Route("default", "10.2.0.2"), p.us.Route("default", "fd02::2"),
		p.inet.Route("10.1.0.0/24", "10.2.0.1"), p.inet.Route("fd01::/64", "fd02::1"),
		p.inet.Own("198.18.0.0/15"), p.inet.Own("2001:db8::/32"),
	))
	p.listen()
	return p
}

func (p *place) listen() {
	p.Helper()
	require.NoError(p, p.us.Do(func() (err error) {
		p.redirect, err = net.Listen("tcp", "[::]:3129")
		if err == nil {
			p.tcp, err = capture.ListenTransparent(p.Context(), "[::]:3130")
		}
		if err == nil {
			p.udp, err = capture.ListenPacket(context.Background(), "[::]:3130")
		}
		if err == nil {
			p.dns, err = net.ListenUDP("udp", &net.UDPAddr{Port: 5353})
		}
		if err == nil {
			err = tellDestination(p.dns)
		}
		if err == nil {
			p.dnsTCP, err = net.Listen("tcp", "[::]:5353")
		}
		return err
	}))
	p.Cleanup(func() { p.redirect.Close(); p.tcp.Close(); p.udp.Close(); p.dns.Close(); p.dnsTCP.Close() })
}

// tellDestination has datagrams come with the address they were sent to, as the
// forwarder's do: what REDIRECT brings must be answered from there.
func tellDestination(c *net.UDPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	err = raw.Control(func(fd uintptr) { inner = unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_RECVPKTINFO, 1) })
	return errors.Join(err, inner)
}

// lead loads the rules as serve --nftables does.
func (p *place) lead(params Params) *Loaded {
	p.Helper()
	p.params = params
	var l *Loaded
	require.NoError(p, p.us.Do(func() (err error) { l, err = Load(params); return err }))
	p.Cleanup(func() { require.NoError(p, p.us.Do(l.Close)) })
	return l
}

// load checks the rules with nft -c, loads them twice, and makes the routes.
func (p *place) load(params Params) {
	p.Helper()
	p.params = params
	var text, routes strings.Builder
	require.NoError(p, Render(&text, params))
	require.NoError(p, Routes(&routes, params))
	file := p.TempDir() + "/rules.nft"
	require.NoError(p, os.WriteFile(file, []byte(text.String()), 0o600))
	require.NoError(p, errors.Join(
		p.us.Run("nft", "-c", "-f", file),
		p.us.Nft(text.String()), p.us.Nft(text.String()),
		p.us.Run("sh", "-ec", routes.String()), p.us.Run("sh", "-ec", routes.String()),
	))
}

func (p *place) dial(network, to string) net.Conn {
	p.Helper()
	var c net.Conn
	require.NoError(p, p.sender.Do(func() (err error) {
		c, err = net.DialTimeout(network, to, 5*time.Second)
		return err
	}), to)
	p.Cleanup(func() { c.Close() })
	require.NoError(p, c.SetDeadline(time.Now().Add(10*time.Second)))
	return c
}

func accept(t testing.TB, l net.Listener) *net.TCPConn {
	t.Helper()
	require.NoError(t, l.(*net.TCPListener).SetDeadline(time.Now().Add(10*time.Second)))
	c, err := l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

// counters reads the table's.
func (p *place) counters() map[string]uint64 {
	p.Helper()
	var list []Counter
	require.NoError(p, p.us.Do(func() (err error) { list, err = Counters(); return err }))
	by := map[string]uint64{}
	for _, c := range list {
		by[c.Name] = c.Packets
	}
	return by
}

func (p *place) takesTCP(to string) {
	p.Helper()
	c := p.dial("tcp", to)
	var got netip.AddrPort
	var err error
	if p.params.TransparentTCP() {
		got, err = capture.TransparentDestination(accept(p, p.tcp), p.tcp.Addr())
	} else {
		got, err = capture.OriginalDestination(accept(p, p.redirect))
	}
	require.NoError(p, err)
	require.Equal(p, to, got.String())
	require.NoError(p, c.Close())
}

func (p *place) takesQUIC(to string) {
	p.Helper()
	c := p.dial("udp", to)
	buf := make([]byte, 100)
	for range 2 {
		_, err := c.Write([]byte("question"))
		require.NoError(p, err)
		n, client, got, err := p.udp.Read(buf)
		require.NoError(p, err)
		require.Equal(p, "question", string(buf[:n]))
		require.Equal(p, to, got.String())
		var back *net.UDPConn
		require.NoError(p, p.us.Do(func() error { back, err = capture.AnswerFrom(got); return err }))
		_, err = back.WriteToUDPAddrPort([]byte("answer"), client)
		require.NoError(p, err)
		require.NoError(p, back.Close())
		n, err = c.Read(buf)
		require.NoError(p, err)
		require.Equal(p, "answer", string(buf[:n]))
	}
}

func (p *place) takesDNS(to string) {
	p.Helper()
	c := p.dial("udp", to)
	_, err := c.Write([]byte("question"))
	require.NoError(p, err)
	buf, oob := make([]byte, 100), make([]byte, 100)
	require.NoError(p, p.dns.SetReadDeadline(time.Now().Add(10*time.Second)))
	n, m, _, client, err := p.dns.ReadMsgUDPAddrPort(buf, oob)
	require.NoError(p, err)
	_, _, err = p.dns.WriteMsgUDPAddrPort(buf[:n], oob[:m], client)
	require.NoError(p, err)
	_, err = c.Read(buf)
	require.NoError(p, err, "the answer comes from where the question went")
	p.dial("tcp", to)
	accept(p, p.dnsTCP)
}

// passes demands that a connection reaches the internet itself.
func (p *place) passes(to string) {
	p.Helper()
	var l net.Listener
	require.NoError(p, p.inet.Do(func() (err error) { l, err = net.Listen("tcp", to[strings.LastIndex(to, ":"):]); return err }))
	defer l.Close()
	c := p.dial("tcp", to)
	require.Equal(p, to, accept(p, l).LocalAddr().String())
	require.NoError(p, c.Close())
}

// TestRules: in each family, what is to come to us does, with its destination;
// what is to be left alone is; and what no rule takes is counted.
func TestRules(t *testing.T) {
	clients := prefixes("10.1.0.0/24", "fd01::/64", "10.1.0.0/25") // nodes and pods may overlap
	redirected := Params{Clients: clients, Skip: skipped, Redirect: 3129, TProxy: 3130, DNS: 5353}
	transparent := Params{Clients: clients, Skip: skipped, TProxy: 3130, DNS: 5353}
	for _, c := range []struct {
		name    string
		gateway bool
		netlink bool
		params  Params
	}{
		{"gateway-redirect", true, false, redirected},
		{"gateway-redirect-netlink", true, true, redirected},
		{"gateway-local", true, true, Params{Clients: clients, Skip: skipped, Redirect: 3129, TProxy: 3130, DNS: 5353, Local: addresses("10.2.0.1", "fd02::1")}},
		{"gateway-tproxy", true, false, transparent},
		{"gateway-tproxy-netlink", true, true, transparent},
		{"host", false, false, Params{Skip: skipped, Redirect: 3129, TProxy: 3130, DNS: 5353, UID: user}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t, c.name, c.gateway)
			if c.netlink {
				p.lead(c.params)
			} else {
				p.load(c.params)
			}
			for _, host := range []string{"198.18.7.7", "2001:db8::7"} {
				at := func(port string) string { return net.JoinHostPort(host, port) }
				before := p.counters()
				p.takesTCP(at("443"))
				p.takesTCP(at("8080"))
				p.takesQUIC(at("443"))
				p.takesDNS(at("53"))
				now := p.counters()
				for _, name := range []string{"taken_tcp", "taken_quic", "taken_dns"} {
					require.Greater(t, now[name], before[name], name)
				}
				require.Equal(t, before["unseen_tcp"]+before["unseen_udp"], now["unseen_tcp"]+now["unseen_udp"])
				_, err := p.dial("udp", at("9999")).Write([]byte("unseen"))
				require.NoError(t, err)
				require.Equal(t, now["unseen_udp"]+1, p.counters()["unseen_udp"])
				p.passes(net.JoinHostPort(map[bool]string{true: "198.19.7.7", false: "2001:db8:ffff::7"}[host[0] == '1'], "443"))
				require.Greater(t, p.counters()["skipped"], now["skipped"])
				p.passes(net.JoinHostPort(map[bool]string{true: "198.19.7.7", false: "2001:db8:ffff::7"}[host[0] == '1'], "53"))
			}
			p.our()
		})
	}
}

// our demands that what we dial is not sent back to us.
func (p *place) our() {
	p.Helper()
	var l net.Listener
	require.NoError(p, p.inet.Do(func() (err error) { l, err = net.Listen("tcp", ":443"); return err }))
	defer l.Close()
	for _, to := range []string{"198.18.7.7:443", "[2001:db8::7]:443"} {
		require.NoError(p, p.us.Do(func() error {
			if p.params.UID != 0 { // a socket is of the user whose thread made it
				unix.SetfsuidRetUid(user)
				defer unix.SetfsuidRetUid(0)
			}
			c, err := net.DialTimeout("tcp", to, 5*time.Second)
			if err == nil {
				p.Cleanup(func() { c.Close() })
			}
			return err
		}))
		require.Equal(p, to, accept(p, l).LocalAddr().String())
	}
}

// TestNobodyListens: where our process is gone, TPROXY rules let the traffic pass
// and count it: it must not look as if nothing had been there.
func TestNobodyListens(t *testing.T) {
	p := newPlace(t, "nobody", true)
	p.load(Params{Clients: prefixes("10.1.0.0/24"), TProxy: 3130})
	p.tcp.Close()
	p.passes("198.18.7.7:443")
	require.NotZero(t, p.counters()["unseen_tcp"])
}

// cgrouped runs a script in the namespace of ours where cgroup v2 is mounted where
// nft looks for it, whatever this system does.
func (p *place) cgrouped(script string, args ...string) error {
	const mounted = "mount -t cgroup2 none /sys/fs/cgroup; cd /sys/fs/cgroup; "
	return p.us.Run("unshare", append([]string{"-m", "bash", "-ec", mounted + script, "bash"}, args...)...)
}

// TestCgroup: who is in the cgroup is not caught, everybody else is.
func TestCgroup(t *testing.T) {
	p := newPlace(t, "cgroup", false)
	name := fmt.Sprintf("eanft%d.slice", os.Getpid())
	if err := p.cgrouped("mkdir $1 $1/ours", name); err != nil {
		t.Skipf("needs cgroup v2: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, p.cgrouped("rmdir $1/ours $1", name)) })
	p.params = Params{Redirect: 3129, Cgroup: "/" + name + "/ours"}
	var text strings.Builder
	require.NoError(t, Render(&text, p.params))
	file := t.TempDir() + "/rules.nft"
	require.NoError(t, os.WriteFile(file, []byte(text.String()), 0o600))
	require.NoError(t, p.cgrouped("nft -c -f $1; nft -f $1", file))
	p.takesTCP("198.18.7.7:443")
	var l net.Listener
	require.NoError(t, p.inet.Do(func() (err error) { l, err = net.Listen("tcp", ":443"); return err }))
	defer l.Close()
	require.NoError(t, p.cgrouped("echo $$ >$1/ours/cgroup.procs; exec 3<>/dev/tcp/198.18.7.7/443", name))
	accept(t, l)
}
