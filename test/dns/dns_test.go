//go:build linux

// Package dns holds the forwarder of egressaudit serve against name servers and
// clients as Debian 12 has them: knot is the authority, unbound the recursive
// and validating server, dig, kdig, nsupdate and dnsperf ask. A tap (tap_test.go)
// on each side of the forwarder keeps every packet, so that each test compares
// what went in with what came out, octet for octet, besides what the client
// printed and what the ledger says. Where no real server misbehaves the tap
// does, with the real server's answer. CoreDNS, of test/coredns, stands between a
// pod and the forwarder.
//
// Everything listens on loopback addresses of its own and the real ports, so it
// needs root. EGRESSAUDIT_E2E decides as in test/e2e: unset, every test skips;
// "try" skips what lacks root or a program; "must" fails instead. run.sh, which
// make dns calls, installs the programs and says must.
package dns

import (
	"os"
	"testing"
	"time"

	"github.com/egressaudit/egressaudit/test/suite"
)

// patience is how long anything may take that ought to be quick.
const patience = 20 * time.Second

// tick is how often what has no event to wait for is looked at.
const tick = 5 * time.Millisecond

// debian has the programs that every test needs; they are looked for where
// Debian puts them.
var debian = []string{"/usr/sbin/knotd", "/usr/sbin/unbound", "/usr/bin/dig", "/usr/bin/kdig", "/usr/bin/nsupdate", "/usr/bin/dnsperf"}

// TestMain ends the servers and removes what was built.
func TestMain(m *testing.M) {
	status := m.Run()
	shared.end()
	suite.Clean()
	os.Exit(status)
}

// need skips, or fails where the whole suite must run, unless this is root and
// all programs are installed.
func need(t *testing.T, more ...string) {
	t.Helper()
	suite.Need(t, append(more, debian...)...)
}
