package main

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
)

// each calls f for every command that the help names.
func each(c *cobra.Command, f func(*cobra.Command)) {
	f(c)
	for _, v := range c.Commands() {
		each(v, f)
	}
}

// TestHelpFits holds the help to the width of a terminal.
func TestHelpFits(t *testing.T) {
	root := newRoot(environ{stdout: io.Discard, stderr: io.Discard})
	n := 0
	each(root, func(c *cobra.Command) {
		n++
		var out bytes.Buffer
		c.InitDefaultHelpFlag()
		c.SetOut(&out)
		require.NoError(t, c.Help())
		for line := range strings.Lines(out.String()) {
			require.LessOrEqual(t, len(strings.TrimRight(line, "\n")), helpWidth, "%s: %s", c.CommandPath(), line)
		}
	})
	require.Greater(t, n, 12)
}

// TestHelpTellsDefaults demands that every flag has a name for its value and
// tells its default, and that times have a unit.
func TestHelpTellsDefaults(t *testing.T) {
	n := 0
	each(newRoot(environ{}), func(c *cobra.Command) {
		c.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
			if f.Value.Type() == "bool" {
				return
			}
			n++
			name, text := pflag.UnquoteUsage(f)
			require.Equal(t, strings.ToUpper(name), name, "%s --%s: no name for its value in backquotes", c.CommandPath(), f.Name)
			shown := f.DefValue != "" && f.DefValue != "[]" // pflag adds it
			told := strings.Contains(text, "(default ") || strings.Contains(text, "beside what the ledgers say")
			require.True(t, shown != told, "%s --%s: its default is told twice, or not at all", c.CommandPath(), f.Name)
		})
	})
	require.Greater(t, n, 40)
}
