//go:build !unix

package proxy

import "syscall"

const enonet = syscall.Errno(1<<29 - 1)

func errnoSymbol(e syscall.Errno) string { return e.Error() }
