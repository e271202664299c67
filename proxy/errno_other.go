//go:build !unix

package proxy

import "syscall"

func errnoSymbol(e syscall.Errno) string { return e.Error() }
