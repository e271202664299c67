package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/policy/report"
)

// childNoProxy is what the child reaches without us: itself, the metadata
// services, and names inside its cluster.
const childNoProxy = "localhost,127.0.0.0/8,127.0.0.1,::1,169.254.169.254,168.63.129.16,.svc,.cluster.local"

// grace is how long connections that outlive the child are waited for.
const grace = time.Second

func newRun(env environ) *cobra.Command {
	f := &runFlags{}
	c := &cobra.Command{
		Use:   "run [flags] -- COMMAND [ARG...]",
		Short: "One trial around one command; the report when it ends",
		Long: `run starts COMMAND with HTTPS_PROXY and HTTP_PROXY pointing to a proxy of its
own on loopback, records every connection, and prints the gap report when
COMMAND has ended. The caller's own proxy settings become the parent, and its
NO_PROXY is honoured behind us, so that those connections are seen, too.

With --isolate, as root or where the kernel allows user namespaces, COMMAND gets
a network namespace of its own, and its programs need no proxy settings: TCP is
carried to where it was going, not through the parent, which only clients of the
proxy meet; DNS is answered by asking --resolver; other UDP is refused and
recorded. Loopback is COMMAND's own, but for --isolate-allow.
As root it lacks CAP_NET_ADMIN, CAP_SYS_ADMIN (so it cannot mount) and
CAP_SYS_PTRACE; in a user namespace sudo does nothing. Unix sockets stay as they
are: the report names those that it could reach.

COMMAND keeps its standard streams and gets our signals (what nohup has us
ignore, it ignores); Ctrl-C ends it, and the report is still made. The report
goes to stderr, or to -o FILE; behind it stand where the ledger is, and two
commands that make more of it.

--page shows the same while COMMAND runs, to browsers of this host: its address
is told before COMMAND starts, and it ends with the report.

Exit status: COMMAND's own where that is not 0 (126 cannot be run, 127 not
found, 128+n signal n); else 0 no gap that --fail-on names, 1 such a gap, 2
trouble, 3 cannot tell.`,
		Example: `  egressaudit run --region eastus -- az connectedk8s connect -n edge -g lab
  sudo egressaudit run --isolate --isolate-allow 127.0.0.1:6443 -- ./install.sh
  egressaudit run --page -- ./install.sh
  egressaudit run --catalog my.yaml --format json -o gaps.json -- ./install.sh`,
		Args: wants(math.MaxInt, "a command"),
		RunE: func(c *cobra.Command, args []string) error {
			status, err := runTrial(c.Context(), env, f, args)
			if err != nil {
				return err
			}
			return exit(status)
		},
	}
	c.Flags().SetInterspersed(false)
	f.register(c)
	return c
}

// runFlags are the flags of run.
type runFlags struct {
	needs   required
	way     path
	isolate isolateFlags
	out     rendering
	page    bool
}

func (f *runFlags) register(c *cobra.Command) {
	f.needs.register(c, "")
	f.needs.registerScope(c, "all")
	f.way.register(c, "env", "admin")
	f.isolate.register(c)
	f.out.register(c, "stderr")
	group(c, "The report", func(s *pflag.FlagSet) {
		s.BoolVar(&f.page, "page", false, "a live page on a free port of 127.0.0.1, until the end")
	})
}

// runTrial is the verb: begin, child, end, report.
func runTrial(ctx context.Context, env environ, f *runFlags, args []string) (int, error) {
	on, err := f.out.check(f.way.ledger)
	if err != nil {
		return 0, err
	}
	child, err := find(args)
	if err != nil {
		complain(env, err)
		return childStatus(err), nil
	}
	signals := make(chan os.Signal, 8)
	heed(signals) // until the report is made
	defer signal.Stop(signals)
	outliveReaders() // of the report: the command's status is still told
	progress := newProgress(env)
	isolated, err := f.isolate.start(env)
	if err != nil {
		return 0, err
	}
	defer isolated.close(env)
	t, a, err := f.begin(env, progress, isolated)
	if err != nil {
		return 0, err
	}
	defer a.shut()
	announce(env, t, a, &f.way, args)
	child, status := t.startChild(env, child, signals)
	if status != 0 {
		t.discard()
		return status, nil
	}
	progress.start(t.against())
	status = waitFor(ctx, child, signals)
	progress.stop()
	drain, cancel := context.WithTimeout(ctx, min(grace, t.drain))
	defer cancel()
	trouble := t.end(drain, &status)
	return t.report(env, f, on, status, trouble)
}

// begin begins the trial, and its page where one is wanted.
func (f *runFlags) begin(env environ, p *progress, isolated *isolation) (*trial, *admin, error) {
	var door adminFlags
	if f.page {
		door.listen = "127.0.0.1:0"
	}
	a, err := door.open()
	if err != nil {
		return nil, nil, err
	}
	t, err := begin(env, &f.needs, &f.way, settings{
		listen: "127.0.0.1:0", own: a.address(), privateAllowed: true, noProxy: noProxyOf(isolated, &f.way), isolated: isolated,
		observe: func(o *policy.Observation) { p.add(o); a.observe(o) }, log: zerolog.Nop(),
	})
	if err != nil {
		a.shut()
		return nil, nil, err
	}
	a.serve(t)
	return t, a, nil
}

// report makes the report from what is on the disk, and the exit status: the
// command's own goes first. trouble is what went wrong with the recording.
func (t *trial) report(env environ, f *runFlags, on report.FailOn, status int, trouble error) (int, error) {
	against := t.against()
	against.Anew = true
	rep := judge(against, trouble, t.path)
	own := rep.ExitStatus(on)
	if err := f.out.write(env, env.stderr, rep); err != nil {
		complain(env, hinted(err, "the recording is kept: write egressaudit report %s", report.Escape(t.path)))
		own = exitTrouble
	}
	t.next(env, &f.needs, rep.Verdict)
	if status != 0 {
		return status, nil
	}
	return own, nil
}

// heed asks for the signals that go to the command. One that we were started to
// ignore (nohup, or ^C in the background of a script) stays ignored, and so does the
// command ignore it: whoever catches a signal starts others with its default.
func heed(signals chan<- os.Signal) {
	for _, s := range passedOn {
		if !signal.Ignored(s) {
			signal.Notify(signals, s)
		}
	}
}

// find looks the command up before anything is begun.
func find(args []string) (*exec.Cmd, error) {
	path, err := exec.LookPath(args[0])
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return nil, hinted(fmt.Errorf("run %q: %w", args[0], exec.ErrNotFound), "write the command and each argument as words of their own behind --")
	case err != nil:
		var e *exec.Error
		if errors.As(err, &e) {
			err = cause(e.Err)
		}
		return nil, fmt.Errorf("run %q: %w", args[0], err)
	}
	c := exec.Command(path, args[1:]...)
	c.Args[0] = args[0]
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
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		return 127
	}
	return 126
}

// signalStatus is the exit status of what a signal ended.
func signalStatus(s os.Signal) int {
	n, _ := s.(syscall.Signal)
	return 128 + int(n)
}

// startChild starts the command with our proxy in its environment, or in its own
// namespace, and returns what runs. Where that fails, or a signal came before, it
// returns the exit status.
func (t *trial) startChild(env environ, child *exec.Cmd, signals <-chan os.Signal) (*exec.Cmd, int) {
	select {
	case s := <-signals: // the child would not get it
		return nil, signalStatus(s)
	default:
	}
	err, running := error(nil), child
	if t.isolated != nil {
		running = t.isolated.space.Command
		err = t.isolated.space.Exec(child.Path, child.Args, t.isolatedEnv(env.vars))
	} else {
		child.Stdin, child.Stdout, child.Stderr = env.stdin, env.stdout, env.stderr
		child.Env = childEnv(env.vars, "http://"+t.listener.Addr().String())
		err = child.Start()
	}
	if err != nil {
		complain(env, startError(child, err))
	}
	return running, childStatus(err)
}

// startError says what to do about a command that the system does not run.
func startError(child *exec.Cmd, err error) error {
	failed := fmt.Errorf("run %q: %w", child.Args[0], cause(err))
	switch {
	case errors.Is(err, syscall.ENOEXEC):
		return hinted(failed, "a script without a first line such as #!/bin/sh? write sh %q", child.Args[0])
	case errors.Is(err, fs.ErrNotExist):
		return hinted(failed, "the interpreter that its first line names is missing")
	}
	return failed
}

// waitFor waits for the command's end, passing signals on, and returns its exit
// status.
func waitFor(ctx context.Context, child *exec.Cmd, signals <-chan os.Signal) int {
	done := make(chan error, 1)
	go func() { done <- child.Wait() }()
	for {
		select {
		case err := <-done:
			return childStatus(err)
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
	out := slices.DeleteFunc(slices.Clone(vars), proxySetting)
	for _, name := range []string{"HTTPS_PROXY", "HTTP_PROXY"} {
		out = append(out, name+"="+proxy, strings.ToLower(name)+"="+proxy)
	}
	return append(out, "NO_PROXY="+childNoProxy, "no_proxy="+childNoProxy)
}

// noProxyOf is what clients reach without us: nothing that a namespace encloses.
func noProxyOf(isolated *isolation, p *path) []string {
	if isolated != nil {
		return split(p.noProxy)
	}
	return append(split(childNoProxy), split(p.noProxy)...)
}

// proxySetting says whether a variable, as NAME=VALUE, is one of those that lead
// clients to a proxy.
func proxySetting(v string) bool {
	name, _, _ := strings.Cut(v, "=")
	return slices.Contains([]string{"HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "ALL_PROXY"}, strings.ToUpper(name))
}

// announce says, before the child starts, what is observed.
func announce(env environ, t *trial, a *admin, p *path, args []string) {
	through, blind, goesOn := "", "", ""
	if t.ways != "" {
		through = " through the parent " + t.ways
	}
	if p.vantage == "admin" {
		blind = " (pods and nodes are not observed)"
	}
	if !t.fresh {
		goesOn = ", which goes on: the report covers its earlier trials, too"
	}
	at := "sends to the proxy " + t.listener.Addr().String()
	if t.isolated != nil {
		at = "sends from a network namespace of its own"
	}
	say(env, "observing what %s %s%s, as seen from %s%s; up to %d connections at once; ledger %s%s",
		report.Escape(args[0]), at, through, report.Escape(p.vantage), blind, p.limits.Tunnels, report.Escape(t.path), goesOn)
	if page := a.page(); page != "" {
		say(env, "the live page, until the end: %s", page)
	}
}
