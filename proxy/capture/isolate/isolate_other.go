//go:build !linux

package isolate

import (
	"io"
	"net"
	"os/exec"
)

// Space is a namespace; here there is none.
type Space struct {
	Captured, Proxy, Names *net.TCPListener
	Packets                *net.UDPConn
	Command                *exec.Cmd
	Unprivileged           bool
}

// Start fails with ErrUnsupported.
func Start(Config, io.Reader, io.Writer, io.Writer) (*Space, error) { return nil, ErrUnsupported }

// Main does nothing: nobody starts this program again.
func Main([]string) {}

// Exec fails with ErrUnsupported.
func (s *Space) Exec(string, []string, []string) error { return ErrUnsupported }

// Dial fails with ErrUnsupported.
func (s *Space) Dial(string, uint16) (net.Conn, error) { return nil, ErrUnsupported }

// Watch fails with ErrUnsupported.
func (s *Space) Watch(func(Packet)) (uint64, error) { return 0, ErrUnsupported }

// Unwatch does nothing.
func (s *Space) Unwatch() {}

// UnixSockets are none.
func UnixSockets() []string { return nil }

// Processes are none.
func (s *Space) Processes() []int { return nil }

// Close does nothing.
func (s *Space) Close() error { return nil }
