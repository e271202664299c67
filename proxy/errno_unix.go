//go:build unix

package proxy

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// enonet is what Linux makes of ICMP "source host isolated".
const enonet = syscall.Errno(64)

func errnoSymbol(e syscall.Errno) string { return unix.ErrnoName(e) }
