package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// Exit statuses of contract section 2.
const (
	exitOK      = 0
	exitGap     = 1
	exitTrouble = 2
)

// environ is what a run of the program takes from outside.
type environ struct {
	vars   []string // NAME=VALUE
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
}

// lookup returns the last value of a variable, "" where it is not set.
func (e environ) lookup(name string) string {
	for i := len(e.vars) - 1; i >= 0; i-- {
		if v, ok := strings.CutPrefix(e.vars[i], name+"="); ok {
			return v
		}
	}
	return ""
}

// exit carries a verb's exit status through cobra; it has nothing to print.
type exit int

func (exit) Error() string { return "" }

// run is the program: it returns the exit status.
func run(ctx context.Context, args []string, env environ) int {
	root := newRoot(env)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var status exit
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &status):
		return int(status)
	}
	complain(env, err)
	return exitTrouble
}

func newRoot(env environ) *cobra.Command {
	root := &cobra.Command{
		Use:   "egressaudit",
		Short: "See what an install needs of the network, and what the network does to it",
		Long: `egressaudit stands in the egress path of an install (az, helm, curl, a script),
names every connection, holds it against the publisher's list of required
endpoints, and reports the gaps: what was blocked, how, by whom, and what to
ask for. It never decrypts anybody's TLS.

Exit status: 0 no gap, 1 a gap, 2 wrong usage or something broke, 3 cannot tell.`,
		Example: `  egressaudit run --region eastus -- az connectedk8s connect -n edge -g lab
  egressaudit report egressaudit-20261123T021214Z.jsonl
  egressaudit explain cdn03.quay.io:443`,
		SilenceUsage: true, SilenceErrors: true,
	}
	root.SetIn(env.stdin)
	root.SetOut(env.stdout)
	root.SetErr(env.stderr)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return hinted(err, "see %s --help", c.CommandPath())
	})
	root.AddCommand(newRun(env), newServe(env), newReport(env), newExplain(env), newCatalog(env), newEnv(env), newVersion(env))
	return root
}

// hint is an error with a line about what to type instead.
type hint struct {
	error
	text string
}

func (h hint) Unwrap() error { return h.error }

func hinted(err error, format string, args ...any) error {
	return hint{err, fmt.Sprintf(format, args...)}
}

// complain prints an error as one line, with its hint.
func complain(env environ, err error) {
	line := err.Error()
	var h hint
	if errors.As(err, &h) {
		line += " (" + h.text + ")"
	}
	fmt.Fprintf(env.stderr, "egressaudit: %s\n", strings.ReplaceAll(line, "\n", "; "))
}

// say prints a line for people on stderr.
func say(env environ, format string, args ...any) {
	fmt.Fprintf(env.stderr, "egressaudit: "+format+"\n", args...)
}

// exactly is cobra.ExactArgs with a message that says what is wanted.
func exactly(n int, what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) == n {
			return nil
		}
		return hinted(fmt.Errorf("%s wants %s", c.CommandPath(), what), "see %s --help", c.CommandPath())
	}
}

// writeFile writes a whole file or nothing: what stood there before stays when
// write fails.
func writeFile(path string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(dirOf(path), ".egressaudit-*")
	if err != nil {
		return fmt.Errorf("write %q: %w", path, err)
	}
	defer os.Remove(f.Name()) // gone after the rename
	err = write(f)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if closing := f.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %q: %w", path, err)
	}
	return nil
}
