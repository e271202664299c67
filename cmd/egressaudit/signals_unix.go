//go:build unix

package main

import (
	"math"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// passedOn are the signals that run gives to its child.
var passedOn = []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2}

// sentByTerminal says that the child has the signal already: a key on the
// terminal reaches the whole foreground process group.
func sentByTerminal(s os.Signal) bool {
	if s != syscall.SIGINT && s != syscall.SIGQUIT {
		return false
	}
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	defer tty.Close()
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// notifyReload asks for the signal that means: read the catalogs again.
func notifyReload(c chan<- os.Signal) { signal.Notify(c, syscall.SIGHUP) }

// outliveReaders has a write to a standard stream that nobody reads any more fail, as
// any other write does, instead of ending the process (os/signal, SIGPIPE).
func outliveReaders() { signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) }

// openFiles is how many descriptors the process may have.
func openFiles() uint64 {
	var r unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &r) != nil {
		return 1024
	}
	return min(uint64(r.Cur), math.MaxInt32)
}
