package main

import (
	"errors"
	"net"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// noNew is a socket filter that drops the first segment of a handshake, SYN without
// ACK, and nothing else (RFC 9293 section 3.1: the flags are octet 13).
var noNew = []bpf.Instruction{
	bpf.LoadAbsolute{Off: 13, Size: 1},
	bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0x12},
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0x02, SkipFalse: 1},
	bpf.RetConstant{Val: 0},
	bpf.RetConstant{Val: 0xffffffff},
}

// admitNone keeps new handshakes from l; those that have begun go on. Their clients
// hear nothing, and ask again in a second. It is false where the kernel knows no such
// filter.
func admitNone(l *net.TCPListener) bool {
	code, err := bpf.Assemble(noNew)
	if err != nil {
		return false
	}
	filter := make([]unix.SockFilter, len(code))
	for i, c := range code {
		filter[i] = unix.SockFilter{Code: c.Op, Jt: c.Jt, Jf: c.Jf, K: c.K}
	}
	raw, err := l.SyscallConn()
	if err != nil {
		return false
	}
	attached := errors.New("not called")
	err = raw.Control(func(fd uintptr) {
		attached = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
	})
	return errors.Join(err, attached) == nil
}
