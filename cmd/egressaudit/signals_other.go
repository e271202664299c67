//go:build !unix

package main

import "os"

// passedOn are the signals that run gives to its child.
var passedOn = []os.Signal{os.Interrupt}

// sentByTerminal says that the child has the signal already.
func sentByTerminal(os.Signal) bool { return true }

// openFiles is how many descriptors the process may have: here nobody says.
func openFiles() uint64 { return 16384 }
