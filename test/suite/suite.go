//go:build linux

// Package suite is what the root suites have in common: they run only where they
// are asked to, need root and Debian's programs, and try the built program. It
// starts no server and knows no suite; suite.sh, beside it, installs what they
// need.
//
// EGRESSAUDIT_E2E decides: unset, every test skips; "try" skips what lacks root or
// a program, and names it; "must" fails instead.
package suite

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

// Path is where programs are looked for: Debian's own, before anything that a
// developer's shell puts in front of them.
const Path = "/usr/sbin:/usr/bin:/sbin:/bin"

// Need skips t, or fails it where the whole suite must run, unless this is root and
// all programs are there: names in Path, paths, or "python:MODULE" for one of
// Debian's Python.
func Need(t *testing.T, programs ...string) {
	t.Helper()
	mode := os.Getenv("EGRESSAUDIT_E2E")
	if mode == "" {
		t.Skip("EGRESSAUDIT_E2E is not set: run the run.sh beside this test, or set it to try or must")
	}
	lacks := missing(programs)
	if len(lacks) == 0 {
		return
	}
	why := "needs " + strings.Join(lacks, ", ")
	if mode == "must" {
		t.Fatalf("%s, and EGRESSAUDIT_E2E=must (the run.sh beside this test, as root, installs programs)", why)
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
	dirs := strings.Split(Path, ":")
	if filepath.IsAbs(program) {
		dirs = []string{"/"}
	}
	for _, dir := range dirs {
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

// Program is the path of the program under test: EGRESSAUDIT_E2E_PROGRAM, or one
// that is built from this checkout, once. Clean takes it away again.
func Program(t *testing.T) string {
	t.Helper()
	if p := os.Getenv("EGRESSAUDIT_E2E_PROGRAM"); p != "" {
		return p
	}
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "egressaudit-suite-"); built.err != nil {
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

// Clean removes what Program built; TestMain calls it at its end.
func Clean() {
	if built.dir != "" {
		os.RemoveAll(built.dir)
	}
}
