//go:build linux

package e2e

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// process is a command in a process group of its own, which ends with the test.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdout text
	stderr text
	done   chan struct{}
}

// text is output that may be read while it grows.
type text struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	news chan struct{}
}

// Write is io.Writer's.
func (x *text) Write(b []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	select {
	case x.news <- struct{}{}:
	default:
	}
	return x.buf.Write(b)
}

// String is what was written so far.
func (x *text) String() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.buf.String()
}

// command prepares one: nothing of the caller's environment but what is named
// here comes through, for a preset SSL_CERT_FILE or https_proxy would decide
// the test.
func (w *world) command(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(args[0], args[1:]...), done: make(chan struct{})}
	p.stdout.news, p.stderr.news = make(chan struct{}, 1), make(chan struct{}, 1)
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	p.cmd.Dir = w.dir
	p.cmd.Env = append([]string{
		"PATH=" + path, "HOME=" + w.dir, "TMPDIR=" + w.dir, "LANG=C.UTF-8", "TERM=dumb",
		"GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0", "PIP_CONFIG_FILE=/dev/null", "PIP_DISABLE_PIP_VERSION_CHECK=1",
	}, env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p.cmd.WaitDelay = 5 * time.Second
	return p
}

// start starts it; its whole group is killed when the test ends.
func (p *process) start() *process {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Start())
	p.t.Cleanup(p.kill)
	go func() {
		p.cmd.Wait()
		close(p.done)
	}()
	return p
}

// kill ends the group, whatever is left of it.
func (p *process) kill() {
	syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.done
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Signal(s))
}

// wait is the exit status, 128+n after a signal.
func (p *process) wait() int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(3 * patience):
		require.FailNow(p.t, "still running", "%v\n%s%s", p.cmd.Args, p.stdout.String(), p.stderr.String())
	}
	if w := p.cmd.ProcessState.Sys().(syscall.WaitStatus); w.Signaled() {
		return 128 + int(w.Signal())
	}
	return p.cmd.ProcessState.ExitCode()
}

// says waits until out holds a word.
func (p *process) says(out *text, word string) {
	p.t.Helper()
	late := time.After(patience)
	for !strings.Contains(out.String(), word) {
		select {
		case <-out.news:
		case <-p.done:
			require.Contains(p.t, out.String(), word, "it ended before")
		case <-late:
			require.Contains(p.t, out.String(), word, "it says nothing more")
		}
	}
}

// output runs a command of the test's own to its end, which must be good.
func (w *world) output(t *testing.T, env []string, args ...string) string {
	t.Helper()
	p := w.command(t, env, args...).start()
	require.Zero(t, p.wait(), "%v\n%s%s", args, p.stdout.String(), p.stderr.String())
	return p.stdout.String()
}

// eventually polls what has no event to wait for.
func eventually(t *testing.T, what string, met func() bool) {
	t.Helper()
	require.Eventually(t, met, patience, 5*time.Millisecond, what)
}

// exists says whether there is such a file.
func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// input gives the process a standard input that the test ends.
func (p *process) input() io.WriteCloser {
	p.t.Helper()
	in, err := p.cmd.StdinPipe()
	require.NoError(p.t, err)
	return in
}
