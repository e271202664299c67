package capture

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/egressaudit/egressaudit/test/lab/netns"
)

// world is a client, a gateway where we would be, and an internet that owns
// 198.18.0.0/15 and 2001:db8::/32.
type world struct{ client, gateway, inet *netns.Space }

func newWorld(t *testing.T, label string) *world {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	for _, program := range []string{"ip", "nft"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("needs %s: %v", program, err)
		}
	}
	n := netns.New("eacapt", label)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	var s [3]*netns.Space
	for i, name := range []string{"client", "gateway", "inet"} {
		var err error
		s[i], err = n.Add(name)
		require.NoError(t, err)
	}
	w := &world{s[0], s[1], s[2]}
	require.NoError(t, errors.Join(
		n.Link(w.client, "10.1.0.2/24 fd01::2/64", w.gateway, "10.1.0.1/24 fd01::1/64"),
		n.Link(w.gateway, "10.2.0.1/24 fd02::1/64", w.inet, "10.2.0.2/24 fd02::2/64"),
		w.gateway.Router(),
		w.client.Route("default", "10.1.0.1"), w.client.Route("default", "fd01::1"),
		w.inet.Route("default", "10.2.0.1"), w.inet.Route("default", "fd02::1"),
		w.gateway.Route("198.18.0.0/15", "10.2.0.2"), w.gateway.Route("2001:db8::/32", "fd02::2"),
		w.inet.Own("198.18.0.0/15"), w.inet.Own("2001:db8::/32"),
	))
	return w
}

// tproxy has what the client sends to port 443 handed to our port, and what comes
// back from a port 443 to the sockets that have its address.
func (w *world) tproxy(t *testing.T, port uint16) {
	t.Helper()
	for _, family := range []string{"-4", "-6"} {
		require.NoError(t, errors.Join(
			w.gateway.Run("ip", family, "rule", "add", "fwmark", "1", "lookup", "100"),
			w.gateway.Run("ip", family, "route", "add", "local", "default", "dev", "lo", "table", "100"),
		))
	}
	require.NoError(t, w.gateway.Nft(fmt.Sprintf(`table inet t {
		chain c {
			type filter hook prerouting priority mangle;
			meta l4proto { tcp, udp } th sport 443 socket transparent 1 meta mark set 1 accept
			meta l4proto tcp socket transparent 1 meta mark set 1 accept
			iifname "l1b" meta l4proto { tcp, udp } th dport 443 tproxy to :%d meta mark set 1 accept
		}
	}`, port)))
}

// within runs f in a namespace.
func within[T any](t *testing.T, s *netns.Space, f func() (T, error)) (v T) {
	t.Helper()
	require.NoError(t, s.Do(func() (err error) { v, err = f(); return err }))
	return v
}

func (w *world) dial(t *testing.T, network, to string) net.Conn {
	t.Helper()
	c := within(t, w.client, func() (net.Conn, error) { return net.DialTimeout(network, to, 5*time.Second) })
	t.Cleanup(func() { c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(10*time.Second)))
	return c
}

// take accepts a connection, and calls what the client gets instead of an answer.
func take(t *testing.T, l net.Listener) *net.TCPConn {
	t.Helper()
	c, err := l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

func portOf(a net.Addr) uint16 { return addrPort(a).Port() }

// destinations are one of each family, and the gateway's own address in it.
var destinations = []struct{ to, gateway, client string }{
	{"198.18.7.7:443", "10.1.0.1", "10.1.0.2"},
	{"[2001:db8::7]:443", "fd01::1", "fd01::2"},
}

func TestRedirect(t *testing.T) {
	w := newWorld(t, "redirect")
	l := within(t, w.gateway, func() (net.Listener, error) { return net.Listen("tcp", "[::]:0") })
	defer l.Close()
	require.NoError(t, w.gateway.Nft(fmt.Sprintf("table inet t { chain c { type nat hook prerouting priority dstnat; tcp dport 443 redirect to :%d; }; }", portOf(l.Addr()))))
	for _, d := range destinations {
		c := w.dial(t, "tcp", d.to)
		to, err := OriginalDestination(take(t, l))
		require.NoError(t, err)
		require.Equal(t, d.to, to.String())
		require.Equal(t, d.to, c.RemoteAddr().String())

		w.dial(t, "tcp", net.JoinHostPort(d.gateway, fmt.Sprint(portOf(l.Addr()))))
		_, err = OriginalDestination(take(t, l))
		require.ErrorIs(t, err, ErrNotRedirected, "a client that comes of itself")
	}
}

// TestNotRedirected: without any rule, in the namespace that the test runs in.
func TestNotRedirected(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	_, err = OriginalDestination(take(t, l))
	require.Error(t, err)
	if !errors.Is(err, ErrNoConntrack) {
		require.ErrorIs(t, err, ErrNotRedirected)
	}
}

func TestTransparentTCP(t *testing.T) {
	w := newWorld(t, "tproxy")
	l := within(t, w.gateway, func() (*net.TCPListener, error) { return ListenTransparent(t.Context(), "[::]:0") })
	defer l.Close()
	w.tproxy(t, portOf(l.Addr()))
	for _, d := range destinations {
		c := w.dial(t, "tcp", d.to)
		ours := take(t, l)
		to, err := TransparentDestination(ours, l.Addr())
		require.NoError(t, err)
		require.Equal(t, d.to, to.String())
		require.NoError(t, control(ours, func(fd int) error {
			on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE)
			require.Zero(t, on, "what a firewall does to an idle connection is for the trial to see")
			return err
		}))
		_, err = ours.Write([]byte("answer"))
		require.NoError(t, err)
		got := make([]byte, 6)
		_, err = io.ReadFull(c, got)
		require.NoError(t, err)
		require.Equal(t, "answer", string(got))

		w.dial(t, "tcp", net.JoinHostPort(d.gateway, fmt.Sprint(portOf(l.Addr()))))
		_ = within(t, w.gateway, func() (int, error) {
			_, err = TransparentDestination(take(t, l), l.Addr())
			return 0, nil
		})
		require.ErrorIs(t, err, ErrNotRedirected, "a client that comes of itself")
	}
}

func TestTransparentUDP(t *testing.T) {
	w := newWorld(t, "udp")
	p := within(t, w.gateway, func() (*PacketConn, error) { return ListenPacket(t.Context(), "[::]:0") })
	defer p.Close()
	w.tproxy(t, portOf(p.Addr()))
	buf := make([]byte, 1500)
	for _, d := range destinations {
		to := netip.MustParseAddrPort(d.to)
		c := w.dial(t, "udp", d.to)
		// The answering sockets of two flows to one server, and a datagram behind
		// them: they take none of the client's.
		for range 2 {
			_, err := c.Write([]byte("question"))
			require.NoError(t, err)
			n, client, asked, err := p.Read(buf)
			require.NoError(t, err)
			require.Equal(t, "question", string(buf[:n]))
			require.Equal(t, c.LocalAddr().String(), client.String())
			require.Equal(t, to, asked)
			back := within(t, w.gateway, func() (*net.UDPConn, error) { return AnswerFrom(asked) })
			defer back.Close()
			_, err = back.WriteToUDPAddrPort([]byte("answer"), client)
			require.NoError(t, err)
			n, err = c.Read(buf)
			require.NoError(t, err)
			require.Equal(t, "answer", string(buf[:n]))
		}
		own := w.dial(t, "udp", net.JoinHostPort(d.gateway, fmt.Sprint(portOf(p.Addr()))))
		_, err := own.Write([]byte("to ourselves"))
		require.NoError(t, err)
		err = w.gateway.Do(func() error { _, _, _, err := p.Read(buf); return err })
		require.ErrorIs(t, err, ErrNotRedirected)
	}
}

// TestKeepClientAddress: the internet sees the client, and its answer comes back
// to us.
func TestKeepClientAddress(t *testing.T) {
	w := newWorld(t, "keep")
	w.tproxy(t, 1)
	require.NoError(t, w.inet.Batch("addr add 198.18.7.7/32 dev lo\naddr add 2001:db8::7/128 dev lo nodad\n"))
	for _, d := range destinations {
		client := netip.MustParseAddr(d.client)
		dialer := net.Dialer{Control: KeepClientAddress(client), Timeout: 5 * time.Second}

		l := within(t, w.inet, func() (net.Listener, error) { return net.Listen("tcp", d.to) })
		defer l.Close()
		var server *net.TCPConn
		accepted := make(chan struct{})
		go func() { defer close(accepted); c, _ := l.Accept(); server, _ = c.(*net.TCPConn) }()
		c := within(t, w.gateway, func() (net.Conn, error) { return dialer.Dial("tcp", d.to) })
		defer c.Close()
		<-accepted
		require.NotNil(t, server)
		defer server.Close()
		require.Equal(t, client, addrPort(server.RemoteAddr()).Addr())

		u := within(t, w.inet, func() (*net.UDPConn, error) {
			return net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(d.to)))
		})
		defer u.Close()
		c = within(t, w.gateway, func() (net.Conn, error) { return dialer.Dial("udp", d.to) })
		defer c.Close()
		require.NoError(t, errors.Join(c.SetDeadline(time.Now().Add(10*time.Second)), u.SetDeadline(time.Now().Add(10*time.Second))))
		_, err := c.Write([]byte("question"))
		require.NoError(t, err)
		buf := make([]byte, 100)
		_, from, err := u.ReadFromUDPAddrPort(buf)
		require.NoError(t, err)
		require.Equal(t, client, from.Addr().Unmap())
		_, err = u.WriteToUDPAddrPort([]byte("answer"), from)
		require.NoError(t, err)
		n, err := c.Read(buf)
		require.NoError(t, err)
		require.Equal(t, "answer", string(buf[:n]))
	}
	_, err := (&net.Dialer{Control: KeepClientAddress(netip.MustParseAddr("fd01::2"))}).Dial("tcp", "127.0.0.1:1")
	require.ErrorContains(t, err, "IPv6")
}

// TestPrivilege: without the capability, every transparent socket says what is
// missing.
func TestPrivilege(t *testing.T) {
	errs := make(chan error, 4)
	go func() {
		defer close(errs)
		runtime.LockOSThread() // and never unlocked: the thread without rights ends with it
		h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		if err := unix.Capset(&h, &none[0]); err != nil {
			errs <- err
			return
		}
		_, err := ListenTransparent(t.Context(), "127.0.0.1:0")
		errs <- err
		_, err = ListenPacket(t.Context(), "127.0.0.1:0")
		errs <- err
		_, err = AnswerFrom(netip.MustParseAddrPort("198.18.0.1:443"))
		errs <- err
		d := net.Dialer{Control: KeepClientAddress(netip.MustParseAddr("198.18.0.1"))}
		_, err = d.Dial("tcp", "127.0.0.1:1")
		errs <- err
	}()
	count := 0
	for err := range errs {
		require.ErrorIs(t, err, ErrPrivilege)
		require.ErrorIs(t, err, syscall.EPERM)
		require.ErrorContains(t, err, "CAP_NET_ADMIN")
		count++
	}
	require.Equal(t, 4, count)
}
