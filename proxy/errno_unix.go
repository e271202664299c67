//go:build unix

package proxy

import (
	"syscall"

	"golang.org/x/sys/unix"
)

func errnoSymbol(e syscall.Errno) string { return unix.ErrnoName(e) }
