//go:build !linux

package lab

import (
	"errors"
	"io"
	"net"
	"net/netip"
)

func deaf(netip.AddrPort) (io.Closer, error) {
	return nil, errors.New("dropping SYNs needs Linux")
}

func unsent(*net.TCPConn) (int, error) { return 0, errors.ErrUnsupported }
