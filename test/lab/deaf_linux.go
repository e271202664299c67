package lab

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"syscall"
	"time"
	"unsafe"
)

// deafness is a listening socket that nobody accepts from, and the connections
// that fill its queue.
type deafness struct {
	fd      int
	fillers []net.Conn
}

// deaf listens at addr so that a SYN gets no answer: with a full accept queue
// the kernel drops it (net/ipv4/tcp_input.c, tcp_conn_request).
func deaf(addr netip.AddrPort) (io.Closer, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	d := &deafness{fd: fd}
	err = syscall.Bind(fd, &syscall.SockaddrInet4{Addr: addr.Addr().As4(), Port: int(addr.Port())})
	if err == nil {
		err = syscall.Listen(fd, 0)
	}
	if err == nil {
		err = d.fill(addr)
	}
	if err != nil {
		d.Close()
		return nil, fmt.Errorf("drop what comes to %s: %w", addr, err)
	}
	return d, nil
}

// fill connects until a connection is not answered.
func (d *deafness) fill(addr netip.AddrPort) error {
	for range 16 {
		c, err := net.DialTimeout("tcp4", addr.String(), 250*time.Millisecond)
		if late := net.Error(nil); errors.As(err, &late) && late.Timeout() {
			if len(d.fillers) == 0 { // a slow machine, not a full queue
				continue
			}
			return nil
		}
		if err != nil {
			return err
		}
		d.fillers = append(d.fillers, c)
	}
	return errors.New("the kernel goes on answering")
}

// Close frees the socket.
func (d *deafness) Close() error {
	for _, c := range d.fillers {
		c.Close()
	}
	return syscall.Close(d.fd)
}

// unsent counts the bytes that the other side has not acknowledged (tcp(7),
// SIOCOUTQ).
func unsent(c *net.TCPConn) (n int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var queued int32
	cerr := raw.Control(func(fd uintptr) {
		_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCOUTQ, uintptr(unsafe.Pointer(&queued)))
		if errno != 0 {
			err = errno
		}
	})
	return int(queued), errors.Join(cerr, err)
}
