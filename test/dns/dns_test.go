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
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
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
	if built.dir != "" {
		os.RemoveAll(built.dir)
	}
	os.Exit(status)
}

// need skips, or fails where the whole suite must run, unless this is root and
// all programs are installed.
func need(t *testing.T, more ...string) {
	t.Helper()
	mode := os.Getenv("EGRESSAUDIT_E2E")
	if mode == "" {
		t.Skip("EGRESSAUDIT_E2E is not set: run test/dns/run.sh (make dns), or set it to try or must")
	}
	var lacks []string
	if os.Geteuid() != 0 {
		lacks = append(lacks, "root")
	}
	for _, p := range append(more, debian...) {
		if _, err := os.Stat(p); err != nil {
			lacks = append(lacks, p)
		}
	}
	if len(lacks) == 0 {
		return
	}
	why := "needs " + strings.Join(lacks, ", ")
	if mode == "must" {
		t.Fatalf("%s, and EGRESSAUDIT_E2E=must (test/dns/run.sh, as root, installs programs)", why)
	}
	fmt.Fprintf(os.Stderr, "SKIPPED %s: %s\n", t.Name(), why)
	t.Skip(why)
}

// built is the program under test, built once.
var built struct {
	once sync.Once
	dir  string
	err  error
}

// program is the path of the program under test: EGRESSAUDIT_E2E_PROGRAM, or
// one built from this checkout.
func program(t *testing.T) string {
	t.Helper()
	if p := os.Getenv("EGRESSAUDIT_E2E_PROGRAM"); p != "" {
		return p
	}
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "egressaudit-dns-"); built.err != nil {
			return
		}
		out, err := exec.Command("go", "build", "-o", built.dir+"/egressaudit", "../../cmd/egressaudit").CombinedOutput()
		if err != nil {
			built.err = fmt.Errorf("go build: %w\n%s", err, out)
		}
	})
	require.NoError(t, built.err)
	return built.dir + "/egressaudit"
}
