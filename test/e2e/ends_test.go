//go:build linux

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/test/suite"
)

// fetchThenWait fetches a page, says "fetched", and stays.
func fetchThenWait(w *world) []string {
	return []string{"sh", "-c", `curl -sS --cacert "$0" https://web.egress.test/ && echo fetched && exec sleep 100`, w.ca}
}

// TestKilled takes the program away in the middle of a trial: what was recorded
// can be read, and is never an all-clear.
func TestKilled(t *testing.T) {
	suite.Need(t, "curl")
	t.Parallel()
	w := newWorld(t)
	x := w.prepare(t, nil, nil, fetchThenWait(w)...)
	x.start()
	x.says(&x.stdout, "fetched")
	eventually(t, "the connection is on the disk", func() bool {
		b, _ := os.ReadFile(x.ledger)
		return strings.Contains(string(b), `"asked":"web.egress.test"`)
	})
	x.signal(syscall.SIGKILL)
	eventually(t, "it is gone", func() bool { return ended(x.cmd.Process.Pid) })
	x.kill() // what the command left running

	records := x.records(t)
	for i, r := range records {
		require.EqualValues(t, i+1, r.Seq)
	}
	require.Equal(t, policy.KindStart, records[0].Kind)
	require.NotEqual(t, policy.KindStop, records[len(records)-1].Kind)
	require.False(t, exists(x.report), "nobody was left to write a report")

	again := filepath.Join(w.dir, "again.json")
	p := w.command(t, nil, suite.Program(t), "report", "--catalog", w.catalog, "--format", "json", "-o", again, x.ledger).start()
	status := p.wait()
	r := readReport(t, again)
	require.EqualValues(t, "clear", r.Verdict, "no stop record is a blind spot: the trial may still be running; %v", r.BlindSpots)
	require.Equal(t, 0, status, p.stderr.String())
	require.EqualValues(t, "used", endpoint(t, r, "web").Status, "what was seen is not forgotten")
	require.Contains(t, strings.Join(r.BlindSpots, "\n"), "stop", "it says that the trial has no end")

	p = w.command(t, nil, suite.Program(t), "report", "--catalog", w.catalog, x.ledger).start()
	require.Equal(t, 0, p.wait())
	require.Contains(t, p.stdout.String(), "CLEAR SO FAR", "and the verdict line says so")
}

// TestInterrupted ends the command with SIGINT: the report is still made.
func TestInterrupted(t *testing.T) {
	suite.Need(t, "curl")
	for name, interrupt := range map[string]func(x *trial){
		"program alone":  func(x *trial) { x.signal(syscall.SIGINT) },
		"process group":  func(x *trial) { require.NoError(x.t, syscall.Kill(-x.cmd.Process.Pid, syscall.SIGINT)) },
		"SIGTERM passed": nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			x := w.prepare(t, nil, nil, fetchThenWait(w)...)
			x.start()
			x.says(&x.stdout, "fetched")
			want := 130
			if interrupt == nil {
				want = 143
				x.signal(syscall.SIGTERM)
			} else {
				interrupt(x)
			}
			require.Equal(t, want, x.wait(), x.said())
			x.interrupted(t, want)
		})
	}
}

// TestCtrlC presses the key on a real terminal, which sends SIGINT to the
// program and its command alike.
func TestCtrlC(t *testing.T) {
	suite.Need(t, "curl")
	t.Parallel()
	w := newWorld(t)
	keyboard, tty := openTerminal(t)
	x := w.prepare(t, nil, nil, "sh", "-c", `trap 'n=$((n+1)); echo "interrupts: $n"' INT
		curl -sS --cacert "$0" https://web.egress.test/ && echo fetched
		while [ -z "$n" ]; do sleep 0.05; done; sleep 0.3; echo "in all: $n"; trap - INT; kill -INT $$`, w.ca)
	x.cmd.Stdin = tty
	x.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0, Pdeathsig: syscall.SIGKILL}
	x.start()
	x.says(&x.stdout, "fetched")
	_, err := keyboard.Write([]byte{3})
	require.NoError(t, err)
	require.Equal(t, 130, x.wait(), x.said())
	require.Contains(t, x.stdout.String(), "in all: 1", "the command gets the key's signal once, not twice")
	x.interrupted(t, 130)
}

// interrupted checks a trial that fetched one page and was then ended.
func (x *trial) interrupted(t *testing.T, status int) {
	t.Helper()
	records := x.records(t)
	stop := records[len(records)-1]
	require.Equal(t, policy.KindStop, stop.Kind)
	require.Equal(t, status, *stop.ChildStatus)
	r := x.judged(t)
	require.Equal(t, status, *r.ChildStatus)
	require.EqualValues(t, "used", endpoint(t, r, "web").Status)
}

// TestLeftBehind ends the command while something that it started still has a
// tunnel: that is cut soon, and recorded.
func TestLeftBehind(t *testing.T) {
	suite.Need(t, "curl")
	t.Parallel()
	w := newWorld(t)
	x, status := w.run(t, nil, nil, "sh", "-c", `curl -sSN --cacert "$0" -o got https://web.egress.test/held & until [ -s got ]; do sleep 0.02; done; exit 0`, w.ca)
	require.Zero(t, status, x.said())
	seen := closing(x.records(t))
	require.Len(t, seen, 1)
	require.Equal(t, policy.OK, seen[0].Outcome)
	require.Equal(t, policy.BySelf, seen[0].By)
	require.EqualValues(t, "used", endpoint(t, x.judged(t), "web").Status)
}

// openTerminal makes a pseudo-terminal.
func openTerminal(t *testing.T) (keyboard, tty *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { keyboard.Close() })
	require.NoError(t, unix.IoctlSetPointerInt(int(keyboard.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(int(keyboard.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { tty.Close() })
	return keyboard, tty
}

// TestStreams has the command keep its own standard streams, with the text
// report behind it on stderr.
func TestStreams(t *testing.T) {
	suite.Need(t, "curl")
	t.Parallel()
	w := newWorld(t)
	args := append([]string{suite.Program(t), "run"}, w.flags(filepath.Join(w.dir, "trial.jsonl"))...)
	p := w.command(t, nil, append(args, "--", "sh", "-c", `read word; curl -sS --cacert "$0" https://web.egress.test/; echo "read $word"; echo complains >&2`, w.ca)...)
	in := p.input()
	p.start()
	fmt.Fprintln(in, "hello")
	require.NoError(t, in.Close())
	require.Zero(t, p.wait(), p.stderr.String())
	require.Equal(t, "here is web.egress.test\nread hello\n", p.stdout.String(), "nothing of ours among it")
	before, after, found := strings.Cut(p.stderr.String(), "complains\n")
	require.True(t, found)
	require.Contains(t, before, "observing")
	require.NotContains(t, before, "CLEAR")
	require.Contains(t, after, "CLEAR: no gap among the 1 of")
	require.NotContains(t, after, "\x1b", "no colours where there is no terminal")
}

// TestStatus holds which status comes through: the command's own wins, but for 0.
func TestStatus(t *testing.T) {
	suite.Need(t, "curl", "env")
	fetch := `curl -sS -o /dev/null --cacert "$0" https://web.egress.test/; `
	for _, row := range []struct {
		name    string
		command []string
		status  int
		verdict string // "" where no trial is begun
		child   int
	}{
		{"0", []string{"sh", "-c", fetch + "exit 0"}, 0, "clear", 0},
		{"3", []string{"sh", "-c", fetch + "exit 3"}, 3, "clear", 3},
		{"1, which is not a gap", []string{"sh", "-c", fetch + "exit 1"}, 1, "clear", 1},
		{"126 of its own", []string{"sh", "-c", fetch + "exit 126"}, 126, "clear", 126},
		{"127 of its own", []string{"sh", "-c", fetch + "exit 127"}, 127, "clear", 127},
		{"killed", []string{"sh", "-c", fetch + "kill -KILL $$"}, 137, "clear", 137},
		{"segmentation fault", []string{"sh", "-c", fetch + "kill -SEGV $$"}, 139, "clear", 139},
		{"cannot be run", []string{"/etc/passwd"}, 126, "", 0},
		{"not found", []string{"no-such-command-here"}, 127, "", 0},
		{"not found, with a path", []string{"./no/such/command"}, 127, "", 0},
		{"a folder", []string{"/etc"}, 126, "", 0},
		{"goes around the proxy", []string{"env", "-u", "https_proxy", "-u", "HTTPS_PROXY", "curl", "-sS", "-o", "/dev/null", "--resolve", "DIRECT", "-k", "DIRECT"}, 3, "cannot-tell", 0},
		{"does nothing", []string{"true"}, 3, "cannot-tell", 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			for i, a := range row.command {
				if a == "DIRECT" {
					row.command[i] = "https://web.egress.test/"
					if row.command[i-1] == "--resolve" {
						row.command[i] = "web.egress.test:443:" + w.address("web.egress.test")
					}
				}
			}
			if row.command[0] == "sh" {
				row.command = append(row.command, w.ca)
			}
			x, status := w.run(t, nil, nil, row.command...)
			require.Equal(t, row.status, status, x.said())
			if row.verdict == "" {
				require.Contains(t, x.stderr.String(), row.command[0])
				return
			}
			r := x.judged(t)
			require.EqualValues(t, row.verdict, r.Verdict)
			require.Equal(t, row.child, *r.ChildStatus)
			if row.verdict == "cannot-tell" {
				require.Contains(t, strings.Join(r.BlindSpots, "\n"), "nothing was observed")
			}
		})
	}
}

// ended says whether a process of ours runs no more, though its output may
// still be held by others.
func ended(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(b), ") Z ")
}
