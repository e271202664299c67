//go:build linux

// Package e2e drives clients as they are installed on Debian 12 (curl, wget,
// git, Python, pip, apt, openssl, skopeo) through the built program, and holds
// what its ledger and report say against what the servers themselves counted.
// It owns those servers, on loopback addresses and the real ports, so it needs
// root. It does not provoke every failure that a network can have: test/lab
// and the tests beside it do.
//
// EGRESSAUDIT_E2E decides: unset, every test skips; "try" skips what lacks root
// or a program; "must" fails instead. run.sh, which make e2e calls, installs
// the programs and says must.
package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// path is where clients are looked for: Debian's own, before anything that a
// developer's shell puts in front of them.
const path = "/usr/sbin:/usr/bin:/sbin:/bin"

// TestMain removes the program that the tests built.
func TestMain(m *testing.M) {
	status := m.Run()
	if dir := built.dir; dir != "" {
		os.RemoveAll(dir)
	}
	os.Exit(status)
}

// need skips, or fails where the whole suite must run, unless this is root and
// all programs are installed.
func need(t *testing.T, programs ...string) {
	t.Helper()
	mode := os.Getenv("EGRESSAUDIT_E2E")
	if mode == "" {
		t.Skip("EGRESSAUDIT_E2E is not set: run test/e2e/run.sh (make e2e), or set it to try or must")
	}
	lacks := missing(programs)
	if len(lacks) == 0 {
		return
	}
	why := "needs " + strings.Join(lacks, ", ")
	if mode == "must" {
		t.Fatalf("%s, and EGRESSAUDIT_E2E=must (test/e2e/run.sh, as root, installs programs)", why)
	}
	fmt.Fprintf(os.Stderr, "SKIPPED %s: %s\n", t.Name(), why)
	t.Skip(why)
}

func missing(programs []string) []string {
	var lacks []string
	if os.Geteuid() != 0 {
		lacks = append(lacks, "root")
	}
	for _, p := range programs {
		if module, ok := strings.CutPrefix(p, "python:"); ok {
			if exec.Command("/usr/bin/python3", "-c", "import "+module).Run() != nil {
				lacks = append(lacks, "Debian's Python module "+module)
			}
		} else if !installed(p) {
			lacks = append(lacks, p)
		}
	}
	return lacks
}

func installed(program string) bool {
	for dir := range strings.SplitSeq(path, ":") {
		if s, err := os.Stat(filepath.Join(dir, program)); err == nil && s.Mode()&0o111 != 0 {
			return true
		}
	}
	return false
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
		if built.dir, built.err = os.MkdirTemp("", "egressaudit-e2e-"); built.err != nil {
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
