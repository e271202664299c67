package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/egressaudit/egressaudit/policy"
)

// Exit statuses of contract section 2.
const (
	exitOK      = 0
	exitGap     = 1
	exitTrouble = 2
	exitDoubt   = 3
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
	for _, v := range slices.Backward(e.vars) {
		if v, ok := strings.CutPrefix(v, name+"="); ok {
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
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		if c == root && len(args) > 0 && !strings.HasPrefix(args[0], "-") {
			return wrongVerb(c, args[:1]) // its flags are unknown only because it is
		}
		return flagError(c, err)
	})
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
		Version:      version(),
		SilenceUsage: true, SilenceErrors: true,
		Args: cobra.ArbitraryArgs, RunE: wrongVerb, PersistentPreRunE: noEmpty,
	}
	root.SetIn(env.stdin)
	root.SetOut(env.stdout)
	root.SetErr(env.stderr)
	root.SetVersionTemplate("egressaudit {{.Version}}\n")
	root.SetUsageFunc(usage)
	root.SetHelpCommand(newHelp())
	root.AddCommand(newRun(env), newServe(env), newMark(), newReport(env), newDiff(env), newExplain(env), newCatalog(env), newLedger(env), newEnv(env),
		newCompletion(env), newVersion(env))
	plainUse(root)
	return root
}

// plainUse leaves the line of usage as each command has it.
func plainUse(c *cobra.Command) {
	c.DisableFlagsInUseLine = true
	for _, v := range c.Commands() {
		plainUse(v)
	}
}

// nameOf is how errors name a command: its words, without the program's.
func nameOf(c *cobra.Command) string {
	if words, ok := strings.CutPrefix(c.CommandPath(), c.Root().Name()+" "); ok {
		return words
	}
	return c.Name()
}

// wrongVerb says which verbs a command has, where none of them took args.
func wrongVerb(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		c.SuggestionsMinimumDistance = 2
		text := fmt.Sprintf("%s has no verb %q", nameOf(c), args[0])
		near := c.SuggestionsFor(args[0])
		slices.Sort(near) // their order hangs on what cobra did before
		if len(near) > 0 && args[0] != "" {
			return hinted(errors.New(text), "did you mean %s?", strings.Join(near, " or "))
		}
		return hinted(errors.New(text), "see %s --help", c.CommandPath())
	}
	var verbs []string
	for _, v := range c.Commands() {
		if v.IsAvailableCommand() && v.Name() != "help" {
			verbs = append(verbs, v.Name())
		}
	}
	return hinted(fmt.Errorf("%s wants a verb: %s", nameOf(c), strings.Join(verbs, ", ")), "see %s --help", c.CommandPath())
}

// mayBeEmpty are the flags whose empty list is one.
var mayBeEmpty = map[string]bool{"fail-on": true, "no-proxy": true}

// noEmpty refuses an empty value, for it mostly is the unset variable of a
// script: --parent "" is not --parent none.
func noEmpty(c *cobra.Command, _ []string) (err error) {
	c.Flags().Visit(func(f *pflag.Flag) {
		if err != nil || mayBeEmpty[f.Name] {
			return
		}
		empty := f.Value.String() == ""
		if s, ok := f.Value.(pflag.SliceValue); ok {
			empty = len(s.GetSlice()) == 0 || slices.Contains(s.GetSlice(), "")
		}
		if empty {
			err = fmt.Errorf("--%s \"\": the value is empty (leave the flag out for its default)", f.Name)
		}
	})
	return err
}

// flagError says what is wrong with a flag in words of the command line.
func flagError(c *cobra.Command, err error) error {
	var none *pflag.NotExistError
	if errors.As(err, &none) {
		if near := nearFlags(c, none.GetSpecifiedName()); len(near) > 0 {
			return hinted(err, "did you mean --%s?", strings.Join(near, " or --"))
		}
	}
	var bad *pflag.InvalidValueError
	if !errors.As(err, &bad) {
		return hinted(err, "see %s --help", c.CommandPath())
	}
	want := "see " + c.CommandPath() + " --help"
	switch bad.GetFlag().Value.Type() {
	case "duration":
		want = "write a time with its unit, such as 5s, 2m or 1h30m"
	case "int":
		want = "write a whole number"
	case "uint16":
		want = "write a whole number from 0 to 65535"
	case "uint32":
		want = "write a whole number from 0 to 4294967295"
	case "float64":
		want = "write a number"
	case "bool":
		want = "write true or false"
	}
	return fmt.Errorf("--%s %q: %s", bad.GetFlag().Name, bad.GetValue(), want)
}

// nearFlags are the flags of c whose names are nearly name.
func nearFlags(c *cobra.Command, name string) []string {
	if len(name) < 3 {
		return nil
	}
	var names []string
	c.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	return policy.Nearest(name, names)
}

// oneEach adds to an error about a value of a repeatable flag what to type, where
// the value is a list.
func oneEach(err error, flag, value string) error {
	list := split(value)
	if len(list) < 2 {
		return err
	}
	return hinted(err, "one each: --%s %s", flag, strings.Join(list, " --"+flag+" "))
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
func complain(env environ, err error) { say(env, "%s", oneLine(err)) }

func oneLine(err error) string {
	line := err.Error()
	var h hint
	if errors.As(err, &h) {
		line += " (" + h.text + ")"
	}
	return strings.ReplaceAll(line, "\n", "; ")
}

// say prints a line for people on stderr.
func say(env environ, format string, args ...any) {
	fmt.Fprintf(env.stderr, "egressaudit: "+format+"\n", args...)
}

// cause is what the system said of a file, without the call and the path.
func cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// noArgs and wants are cobra's checks of arguments, with messages that say what
// is wanted.
func noArgs(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return hinted(fmt.Errorf("%s takes no arguments, and %q is one", nameOf(c), args[0]), "see %s --help", c.CommandPath())
	}
	return nil
}

// wants demands from one to most arguments.
func wants(most int, what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		switch {
		case len(args) == 0:
			return hinted(fmt.Errorf("%s wants %s", nameOf(c), what), "write %s", c.UseLine())
		case len(args) > most:
			return hinted(fmt.Errorf("%s wants %s, and %q is one too many", nameOf(c), what, args[most]), "write %s", c.UseLine())
		}
		return nil
	}
}
