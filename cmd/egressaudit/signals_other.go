//go:build !unix

package main

import "os"

// passedOn are the signals that run gives to its child.
var passedOn = []os.Signal{os.Interrupt}

// sentByTerminal says that the child has the signal already.
func sentByTerminal(os.Signal) bool { return true }

// notifyReload asks for the signal that means: read the catalogs again. Here there
// is none.
func notifyReload(chan<- os.Signal) {}

// outliveReaders has nothing to do here, where such a write ends nothing.
func outliveReaders() {}

// openFiles is how many descriptors the process may have: here nobody says.
func openFiles() uint64 { return 16384 }
