package capture

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// soOriginalDst is SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST
// (linux/netfilter_ipv4.h, linux/netfilter_ipv6/ip6_tables.h).
const soOriginalDst = 80

func originalDestination(c *net.TCPConn, local netip.AddrPort) (to netip.AddrPort, err error) {
	err = control(c, func(fd int) (err error) {
		to, err = redirectedFrom(fd, local.Addr().Is4())
		return err
	})
	switch {
	case errors.Is(err, unix.ENOENT): // tracked by nobody, so changed by nobody
		err = ErrNotRedirected
	case errors.Is(err, unix.ENOPROTOOPT):
		err = ErrNoConntrack
	}
	return to, err
}

// redirectedFrom asks the kernel, which answers with a sockaddr: x/sys has no call
// of that shape, but two that hand over as many octets.
func redirectedFrom(fd int, four bool) (netip.AddrPort, error) {
	if four {
		m, err := unix.GetsockoptIPv6Mreq(fd, unix.SOL_IP, soOriginalDst)
		if err != nil {
			return netip.AddrPort{}, err
		}
		return sockaddr4(m.Multiaddr[:]), nil
	}
	m, err := unix.GetsockoptIPv6MTUInfo(fd, unix.SOL_IPV6, soOriginalDst)
	if err != nil {
		return netip.AddrPort{}, err
	}
	var port [2]byte
	binary.NativeEndian.PutUint16(port[:], m.Addr.Port)
	return netip.AddrPortFrom(netip.AddrFrom16(m.Addr.Addr), binary.BigEndian.Uint16(port[:])), nil
}

// sockaddr4 and sockaddr6 read struct sockaddr_in and sockaddr_in6.
func sockaddr4(b []byte) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), binary.BigEndian.Uint16(b[2:]))
}

func sockaddr6(b []byte) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[8:24])), binary.BigEndian.Uint16(b[2:]))
}

// control runs f on the socket of c.
func control(c syscall.Conn, f func(fd int) error) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	return rawControl(raw, f)
}

func rawControl(raw syscall.RawConn, f func(fd int) error) error {
	var inner error
	err := raw.Control(func(fd uintptr) { inner = f(int(fd)) })
	return errors.Join(err, inner)
}

// transparent lets a socket have any address of any host as its own.
func transparent(network, _ string, raw syscall.RawConn) error {
	return rawControl(raw, func(fd int) error { return setTransparent(network, fd) })
}

func setTransparent(network string, fd int) error {
	var err error
	if strings.HasSuffix(network, "6") {
		err = unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_TRANSPARENT, 1)
	} else {
		err = unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_TRANSPARENT, 1)
	}
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w: %w", ErrPrivilege, err)
	}
	return err
}

// ListenTransparent listens on addr ("127.0.0.1:3129", "[::]:3129": both families)
// for TCP connections that a TPROXY rule hands over. TransparentDestination says
// where each goes; they have no keep-alives. The error is ErrPrivilege where the
// process may not.
func ListenTransparent(ctx context.Context, addr string) (*net.TCPListener, error) {
	config := net.ListenConfig{Control: transparent, KeepAlive: -1}
	config.SetMultipathTCP(false) // its sockets take no options of this kind
	l, err := config.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen on %q for TPROXY: %w", addr, cause(err))
	}
	return l.(*net.TCPListener), nil
}

// cause drops what package net says around the errors of this package.
func cause(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// PacketConn takes the UDP datagrams that a TPROXY rule hands over. Its methods
// may be called at once, but Read by one goroutine.
type PacketConn struct {
	conn *net.UDPConn
	addr netip.AddrPort
	oob  [256]byte
}

// ListenPacket listens on addr for UDP as ListenTransparent does for TCP.
func ListenPacket(ctx context.Context, addr string) (*PacketConn, error) {
	config := net.ListenConfig{Control: func(network, address string, raw syscall.RawConn) error {
		if err := transparent(network, address, raw); err != nil {
			return err
		}
		return rawControl(raw, func(fd int) error { return tellDestination(network, fd) })
	}}
	c, err := config.ListenPacket(ctx, "udp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen on UDP %q for TPROXY: %w", addr, cause(err))
	}
	u := c.(*net.UDPConn)
	u.SetReadBuffer(4 * readBuffer) // as much as the system allows
	return &PacketConn{conn: u, addr: addrPort(u.LocalAddr())}, nil
}

// tellDestination has every datagram come with its original destination. A socket
// of IPv6 takes IPv4 too.
func tellDestination(network string, fd int) error {
	four := unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_RECVORIGDSTADDR, 1)
	if strings.HasSuffix(network, "4") {
		return four
	}
	return unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_RECVORIGDSTADDR, 1)
}

// Read takes the next datagram into b: from client, sent to the address to. The
// error is ErrNotRedirected for a datagram that was sent to us ourselves; more can be
// read after it.
func (c *PacketConn) Read(b []byte) (n int, client, to netip.AddrPort, err error) {
	n, oobn, _, client, err := c.conn.ReadMsgUDPAddrPort(b, c.oob[:])
	if err != nil {
		return 0, client, to, err
	}
	client = unmap(client)
	to, ok := destination(c.oob[:oobn])
	if !ok || direct(to, c.addr) {
		return n, client, to, fmt.Errorf("original destination of the datagram from %q: %w", client, ErrNotRedirected)
	}
	return n, client, to, nil
}

// destination reads the control messages of a datagram.
func destination(oob []byte) (netip.AddrPort, bool) {
	for len(oob) > 0 {
		h, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			break
		}
		switch {
		case h.Level == unix.SOL_IP && h.Type == unix.IP_ORIGDSTADDR && len(data) >= unix.SizeofSockaddrInet4:
			return sockaddr4(data), true
		case h.Level == unix.SOL_IPV6 && h.Type == unix.IPV6_ORIGDSTADDR && len(data) >= unix.SizeofSockaddrInet6:
			return unmap(sockaddr6(data)), true
		}
		oob = rest
	}
	return netip.AddrPort{}, false
}

// Addr is the address listened on.
func (c *PacketConn) Addr() net.Addr { return c.conn.LocalAddr() }

// Close ends Read.
func (c *PacketConn) Close() error { return c.conn.Close() }

// AnswerFrom opens a UDP socket that sends as if it were from, any address of any
// host: what a client asked there is answered from there. The caller closes it.
func AnswerFrom(from netip.AddrPort) (*net.UDPConn, error) {
	config := net.ListenConfig{Control: func(network, address string, raw syscall.RawConn) error {
		if err := transparent(network, address, raw); err != nil {
			return err
		}
		// Several flows lead to one server.
		return rawControl(raw, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
	}}
	c, err := config.ListenPacket(context.Background(), udpNetwork(from.Addr()), from.String())
	if err != nil {
		return nil, fmt.Errorf("answer from %q: %w", from, cause(err))
	}
	return c.(*net.UDPConn), nil
}

func udpNetwork(a netip.Addr) string {
	if a.Is4() {
		return "udp4"
	}
	return "udp6"
}

// KeepClientAddress is a net.Dialer's Control that dials, TCP or UDP, from the
// client's address and a port of the system's choice; the Dialer's LocalAddr stays
// nil. The answers must come back through this host, and rules must give it those
// packets (deploy/nftables). The error is ErrPrivilege where the process may not.
func KeepClientAddress(client netip.Addr) func(network, address string, c syscall.RawConn) error {
	client = client.Unmap()
	return func(network, address string, raw syscall.RawConn) error {
		var from unix.Sockaddr = &unix.SockaddrInet6{Addr: client.As16()}
		if client.Is4() {
			from = &unix.SockaddrInet4{Addr: client.As4()}
		}
		if client.Is4() != strings.HasSuffix(network, "4") {
			return fmt.Errorf("dial %q from the client's address %q: one is IPv4, the other IPv6", address, client)
		}
		return rawControl(raw, func(fd int) error {
			if err := setTransparent(network, fd); err != nil {
				return err
			}
			// The port is chosen by the kernel when it knows the destination.
			if err := unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
				return err
			}
			return unix.Bind(fd, from)
		})
	}
}
