package capture

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// await waits for the next datagram of a connected socket and gives it to take; an
// error of the socket (an ICMP message, say) too, after which it works on. The
// error returned is that of a closed socket.
func await(raw syscall.RawConn, take func([]byte, error)) error {
	return raw.Read(func(fd uintptr) bool {
		room := rooms.Get().(*[]byte)
		defer rooms.Put(room)
		for {
			switch n, err := unix.Read(int(fd), *room); err {
			case unix.EINTR:
			case unix.EAGAIN:
				return false
			default:
				take((*room)[:max(n, 0)], err)
				return true
			}
		}
	})
}

func errnoName(e syscall.Errno) string { return unix.ErrnoName(e) }
