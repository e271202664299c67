package capture

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// Errors that callers can test for.
var (
	// ErrNotRedirected says that a client came to the listener itself. There is
	// nowhere to carry that: to dial what it asked for would be to dial us.
	ErrNotRedirected = errors.New("it was not redirected: the client connected to the listener itself")
	// ErrNoConntrack says that the kernel keeps no original destinations.
	ErrNoConntrack = errors.New("the kernel keeps no original destinations (load the module: modprobe nf_conntrack; REDIRECT rules of nftables or iptables load it too)")
	// ErrPrivilege says that the process may not use transparent sockets.
	ErrPrivilege = errors.New("transparent sockets need the capability CAP_NET_ADMIN in the user namespace that owns the network (run as root, or: setcap cap_net_admin+ep egressaudit)")
	// ErrUnsupported says that the system has no such sockets.
	ErrUnsupported = errors.New("captured traffic is supported on Linux only")
)

// OriginalDestination says where a connection went before a REDIRECT rule sent it
// to our listener, IPv4 or IPv6. The error is ErrNotRedirected for a client that
// came of itself, ErrNoConntrack or ErrUnsupported where the kernel cannot tell.
func OriginalDestination(c *net.TCPConn) (netip.AddrPort, error) {
	local := addrPort(c.LocalAddr())
	to, err := originalDestination(c, local)
	if err == nil && to == local {
		err = ErrNotRedirected
	}
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("original destination of the connection from %q: %w", c.RemoteAddr(), err)
	}
	return to, nil
}

// TransparentDestination says where a connection goes that a TPROXY rule gave to
// the listener: it is its local address. The error is ErrNotRedirected for a
// client that came of itself.
func TransparentDestination(c *net.TCPConn, listener net.Addr) (netip.AddrPort, error) {
	local := addrPort(c.LocalAddr())
	if direct(local, addrPort(listener)) {
		return netip.AddrPort{}, fmt.Errorf("original destination of the connection from %q: %w", c.RemoteAddr(), ErrNotRedirected)
	}
	return local, nil
}

// direct says whether a destination is the listener itself: for one on every
// address of the host, any of those.
func direct(to, listener netip.AddrPort) bool {
	if to == listener {
		return true
	}
	if to.Port() != listener.Port() || !listener.Addr().IsUnspecified() {
		return false
	}
	if to.Addr().IsLoopback() || to.Addr().IsUnspecified() {
		return true
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return true // on our port, and nobody can tell that it is somebody else
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().WithZone("") == to.Addr().WithZone("") {
			return true
		}
	}
	return false
}

// addrPort is the address of a TCP or UDP socket, IPv4 as IPv4.
func addrPort(a net.Addr) (to netip.AddrPort) {
	switch a := a.(type) {
	case *net.TCPAddr:
		to = a.AddrPort()
	case *net.UDPAddr:
		to = a.AddrPort()
	}
	return unmap(to)
}

func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }
