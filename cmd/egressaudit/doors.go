package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"

	"github.com/egressaudit/egressaudit/proxy/capture"
)

// door is a flag that says where to listen, and what for.
type door struct {
	flag    string // with its dashes
	use     string // what others could do there
	example string
}

var (
	proxyDoor = door{"--proxy", "use the proxy", "127.0.0.1:3128"}
	dnsDoor   = door{"--dns", "ask the name server", "127.0.0.1:53"}
	adminDoor = door{"--admin", "reach the admin address", "127.0.0.1:3180"}
)

// address reads ADDRESS:PORT.
func (d door) address(text string) (netip.AddrPort, error) {
	a, err := netip.ParseAddrPort(text)
	if err != nil {
		return a, fmt.Errorf("%s %q: write ADDRESS:PORT, such as %s", d.flag, text, d.example)
	}
	return a, nil
}

// named refuses an address beyond loopback, unless somebody said who may use it.
func (d door) named(text string, named bool) error {
	a, err := d.address(text)
	if err == nil && !a.Addr().IsLoopback() && !named {
		err = fmt.Errorf("%s %q: others than this host could %s (say who may: --clients CIDR)", d.flag, text, d.use)
	}
	return err
}

// missing says that another flag is about this door, which was not asked for.
func (d door) missing(flag string) error {
	return fmt.Errorf("%s: it does nothing without %s (add %s ADDRESS:PORT, or leave it out)", flag, d.flag, d.flag)
}

// tcp binds an address. Its connections have no keep-alives: what a firewall does
// to an idle one is for the trial to see. Whoever has knocked when it is closed is let
// in (listener).
func (d door) tcp(text string) (net.Listener, error) {
	config := net.ListenConfig{KeepAlive: -1}
	config.SetMultipathTCP(false) // its sockets know neither the filter of a last call nor original destinations
	l, err := config.Listen(context.Background(), "tcp", text)
	if err != nil {
		return nil, d.refused(text, err)
	}
	return &listener{TCPListener: l.(*net.TCPListener)}, nil
}

// both binds one port for UDP and TCP.
func (d door) both(text string) (udp net.PacketConn, tcp net.Listener, err error) {
	a, err := d.address(text)
	if err != nil {
		return nil, nil, err
	}
	const tries = 20 // a free port of TCP may be taken in UDP
	for range tries {
		if tcp, err = d.tcp(text); err != nil {
			return nil, nil, err
		}
		at := netip.AddrPortFrom(a.Addr(), uint16(tcp.Addr().(*net.TCPAddr).Port))
		if udp, err = net.ListenPacket("udp", at.String()); err == nil {
			return udp, tcp, nil
		}
		tcp.Close()
		if a.Port() != 0 {
			break
		}
	}
	return nil, nil, d.refused(text, err)
}

// refused says why an address cannot be listened on, and what to take.
func (d door) refused(text string, err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	var call *os.SyscallError
	if errors.As(err, &call) {
		err = call.Err
	}
	told := fmt.Errorf("%s %q: %w", d.flag, text, err)
	a, _ := d.address(text)
	switch {
	case errors.Is(err, capture.ErrPrivilege):
		return fmt.Errorf("%s %q: %w", d.flag, text, capture.ErrPrivilege) // which says what to do
	case errors.Is(err, syscall.EADDRINUSE):
		return hinted(told, "take another port, or 0 for any free one")
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return hinted(told, "no interface of this host has it: take one that has, or 127.0.0.1")
	case errors.Is(err, os.ErrPermission) && a.Port() < 1024:
		return hinted(told, "take a port above 1023, such as %s, or grant CAP_NET_BIND_SERVICE", d.unprivileged())
	}
	return told
}

// unprivileged is a port that any user may take.
func (d door) unprivileged() string {
	a := netip.MustParseAddrPort(d.example)
	if a.Port() < 1024 {
		return "53" + strconv.Itoa(int(a.Port())) // 5353
	}
	return strconv.Itoa(int(a.Port()))
}

// bound is the address of a listener.
func bound(a net.Addr) netip.AddrPort {
	at, _ := netip.ParseAddrPort(a.String()) // a listener has one
	return at
}
