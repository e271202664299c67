package isolate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// logBuffer is how much the kernel keeps of what Watch has not read yet.
const logBuffer = 4 << 20

// listenLog opens the netlink socket on which the rules tell of packets
// (linux/netfilter/nfnetlink_log.h).
func listenLog() (*netlink.Conn, error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("listen for refused packets (kernel module nfnetlink_log): %w", err)
	}
	_ = c.SetReadBuffer(logBuffer) // as much as the system allows
	for _, group := range []Why{Refused, Closed} {
		if err := bindLog(c, group); err != nil {
			return nil, errors.Join(fmt.Errorf("listen for refused packets: %w", err), c.Close())
		}
	}
	return c, nil
}

func bindLog(c *netlink.Conn, group Why) error {
	const bind, copyPacket = 1, 2                          // NFULNL_CFG_CMD_BIND, NFULNL_COPY_PACKET
	const command, mode, configure, threshold = 1, 2, 1, 5 // NFULA_CFG_CMD, _MODE, NFULNL_MSG_CONFIG, NFULA_CFG_QTHRESH
	a := netlink.NewAttributeEncoder()
	a.Bytes(command, []byte{bind})
	a.Bytes(mode, []byte{0, 0, snap >> 8, 0, copyPacket, 0})
	a.Bytes(threshold, []byte{0, 0, 0, 1}) // each at once
	attributes, err := a.Encode()
	if err != nil {
		return err
	}
	head := []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, byte(group >> 8), byte(group)}
	_, err = c.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_SUBSYS_ULOG<<8 | configure, Flags: netlink.Request | netlink.Acknowledge},
		Data:   append(head, attributes...),
	})
	return err
}

// Watch calls f for each packet that the rules tell of, one after the other, until
// Unwatch; then it returns nil. lost counts how often packets came faster than they
// were read, so that some were not told. It is called once.
func (s *Space) Watch(f func(Packet)) (lost uint64, err error) {
	raw, err := s.log.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("listen for refused packets: %w", err)
	}
	b := make([]byte, 1<<16)
	for err == nil {
		err = raw.Read(func(fd uintptr) bool {
			lost += readLog(int(fd), b, f)
			return false
		})
	}
	raw.Control(func(fd uintptr) { lost += readLog(int(fd), b, f) }) // what came before Unwatch
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return lost, fmt.Errorf("listen for refused packets: %w", err)
	}
	return lost, nil
}

// Unwatch ends Watch, when it has told of all packets up to now.
func (s *Space) Unwatch() { s.log.SetReadDeadline(time.Unix(1, 0)) }

// readLog reads what is there, and says how often something was lost.
func readLog(fd int, b []byte, f func(Packet)) (lost uint64) {
	for {
		n, _, err := unix.Recvfrom(fd, b, unix.MSG_DONTWAIT)
		switch {
		case err == unix.EAGAIN:
			return lost
		case err == unix.EINTR:
			continue
		case err == unix.ENOBUFS:
			lost++
			continue
		case err != nil:
			return lost + 1
		}
		messages, err := syscall.ParseNetlinkMessage(b[:n])
		if err != nil {
			lost++
		}
		for _, m := range messages {
			if p, ok := logged(m); ok {
				f(p)
			}
		}
	}
}

// logged reads the packet out of a message.
func logged(m syscall.NetlinkMessage) (p Packet, ok bool) {
	const packet, payload = 0, 9 // NFULNL_MSG_PACKET, NFULA_PAYLOAD
	if m.Header.Type != unix.NFNL_SUBSYS_ULOG<<8|packet || len(m.Data) < 4 {
		return p, false
	}
	why := Why(binary.BigEndian.Uint16(m.Data[2:]))
	a, err := netlink.NewAttributeDecoder(m.Data[4:])
	for err == nil && a.Next() {
		if a.Type() == payload {
			return parse(why, a.Bytes())
		}
	}
	return p, false
}
