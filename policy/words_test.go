package policy

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNearest(t *testing.T) {
	words := []string{"hosts", "port", "protocol", "purpose", "needs"}
	for s, want := range map[string][]string{
		"host": {"hosts"}, "Hosts": {"hosts"}, "hsots": {"hosts"}, "prot": {"protocol", "port"}, "": nil, "colour": nil,
	} {
		got := Nearest(s, words)
		slices.Sort(got)
		slices.Sort(want)
		require.Equal(t, want, got, s)
	}
}

// Distance against its definition, on all pairs of words of up to three letters
// out of two: the fewest single edits, none of which touches a letter twice.
func TestDistance(t *testing.T) {
	words := []string{""}
	for i := 0; i < len(words) && len(words[i]) < 3; i++ {
		words = append(words, words[i]+"a", words[i]+"b")
	}
	for _, a := range words {
		for _, b := range words {
			require.Equal(t, naive(a, b), Distance(a, b), "%q %q", a, b)
		}
	}
}

func naive(a, b string) int {
	if a == "" || b == "" {
		return len(a) + len(b)
	}
	d := min(naive(a[1:], b)+1, naive(a, b[1:])+1)
	if a[0] == b[0] {
		d = min(d, naive(a[1:], b[1:]))
	}
	d = min(d, naive(a[1:], b[1:])+1)
	if len(a) > 1 && len(b) > 1 && a[0] == b[1] && a[1] == b[0] {
		d = min(d, naive(a[2:], b[2:])+1)
	}
	return d
}
