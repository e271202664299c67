package proxy

import (
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
)

// knocked is a listener whose Close lets one more in, who has knocked before.
type knocked struct {
	net.Listener
	late   chan net.Conn // accepted once it is told to close
	closed chan struct{}
	once   sync.Once
}

func (l *knocked) Accept() (net.Conn, error) {
	<-l.closed
	if c, ok := <-l.late; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}

func (l *knocked) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// TestCapturedAtTheEnd: who has knocked when all is shut down is carried, and recorded.
func TestCapturedAtTheEnd(t *testing.T) {
	r := newRig(t, nil)
	port := site(t, func(s *net.TCPConn) { io.Copy(s, s) })
	tcp := listen(t)
	client, err := net.Dial("tcp", tcp.Addr().String())
	require.NoError(t, err)
	defer client.Close()
	waiting, err := tcp.Accept()
	require.NoError(t, err)
	l := &knocked{Listener: tcp, late: make(chan net.Conn), closed: make(chan struct{})}
	served := make(chan error, 1)
	go func() {
		served <- r.proxy.ServeCaptured(l, "redirect", func(*net.TCPConn) (netip.AddrPort, error) {
			return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(port)), nil
		})
	}()
	require.Eventually(t, func() bool { r.proxy.mu.Lock(); defer r.proxy.mu.Unlock(); return len(r.proxy.captures) > 0 }, patience, time.Millisecond)
	stopped := make(chan struct{})
	go func() { defer close(stopped); r.proxy.Shutdown(t.Context()) }()
	<-l.closed
	select {
	case <-stopped:
		t.Fatal("shut down, and somebody may still come")
	case <-time.After(20 * time.Millisecond):
	}
	l.late <- waiting
	close(l.late)
	_, err = io.WriteString(client, "\x00word")
	require.NoError(t, err)
	_, err = io.ReadFull(client, make([]byte, 5))
	require.NoError(t, err, "it is carried")
	client.Close()
	<-stopped
	require.NoError(t, <-served)
	require.Equal(t, policy.OK, r.one().Outcome)
}
