//go:build !linux

package capture

import "syscall"

// await is for Linux, as the sockets are whose datagrams it would read.
func await(syscall.RawConn, func([]byte, error)) error { return ErrUnsupported }

func errnoName(e syscall.Errno) string { return e.Error() }
