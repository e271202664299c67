package policy

import (
	"cmp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// matches is contract section 6 said again, over labels from the left, without
// a thought for speed: the oracle of every test of the matcher.
func matches(p, n []string) bool {
	switch {
	case len(p) == 0 || len(n) == 0:
		return len(p) == len(n)
	case p[0] == "*": // of the first label only: one or more labels
		return slices.ContainsFunc(tails(n), func(n []string) bool { return matchesEach(p[1:], n) })
	}
	return matchesEach(p, n)
}

func matchesEach(p, n []string) bool {
	return len(p) == len(n) && (len(p) == 0 ||
		(p[0] == "*" || within(p[0], n[0])) && matchesEach(p[1:], n[1:]))
}

// within says whether the label s is one that p stands for.
func within(p, s string) bool {
	switch {
	case p == "":
		return s == ""
	case p[0] == '*':
		return within(p[1:], s) || s != "" && within(p, s[1:])
	case s == "":
		return false
	case p[0] == '<':
		_, rest, _ := strings.Cut(p, ">")
		return within(rest, s[1:]) || within(p, s[1:])
	}
	return p[0] == s[0] && within(p[1:], s[1:])
}

// tails are the ends of n that leave one label or more away.
func tails(n []string) (out [][]string) {
	for i := range n {
		out = append(out, n[i+1:])
	}
	return out
}

// oracle is matches for a pattern and a name as text.
func oracle(p, n string) bool { return matches(strings.Split(p, "."), strings.Split(n, ".")) }

// hosts are all hosts of one to three of the labels.
func hosts(labels []string) []string {
	var out []string
	for _, a := range labels {
		out = append(out, a)
		for _, b := range labels {
			out = append(out, a+"."+b)
			for _, c := range labels {
				out = append(out, a+"."+b+"."+c)
			}
		}
	}
	return out
}

// world is every pattern of up to three labels, a label being any one or two of
// {a, b, *} or one of the longer shapes; and every name of up to three labels
// over {a, b}.
func world(t *testing.T) (patterns []Pattern, names []Name) {
	t.Helper()
	labels := []string{"a*b", "*a*", "a*b*a", "<p>", "a<p>", "<p>b", "*<p>"}
	for _, a := range []string{"", "a", "b", "*"} {
		for _, b := range []string{"a", "b", "*"} {
			if a+b != "**" {
				labels = append(labels, a+b)
			}
		}
	}
	for _, s := range hosts(labels) {
		p, err := ParsePattern(s)
		if first, _, _ := strings.Cut(s, "."); first[0] == '*' && first != "*" {
			require.ErrorIs(t, err, ErrPattern, s)
			require.ErrorContains(t, err, "a wildcard is a whole first label")
			continue
		}
		require.NoError(t, err, s)
		require.Equal(t, s, p.String())
		patterns = append(patterns, p)
	}
	for _, s := range hosts([]string{"a", "b", "aa", "ab", "ba", "bb", "aba", "abb", "abba"}) {
		names = append(names, MustName(s))
	}
	return patterns, names
}

func TestPatternMatchesAsTheContractSaysInASmallWorld(t *testing.T) {
	patterns, names := world(t)
	matched := 0
	for _, p := range patterns {
		labels := strings.Split(p.String(), ".")
		for _, n := range names {
			want := matches(labels, strings.Split(n.String(), "."))
			if p.Match(n) != want {
				t.Fatalf("%q matches %q: %v, want %v", p, n, !want, want)
			}
			if want {
				matched++
			}
		}
	}
	require.Greater(t, matched, len(patterns), "the world is too small")
}

// TestLabelMatchesAsTheContractSaysInASmallWorld: every label of up to five
// parts, be they letters, wildcards or placeholders.
func TestLabelMatchesAsTheContractSaysInASmallWorld(t *testing.T) {
	texts := words([]string{"a", "b"}, 6)
	for _, part := range words([]string{"a", "b", "*", "<p>"}, 5) {
		if strings.Contains(part, "**") {
			continue
		}
		l, no := parseLabel(part)
		require.Nil(t, no, part)
		require.Equal(t, part, l.String())
		for _, s := range texts {
			if want := within(part, s); l.match(s) != want {
				t.Fatalf("%q matches %q: %v, want %v", part, s, !want, want)
			}
		}
	}
}

// words are all texts of one to n of the letters.
func words(letters []string, n int) []string {
	if n == 0 {
		return nil
	}
	out := slices.Clone(letters)
	for _, w := range words(letters, n-1) {
		for _, l := range letters {
			out = append(out, l+w)
		}
	}
	return out
}

// TestIndexMatchesAsTheContractSaysInASmallWorld holds one index over all
// patterns at once, spread over catalogs and ports, against the oracle.
func TestIndexMatchesAsTheContractSaysInASmallWorld(t *testing.T) {
	patterns, names := world(t)
	catalogs := make([]*Catalog, 3)
	for i := range catalogs {
		catalogs[i] = &Catalog{Requirements: []*Requirement{{Port: 80}, {Port: 443}}}
	}
	for i, p := range patterns {
		r := catalogs[i%3].Requirements[i/3%2]
		r.Hosts = append(r.Hosts, p)
	}
	x := NewIndex(catalogs...)
	require.Len(t, x.Endpoints(), len(patterns))
	labelsOf, gradesOf := map[*Endpoint][]string{}, map[*Endpoint][]int{}
	for _, e := range x.Endpoints() {
		labelsOf[e] = strings.Split(e.Host.String(), ".")
		gradesOf[e] = specific(e.Host.String())
	}
	for _, n := range names {
		labels := strings.Split(n.String(), ".")
		var all []*Endpoint
		for _, e := range x.Endpoints() {
			if matches(labelsOf[e], labels) {
				all = append(all, e)
			}
		}
		requireSame(t, all, x.Match(nil, n, anyPort), n)
		for _, port := range []uint16{80, 443, 8080} {
			want := slices.DeleteFunc(slices.Clone(all), func(e *Endpoint) bool { return e.Port != port })
			requireSame(t, want, x.Match(nil, n, port), n)
			requireSame(t, best(want, gradesOf), x.Best(nil, n, port), n)
		}
	}
}

// best is Best by its definition: within one catalog what nothing beats.
func best(found []*Endpoint, grades map[*Endpoint][]int) []*Endpoint {
	top := map[*Catalog][]int{}
	for _, e := range found {
		if slices.Compare(grades[e], top[e.Catalog]) > 0 {
			top[e.Catalog] = grades[e]
		}
	}
	return slices.DeleteFunc(slices.Clone(found), func(e *Endpoint) bool {
		return slices.Compare(grades[e], top[e.Catalog]) < 0
	})
}

// specific grades the labels of a pattern from the right, each by whether it is
// literal, its literal octets, its least length, and how few wildcards it has.
func specific(pattern string) (grades []int) {
	parts := strings.Split(pattern, ".")
	for i, part := range slices.Backward(parts) {
		stars, names := strings.Count(part, "*"), strings.Count(part, "<")
		octets := len(strings.NewReplacer("*", "", "<p>", "").Replace(part))
		switch {
		case stars+names == 0:
			grades = append(grades, 1, 0, 0, 0)
		case i == 0 && part == "*":
			grades = append(grades, -1)
		case part == "*":
			grades = append(grades, 0, 0, 1, -1)
		default:
			grades = append(grades, 0, octets, octets+names, -stars-names)
		}
	}
	return grades
}

func requireSame(t *testing.T, want, got []*Endpoint, n Name) {
	t.Helper()
	byHost := func(a, b *Endpoint) int { return cmp.Compare(a.Host.text, b.Host.text) }
	slices.SortFunc(want, byHost)
	slices.SortFunc(got, byHost)
	if !slices.Equal(want, got) {
		t.Fatalf("%q: want %v, got %v", n, want, got)
	}
}

// TestCompareRanksTheNarrowerPatternHigher: where one pattern matches strictly
// less than another, it is the more specific one.
func TestCompareRanksTheNarrowerPatternHigher(t *testing.T) {
	labels := []string{"a", "ab", "*", "a*", "*a", "*a*", "a*b", "a*b*a", "<p>", "a<p>", "<p>b", "*<p>", "a<p>b", "*b*", "<p><q>"}
	var universe []string
	for _, a := range []string{"", "a", "b", "c", "aa", "ab", "ba", "bc"} {
		for _, b := range []string{"a", "b", "c", "ca", "cb", "aca", "cca", "cbc"} {
			universe = append(universe, a+b)
		}
	}
	for _, p := range labels {
		for _, q := range labels {
			less, more := 0, 0 // names that only p and only q matches
			for _, s := range universe {
				inP, inQ := p == "*" || within(p, s), q == "*" || within(q, s)
				if inP && !inQ {
					less++
				}
				if inQ && !inP {
					more++
				}
			}
			if less == 0 && more > 0 {
				require.Positive(t, MustPattern("x."+p+".z").Compare(MustPattern("x."+q+".z")), "%q against %q", p, q)
				require.Positive(t, MustPattern("*."+p+".z").Compare(MustPattern("*."+q+".z")), "%q against %q", p, q)
			}
		}
	}
	require.Positive(t, MustPattern("x.*.z").Compare(MustPattern("*.z")), "one label is less than any number")
	require.Positive(t, MustPattern("*.x.z").Compare(MustPattern("*.z")))
	require.Positive(t, MustPattern("x.z").Compare(MustPattern("<p>.z")))
	require.Zero(t, MustPattern("<p>.z").Compare(MustPattern("<q>.z")))
}
