//go:build !linux

package nftables

import (
	"errors"
	"net/netip"
)

var errLinux = errors.New("nftables is of Linux only")

// Loaded is a rule set; here there is none.
type Loaded struct{}

// Load fails: there is no nftables here.
func Load(Params) (*Loaded, error) { return nil, errLinux }

// Pass does nothing.
func (*Loaded) Pass() error { return nil }

// Leave does nothing.
func (*Loaded) Leave([]netip.Addr) error { return nil }

// Close does nothing.
func (*Loaded) Close() error { return nil }

// Counters fails: there is no nftables here.
func Counters() ([]Counter, error) { return nil, errLinux }
