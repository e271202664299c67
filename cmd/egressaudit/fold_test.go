package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestFold folds at blanks, below the beginning of the line, and cuts nothing.
func TestFold(t *testing.T) {
	const name = "a.host.name.that.is.longer.than.the.whole.terminal.is.wide.example.org:443"
	for _, row := range []struct{ why, text, want string }{
		{"short", "one two\n", "one two\n"},
		{"as wide as the terminal", "1234567890123456789012345678901234567 90\n", "1234567890123456789012345678901234567 90\n"},
		{"one more", "1234567890123456789012345678901234567 901\n", "1234567890123456789012345678901234567\n    901\n"},
		{"what is indented hangs below that", "  host  purpose of a length that needs a second line\n", "  host  purpose of a length that needs a\n      second line\n"},
		{"a word that is too long stays whole", name + " then more\n", name + "\n    then more\n"},
		{"and where it is the last", "  " + name + "\n", "  " + name + "\n"},
		{"characters, not octets", "ääääääääääääääääääääääääääääääääääääääää\n", "ääääääääääääääääääääääääääääääääääääääää\n"},
		{"no end of line", "1234567890123456789012345678901234567 901", "1234567890123456789012345678901234567\n    901"},
	} {
		require.Equal(t, row.want, fold(row.text, 40), row.why)
		require.Equal(t, row.text, fold(row.text, 0), "no terminal")
	}
}
