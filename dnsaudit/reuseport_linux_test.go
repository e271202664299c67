package dnsaudit

import (
	"context"
	"net"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

const soReusePort = 15 // of asm-generic/socket.h; package syscall has it for some processors only

// Sockets that share a port lose nothing on shutdown either, what the kernel has
// queued for each of them included.
func TestShutdownOfSharedPort(t *testing.T) {
	shared := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		_ = c.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, soReusePort, 1) })
		return err
	}}
	held, tcp := listen(t)
	at := held.LocalAddr().String()
	held.Close()
	var udps []net.PacketConn
	for range 3 {
		udp, err := shared.ListenPacket(context.Background(), "udp4", at)
		require.NoError(t, err)
		udps = append(udps, udp)
	}
	shutdownLosesNothing(t, tcp, udps...)
}
