package policy

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Covers is held against its meaning in a small world: every pair of patterns
// of up to three labels over {a, b, *}, and every name over {a, b, z} that can
// tell them apart. z stands in no pattern, so that no literal text hides it.
func TestCoversAsMatchingSaysInASmallWorld(t *testing.T) {
	labels := []string{"a", "b", "*", "a*", "b*a", "<p>", "a<p>", "*<p>"}
	var patterns []Pattern
	for _, s := range hosts(labels) {
		if p, err := ParsePattern(s); err == nil && strings.Count(s, ".") < 2 || s == "*.a.b" || s == "a.*.b" || s == "a.<p>.b" || s == "*.*.b" {
			patterns = append(patterns, p)
		}
	}
	require.Greater(t, len(patterns), 60)
	var names []Name
	for _, s := range hosts([]string{"a", "b", "z", "az", "za", "ba", "bza", "zz"}) {
		names = append(names, MustName(s), MustName("z."+s))
	}
	sets := make([]map[Name]bool, len(patterns))
	for i, p := range patterns {
		sets[i] = map[Name]bool{}
		for _, n := range names {
			if oracle(p.String(), n.String()) {
				sets[i][n] = true
			}
		}
	}
	yes := 0
	for i, p := range patterns {
		for k, q := range patterns {
			want := true
			for n := range sets[k] {
				want = want && sets[i][n]
			}
			require.Equal(t, want, p.Covers(q), "%q covers %q", p, q)
			if want && i != k {
				yes++
			}
		}
	}
	require.Greater(t, yes, 100)
}

func TestCovers(t *testing.T) {
	for _, row := range []struct {
		p, q string
		want bool
		why  string
	}{
		{"*.azurecr.io", "<acr>.azurecr.io", true, "one label is of one or more"},
		{"*.azurecr.io", "<acr>.<region>.data.azurecr.io", true, "the deep * takes several"},
		{"<acr>.azurecr.io", "*.azurecr.io", false, "one label is not several"},
		{"<region>.api.azureml.ms", "<region-code>.api.azureml.ms", true, "open placeholders mean the same, whatever their name"},
		{"a.*.b", "a.<p>.b", true, "so does an inner *"},
		{"a*.b", "a<p>.b", true, "none or more is more than one or more"},
		{"a<p>.b", "a*.b", false, "and not the other way round"},
		{"192.0.2.1", "192.0.2.1", true, "an address is itself"},
		{"a*a*a*a*a*a*a*a*.b", "a*a*a*a*a*a*a*a*.b", true, "too many samples, and the same"},
		{"a*.b", "a*a*a*a*a*a*a*a*.b", false, "too many samples: not said, though it is so"},
	} {
		p, errP := ParsePattern(row.p)
		q, errQ := ParsePattern(row.q)
		require.NoError(t, errP)
		require.NoError(t, errQ)
		require.Equal(t, row.want, p.Covers(q), "%s, %s: %s", row.p, row.q, row.why)
	}
	require.False(t, MustPattern("a.b").Covers(Pattern{}))
	require.False(t, Pattern{}.Covers(MustPattern("a.b")))
	require.False(t, Pattern{}.Covers(Pattern{}))
}
