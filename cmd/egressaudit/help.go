package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// helpWidth is how wide the help gets, in columns.
const helpWidth = 80

// headingKey is the annotation of a flag that holds its heading.
const headingKey = "egressaudit_heading"

// group registers flags that stand together in the help, in their order.
func group(c *cobra.Command, heading string, register func(*pflag.FlagSet)) {
	set := pflag.NewFlagSet(heading, pflag.ContinueOnError)
	set.SortFlags = false
	register(set)
	set.VisitAll(func(f *pflag.Flag) { f.Annotations = map[string][]string{headingKey: {heading}} })
	c.Flags().SortFlags = false
	c.Flags().AddFlagSet(set)
}

// usage prints what follows a command's description in its help.
func usage(c *cobra.Command) error {
	w := c.OutOrStderr()
	if c.HasParent() {
		fmt.Fprintf(w, "Usage:\n  %s\n", c.UseLine())
	} else {
		fmt.Fprintf(w, "Usage:\n  %s VERB [flags]\n", c.Name())
	}
	if c.HasExample() {
		fmt.Fprintf(w, "\nExamples:\n%s\n", c.Example)
	}
	if c.HasAvailableSubCommands() {
		fmt.Fprintln(w, "\nVerbs:")
		for _, v := range c.Commands() {
			if v.IsAvailableCommand() {
				fmt.Fprintf(w, "  %-11s %s\n", v.Name(), v.Short)
			}
		}
	}
	for _, set := range headings(c) {
		fmt.Fprintf(w, "\n%s:\n%s", set.Name(), set.FlagUsagesWrapped(helpWidth))
	}
	if c.HasAvailableSubCommands() {
		fmt.Fprintf(w, "\nSee %s VERB --help for the flags of a verb.\n", c.CommandPath())
	}
	return nil
}

// headings are the flags of a command by heading; those without one come last.
func headings(c *cobra.Command) []*pflag.FlagSet {
	var sets []*pflag.FlagSet
	other := pflag.NewFlagSet("Flags", pflag.ContinueOnError)
	c.LocalFlags().VisitAll(func(f *pflag.Flag) {
		name := strings.Join(f.Annotations[headingKey], "")
		if name == "" {
			other.AddFlag(f)
			return
		}
		i := slices.IndexFunc(sets, func(s *pflag.FlagSet) bool { return s.Name() == name })
		if i < 0 {
			i = len(sets)
			sets = append(sets, pflag.NewFlagSet(name, pflag.ContinueOnError))
			sets[i].SortFlags = false
		}
		sets[i].AddFlag(f)
	})
	return append(sets, other)
}

func newHelp() *cobra.Command {
	return &cobra.Command{
		Use: "help [VERB...]", Short: "Help about a verb",
		RunE: func(c *cobra.Command, args []string) error {
			found, rest, err := c.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return wrongVerb(cmp.Or(found, c.Root()), rest)
			}
			found.InitDefaultHelpFlag()
			found.InitDefaultVersionFlag()
			return found.Help()
		},
	}
}

func newCompletion(env environ) *cobra.Command {
	c := &cobra.Command{
		Use: "completion bash|zsh|fish|powershell", Short: "The completion script of a shell",
		Long: `completion prints a script that teaches a shell to complete egressaudit's verbs,
flags, catalogs and regions.`,
		Example: `  source <(egressaudit completion bash)
  egressaudit completion bash >/etc/bash_completion.d/egressaudit
  egressaudit completion zsh >"${fpath[1]}/_egressaudit"
  egressaudit completion fish >~/.config/fish/completions/egressaudit.fish`,
		Args: cobra.ArbitraryArgs, RunE: wrongVerb,
	}
	for shell, write := range map[string]func(*cobra.Command) error{
		"bash":       func(root *cobra.Command) error { return root.GenBashCompletionV2(env.stdout, true) },
		"zsh":        func(root *cobra.Command) error { return root.GenZshCompletion(env.stdout) },
		"fish":       func(root *cobra.Command) error { return root.GenFishCompletion(env.stdout, true) },
		"powershell": func(root *cobra.Command) error { return root.GenPowerShellCompletionWithDesc(env.stdout) },
	} {
		c.AddCommand(&cobra.Command{
			Use: shell, Short: "The script for " + shell, Args: noArgs,
			RunE: func(c *cobra.Command, _ []string) error { return write(c.Root()) },
		})
	}
	return c
}
