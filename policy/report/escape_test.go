package report

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCut(t *testing.T) {
	longest := strings.Repeat("a", longestName)
	for text, want := range map[string]string{
		"":                       "",
		longest:                  longest,
		longest + "b":            longest + "...",
		longest[1:] + "é":        longest[1:] + "...", // not half a letter
		strings.Repeat("☃", 300): strings.Repeat("☃", 84) + "...",
	} {
		require.Equal(t, want, Cut(text))
	}
	require.Len(t, Cut(strings.Repeat("\x80", 300)), longestName-4+len("..."), "no letter at all")
}
