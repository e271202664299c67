//go:build linux

package dns

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/miekg/dns"
)

// daemon is a server that was started here.
type daemon struct {
	cmd  *exec.Cmd
	said bytes.Buffer // may be read when done is closed
	done chan struct{}
}

// spawn starts a program with nothing of the caller's environment.
func spawn(args ...string) (*daemon, error) {
	d := &daemon{cmd: exec.Command(args[0], args[1:]...), done: make(chan struct{})}
	d.cmd.Stdout, d.cmd.Stderr = &d.said, &d.said
	d.cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "TMPDIR=" + os.TempDir()}
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		d.cmd.Wait()
		close(d.done)
	}()
	return d, nil
}

// launch starts a name server, and waits until it answers.
func launch(at string, args ...string) (*daemon, error) {
	d, err := spawn(args...)
	if err != nil {
		return nil, err
	}
	return d, d.answers(at)
}

// answers waits until a name server answers anything over UDP.
func (d *daemon) answers(at string) error {
	client := dns.Client{Timeout: 200 * time.Millisecond}
	for end := time.Now().Add(patience); time.Now().Before(end); {
		begun := time.Now()
		m, _, err := client.Exchange(new(dns.Msg).SetQuestion("www.lab.example.", dns.TypeA), at)
		if err == nil && m.Rcode == dns.RcodeSuccess {
			return nil
		}
		select {
		case <-d.done:
			return fmt.Errorf("%v ended: %s", d.cmd.Args, d.said.Bytes())
		case <-time.After(20*time.Millisecond - time.Since(begun)):
		}
	}
	d.stop(syscall.SIGKILL)
	return fmt.Errorf("%v does not answer on %s: %s", d.cmd.Args, at, d.said.Bytes())
}

// stop ends the process and all that it started, and returns its exit status.
func (d *daemon) stop(s syscall.Signal) int {
	d.cmd.Process.Signal(s)
	select {
	case <-d.done:
	case <-time.After(patience):
	}
	syscall.Kill(-d.cmd.Process.Pid, syscall.SIGKILL)
	<-d.done
	return d.cmd.ProcessState.ExitCode()
}
