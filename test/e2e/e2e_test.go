//go:build linux

// Package e2e drives clients as they are installed on Debian 12 (curl, wget,
// git, Python, pip, apt, openssl, skopeo) through the built program, and holds
// what its ledger and report say against what the servers themselves counted.
// It owns those servers, on loopback addresses and the real ports, so it needs
// root; clients that know of no proxy (and ssh-keyscan, containerd) it puts behind
// a gateway, in network namespaces. It does not provoke every failure that a network can have: test/lab
// and the tests beside it do.
//
// EGRESSAUDIT_E2E decides: unset, every test skips; "try" skips what lacks root
// or a program; "must" fails instead. run.sh, which make e2e calls, installs
// the programs and says must.
package e2e

import (
	"os"
	"testing"

	"github.com/egressaudit/egressaudit/test/suite"
)

// path is where clients are looked for.
const path = suite.Path

// TestMain removes the program that the tests built.
func TestMain(m *testing.M) {
	status := m.Run()
	suite.Clean()
	os.Exit(status)
}
