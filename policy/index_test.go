package policy

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// indexOf is an index over one catalog with the patterns, on port 443.
func indexOf(patterns ...string) *Index {
	r := &Requirement{Port: 443}
	for _, p := range patterns {
		r.Hosts = append(r.Hosts, MustPattern(p))
	}
	return NewIndex(&Catalog{Requirements: []*Requirement{r}})
}

func TestIndexKeepsTheOrderOfTheCatalogs(t *testing.T) {
	hosts := []string{"b.example", "*.a.example", "b.example", "192.0.2.1", "a*.example", "<p>.b.example", "*"}
	x := indexOf(hosts...)
	for i, e := range x.Endpoints() {
		require.Equal(t, hosts[i], e.Host.String())
	}
	for i, e := range x.Endpoints() {
		require.Equal(t, i, slices.Index(x.Endpoints(), e), "an endpoint is one pointer")
	}
	for _, row := range []struct {
		name        string
		match, best []int
	}{
		{"b.example", []int{0, 2, 6}, []int{0, 2}},
		{"x.a.example", []int{1, 6}, []int{1}},
		{"a.example", []int{4, 6}, []int{4}},
		{"192.0.2.1", []int{3}, []int{3}},
		{"192.0.2.2", nil, nil},
		{"other", []int{6}, []int{6}},
	} {
		require.Equal(t, row.match, places(x, x.Match(nil, MustName(row.name), 443)), row.name)
		require.Equal(t, row.best, places(x, x.Best(nil, MustName(row.name), 443)), row.name)
		require.Empty(t, x.Match(nil, MustName(row.name), 80))
		require.Equal(t, row.match, places(x, x.Match(nil, MustName(row.name), 0)), "port 0 is any port")
	}
	require.Empty(t, x.Match(nil, Name{}, 443))
	require.Empty(t, NewIndex().Match(nil, MustName("b.example"), 443))
}

// places are the positions of found in x.Endpoints, sorted.
func places(x *Index, found []*Endpoint) (out []int) {
	for _, e := range found {
		out = append(out, slices.Index(x.Endpoints(), e))
	}
	slices.Sort(out)
	return out
}

func TestMatchAppends(t *testing.T) {
	x := indexOf("a.example", "*.example")
	before := &Endpoint{Catalog: x.Endpoints()[0].Catalog, Host: MustPattern("a.example")}
	for _, found := range [][]*Endpoint{
		x.Match([]*Endpoint{before}, MustName("a.example"), 443), x.Best([]*Endpoint{before}, MustName("a.example"), 443),
	} {
		require.Same(t, before, found[0], "what dst holds stays")
	}
	require.Len(t, x.Best([]*Endpoint{before}, MustName("b.example"), 443), 2, "and does not compete")
}

// TestBestIsOfEachCatalog: what one catalog says specifically does not silence
// another.
func TestBestIsOfEachCatalog(t *testing.T) {
	one := &Catalog{Name: "one", Requirements: []*Requirement{{Port: 443, Hosts: []Pattern{MustPattern("*.quay.io"), MustPattern("cdn.quay.io")}}}}
	two := &Catalog{Name: "two", Requirements: []*Requirement{{Port: 443, Hosts: []Pattern{MustPattern("*.quay.io"), MustPattern("*.io")}}}}
	x := NewIndex(one, two)
	var got []string
	for _, e := range x.Best(nil, MustName("cdn.quay.io"), 443) {
		got = append(got, e.Catalog.Name+" "+e.String())
	}
	require.ElementsMatch(t, []string{"one cdn.quay.io:443", "two *.quay.io:443"}, got)
}

// TestHashesNeverDecideAlone sends look-ups to where they do not belong, as a
// collision of hashes would.
func TestHashesNeverDecideAlone(t *testing.T) {
	for _, row := range []struct{ pattern, label, name, other string }{
		{"a.example", "a", "b.example", "b"},
		{"*.a.example", "a", "x.b.example", "b"},
		{"<p>.a.example", "a", "x.b.example", "b"},
		{"a*.a.example", "a", "aa.b.example", "b"},
		{"*.example", "example", "x.other", "other"},
	} {
		x := indexOf(row.pattern)
		moved := 0
		for i := range x.table.slots {
			s := &x.table.slots[i]
			for from := range int32(len(x.shapes)) {
				if s.hash != 0 && s.hash == x.table.literal(from, row.label) {
					x.table.put(x.table.literal(from, row.other), s.to)
					moved++
				}
			}
		}
		require.Equal(t, 1, moved)
		n := MustName(row.name)
		require.Empty(t, x.Match(nil, n, 443), "%s meets %s", n, row.pattern)
		require.Empty(t, x.Best(nil, n, 443))
	}
	x := indexOf("192.0.2.1")
	x.table.put(x.table.literal(0, "192.0.2.2"), x.table.slots[slices.IndexFunc(x.table.slots, func(s slot) bool { return s.hash != 0 })].to)
	require.Empty(t, x.Match(nil, MustName("192.0.2.2"), 443))
}

// TestTableHoldsAHashOnce: an edge is never hidden behind another, since a table
// with two of one hash is made again.
func TestTableHoldsAHashOnce(t *testing.T) {
	table := newTable(map[edge]int32{}, nil)
	require.True(t, table.put(1<<63|5, target{node: 1}))
	require.True(t, table.put(1<<63|13, target{node: 2}), "the same place, another hash")
	require.False(t, table.put(1<<63|5, target{node: 3}))
	to, ok := table.find(1<<63 | 13)
	require.True(t, ok)
	require.Equal(t, int32(2), to.node)
	_, ok = table.find(1<<63 | 21)
	require.False(t, ok)
}

// TestLookUpsAllocateNothing: every connection and question makes some.
func TestLookUpsAllocateNothing(t *testing.T) {
	x := indexOf("mcr.microsoft.com", "*.quay.io", "azgn*.servicebus.windows.net", "*.hcp.*.azmk8s.io", "a*b*c.<p>.example", "192.0.2.1", "*.io")
	dst := make([]*Endpoint, 0, 8)
	for _, s := range []string{"mcr.microsoft.com", "cdn.quay.io", "azgn1.servicebus.windows.net", "x.hcp.eastus.azmk8s.io", "axbxc.y.example", "192.0.2.1"} {
		n := MustName(s)
		require.NotEmpty(t, x.Best(nil, n, 443))
		require.Zero(t, testing.AllocsPerRun(100, func() { dst = x.Match(dst[:0], n, 443) }), s)
		require.Zero(t, testing.AllocsPerRun(100, func() { dst = x.Best(dst[:0], n, 443) }), s)
		require.Zero(t, testing.AllocsPerRun(100, func() { _, _ = ParseName(s) }), s)
		require.Zero(t, testing.AllocsPerRun(100, func() { _, _, _ = ParseTarget("quay.io:443") }))
	}
}

// TestCostDoesNotGrowWithThePatterns counts what a look-up compares, which no
// busy machine can change: the endpoints that it asks.
func TestCostDoesNotGrowWithThePatterns(t *testing.T) {
	for _, shape := range bulk {
		var patterns []string
		for i := range 10_000 {
			patterns = append(patterns, shape.pattern(i))
		}
		x := indexOf(patterns...)
		q := query{x: x, name: MustName(shape.host(4321))}
		require.Len(t, q.walk(nil, x.root, q.name.s), 1)
		for _, s := range x.table.slots {
			require.LessOrEqual(t, s.to.last-s.to.first, int32(1), "patterns of shape %s share a node", shape.shape)
		}
		for _, shapes := range x.shapes {
			require.LessOrEqual(t, len(shapes), 1)
		}
	}
}

// bulk makes n patterns of one shape, and names that meet them.
var bulk = []struct {
	shape         string
	pattern, host func(i int) string
}{
	{"literal", func(i int) string { return fmt.Sprintf("h%d.region%d.example.com", i, i%64) },
		func(i int) string { return fmt.Sprintf("h%d.region%d.example.com", i, i%64) }},
	{"wildcard", func(i int) string { return fmt.Sprintf("*.s%d.example.net", i) },
		func(i int) string { return fmt.Sprintf("cdn.s%d.example.net", i) }},
	{"partial", func(i int) string { return fmt.Sprintf("azgn%06d*.servicebus.example.org", i) },
		func(i int) string { return fmt.Sprintf("azgn%06d-relay.servicebus.example.org", i) }},
	{"tail", func(i int) string { return fmt.Sprintf("<region>-azgn%06d.example.org", i) },
		func(i int) string { return fmt.Sprintf("eastus-azgn%06d.example.org", i) }},
	{"inner", func(i int) string { return fmt.Sprintf("*.hcp%d.*.azmk8s.example", i) },
		func(i int) string { return fmt.Sprintf("x.hcp%d.eastus.azmk8s.example", i) }},
}

func BenchmarkMatch(b *testing.B) {
	for _, shape := range bulk {
		for _, n := range []int{10, 1000, 100_000} {
			var patterns []string
			for i := range n {
				patterns = append(patterns, shape.pattern(i))
			}
			var hosts []Name
			for i := range 1024 {
				hosts = append(hosts, MustName(shape.host(i*7919%n)))
			}
			b.Run(fmt.Sprintf("%s/%d", shape.shape, n), func(b *testing.B) {
				require.NotZero(b, benchmark(b, indexOf(patterns...), hosts))
			})
		}
	}
}

// BenchmarkMatchRealNames looks names of public top lists up, all of them in
// turn, in an index of the shapes that catalogs have.
func BenchmarkMatchRealNames(b *testing.B) {
	real := realNames(b)
	var hosts []Name
	for i := range real {
		hosts = append(hosts, MustName(real[i*7919%len(real)]))
	}
	for _, n := range []int{10, 1000, 100_000} {
		x := indexOf(mixed(real, n)...)
		b.Run(fmt.Sprint(n), func(b *testing.B) { benchmark(b, x, hosts) })
	}
}

// mixed makes n different patterns out of real names: of ten, five literal,
// three with a leading wildcard, one of azgn*.servicebus.windows.net's shape
// and one of *.hcp.*.azmk8s.io's.
func mixed(real []string, n int) []string {
	seen := map[string]bool{}
	var patterns []string
	add := func(s string) {
		if !seen[s] {
			patterns = append(patterns, s)
		}
		seen[s] = true
	}
	for i := 0; len(patterns) < n; i++ {
		s := real[i*31%len(real)]
		if round := i / len(real); round > 0 { // the names are used up
			s = fmt.Sprintf("r%d.%s", round, s)
		}
		labels := strings.Split(s, ".")
		head, rest := labels[0][:min(len(labels[0]), 4)], strings.Join(labels[1:], ".")
		switch kind := i % 10; {
		case kind < 5 || len(labels) < 3:
			add(s)
		case kind < 8:
			add("*." + rest)
		case kind == 8:
			add(head + "*." + rest)
		default:
			add("*." + head + ".*." + strings.Join(labels[2:], "."))
		}
	}
	return patterns
}

// BenchmarkBetweenWildcards shows the bound of the index: patterns that
// differ only between two wildcards of one label are asked one by one.
func BenchmarkBetweenWildcards(b *testing.B) {
	for _, n := range []int{10, 1000, 100_000} {
		var patterns []string
		for i := range n {
			patterns = append(patterns, fmt.Sprintf("a*%06d*b.example.org", i))
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			require.NotZero(b, benchmark(b, indexOf(patterns...), []Name{MustName("ax000007xb.example.org")}))
		})
	}
}

// benchmark looks the hosts up in turn, and returns how many endpoints it found.
func benchmark(b *testing.B, x *Index, hosts []Name) (found int) {
	var dst []*Endpoint
	b.ReportAllocs()
	next := 0
	for b.Loop() {
		dst = x.Match(dst[:0], hosts[next], 443)
		found += len(dst)
		if next++; next == len(hosts) {
			next = 0
		}
	}
	return found
}

func BenchmarkParseName(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseName("production.cloudflare.docker.com"); err != nil {
			b.Fatal(err)
		}
	}
}
