package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/egressaudit/egressaudit/policy/report"
)

// childNoProxy is what the child reaches without us: itself, the metadata
// services, and names inside its cluster.
const childNoProxy = "localhost,127.0.0.0/8,127.0.0.1,::1,169.254.169.254,168.63.129.16,.svc,.cluster.local"

// grace is how long connections that outlive the child are waited for.
const grace = time.Second

func newRun(env environ) *cobra.Command {
	var r required
	var p path
	var o rendering
	c := &cobra.Command{
		Use:   "run [flags] -- COMMAND [ARG...]",
		Short: "One trial around one command; the report when it ends",
		Long: `run starts COMMAND with HTTPS_PROXY and HTTP_PROXY pointing to a proxy of its own
on loopback, records every connection, and prints the gap report when COMMAND
has ended. The caller's own proxy settings become the parent.

COMMAND keeps its standard streams and gets our signals; Ctrl-C ends it, and the
report is still made. The report goes to stderr, or to -o FILE.

Exit status: COMMAND's own where that is not 0 (126 cannot be run, 127 not
found, 128+n signal n); else 0 no gap, 1 a gap, 2 trouble, 3 cannot tell.`,
		Example: `  egressaudit run --region eastus -- az connectedk8s connect -n edge -g lab
  egressaudit run --catalog my.yaml --format json -o gaps.json -- ./install.sh`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return hinted(errors.New("run wants a command"), "write egressaudit run [flags] -- COMMAND [ARG...]")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			on, err := o.check()
			if err != nil {
				return err
			}
			status, err := runTrial(c.Context(), env, &r, &p, &o, on, args)
			if err != nil {
				return err
			}
			return exit(status)
		},
	}
	c.Flags().SetInterspersed(false)
	r.register(c)
	p.register(c, "env", "admin")
	o.register(c)
	return c
}

// runTrial is the verb: begin, child, end, report.
func runTrial(ctx context.Context, env environ, r *required, p *path, o *rendering, on report.FailOn, args []string) (int, error) {
	child, err := find(args)
	if err != nil {
		say(env, "%v", err)
		return childStatus(err), nil
	}
	progress := newProgress(env)
	t, err := begin(env, r, p, settings{
		listen: "127.0.0.1:0", privateAllowed: true, noProxy: append(split(childNoProxy), split(p.noProxy)...),
		observe: progress.add, log: zerolog.Nop(),
	})
	if err != nil {
		return 0, err
	}
	progress.start(t)
	announce(env, t, p, args)
	status, err := t.runChild(ctx, env, child)
	progress.stop()
	if err != nil {
		say(env, "%v", err)
	}
	drain, cancel := context.WithTimeout(ctx, min(grace, t.drain))
	defer cancel()
	trouble := t.end(drain, &status)
	rep := judge(t.catalogs, r.scopes, trouble, t.path)
	if err := o.write(env, env.stderr, rep); err != nil {
		return 0, err
	}
	if status != 0 {
		return status, nil
	}
	return rep.ExitStatus(on), nil
}

// find looks the command up before anything is begun.
func find(args []string) (*exec.Cmd, error) {
	c := exec.Command(args[0], args[1:]...)
	if c.Err != nil {
		return nil, fmt.Errorf("run %q: %w", args[0], c.Err)
	}
	return c, nil
}

// childStatus is a command's exit status as env(1) and shells tell it.
func childStatus(err error) int {
	var e *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &e):
		if w, ok := e.Sys().(syscall.WaitStatus); ok && w.Signaled() {
			return 128 + int(w.Signal())
		}
		return e.ExitCode()
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, os.ErrNotExist):
		return 127
	}
	return 126
}

// runChild runs the command to its end, passing signals on.
func (t *trial) runChild(ctx context.Context, env environ, child *exec.Cmd) (status int, err error) {
	child.Stdin, child.Stdout, child.Stderr = env.stdin, env.stdout, env.stderr
	child.Env = childEnv(env.vars, "http://"+t.listener.Addr().String())
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, passedOn...)
	defer signal.Stop(signals)
	if err := child.Start(); err != nil {
		return childStatus(err), fmt.Errorf("run %q: %w", child.Path, errors.Unwrap(err))
	}
	done := make(chan error, 1)
	go func() { done <- child.Wait() }()
	for {
		select {
		case err := <-done:
			return childStatus(err), nil
		case s := <-signals:
			if !sentByTerminal(s) {
				child.Process.Signal(s)
			}
		case <-ctx.Done():
			child.Process.Kill()
			ctx = context.Background()
		}
	}
}

// childEnv is the caller's environment with our proxy in it.
func childEnv(vars []string, proxy string) []string {
	var out []string
	for _, v := range vars {
		switch name, _, _ := strings.Cut(v, "="); strings.ToUpper(name) {
		case "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "ALL_PROXY":
		default:
			out = append(out, v)
		}
	}
	for _, name := range []string{"HTTPS_PROXY", "HTTP_PROXY"} {
		out = append(out, name+"="+proxy, strings.ToLower(name)+"="+proxy)
	}
	return append(out, "NO_PROXY="+childNoProxy, "no_proxy="+childNoProxy)
}

// announce says, before the child starts, what is observed.
func announce(env environ, t *trial, p *path, args []string) {
	through := ""
	if t.session.Parent != "" {
		through = " through the parent " + t.session.Parent
	}
	say(env, "observing what %s sends to the proxy %s%s, as seen from %s; up to %d connections at once; ledger %s",
		clean(args[0]), t.listener.Addr(), through, clean(p.vantage), p.limits.Tunnels, clean(t.path))
}

// write renders the report to -o, or else to w.
func (o *rendering) write(env environ, w io.Writer, rep *report.Report) error {
	render := func(w io.Writer) error {
		if o.format == "json" {
			return rep.WriteJSON(w)
		}
		return rep.WriteText(w, textOptions(w))
	}
	if o.output == "" {
		return render(w)
	}
	if err := writeFile(o.output, render); err != nil {
		return err
	}
	say(env, "report written to %s", clean(o.output))
	return nil
}
