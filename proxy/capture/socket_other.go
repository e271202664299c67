//go:build !linux

package capture

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"
)

func originalDestination(*net.TCPConn, netip.AddrPort) (netip.AddrPort, error) {
	return netip.AddrPort{}, ErrUnsupported
}

// ListenTransparent is for Linux: the error is ErrUnsupported.
func ListenTransparent(_ context.Context, addr string) (*net.TCPListener, error) {
	return nil, fmt.Errorf("listen on %q for TPROXY: %w", addr, ErrUnsupported)
}

// PacketConn is for Linux: there is none.
type PacketConn struct{}

// ListenPacket is for Linux: the error is ErrUnsupported.
func ListenPacket(_ context.Context, addr string) (*PacketConn, error) {
	return nil, fmt.Errorf("listen on UDP %q for TPROXY: %w", addr, ErrUnsupported)
}

// Read returns ErrUnsupported.
func (*PacketConn) Read([]byte) (n int, client, to netip.AddrPort, err error) {
	return 0, client, to, ErrUnsupported
}

// Addr returns nil.
func (*PacketConn) Addr() net.Addr { return nil }

// Close does nothing.
func (*PacketConn) Close() error { return nil }

// AnswerFrom is for Linux: the error is ErrUnsupported.
func AnswerFrom(from netip.AddrPort) (*net.UDPConn, error) {
	return nil, fmt.Errorf("answer from %q: %w", from, ErrUnsupported)
}

// KeepClientAddress is for Linux: the Control's error is ErrUnsupported.
func KeepClientAddress(netip.Addr) func(network, address string, c syscall.RawConn) error {
	return func(_, address string, _ syscall.RawConn) error {
		return fmt.Errorf("dial %q from the client's address: %w", address, ErrUnsupported)
	}
}
