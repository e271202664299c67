package report

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/stretchr/testify/require"
)

// listing1 is a catalog of one row for each host, on ports in turn.
func listing1(name string, hosts []string, ports ...uint16) *policy.Catalog {
	c := &policy.Catalog{Name: name}
	for i, h := range hosts {
		c.Requirements = append(c.Requirements, &policy.Requirement{
			ID: fmt.Sprint("r", i), Scope: "all", Port: ports[i%len(ports)], Hosts: []policy.Pattern{policy.MustPattern(h)}, Protocol: policy.HTTPS})
	}
	return c
}

// In small worlds the shelf gives what asking each entry gives.
func TestShelfAgreesWithAskingEach(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	labels := []string{"a", "b", "*", "a*", "<r>", "<s>"}
	pattern := func() string {
		for {
			h := labels[rng.IntN(len(labels))]
			for range rng.IntN(3) {
				h += "." + labels[rng.IntN(len(labels))]
			}
			if _, err := policy.ParsePattern(h + ".c"); err == nil {
				return h + ".c"
			} else if _, err := policy.ParsePattern("a." + h); err == nil {
				return "a." + h
			}
		}
	}
	found := 0
	for range 300 {
		var hosts []string
		for range 12 {
			hosts = append(hosts, pattern())
		}
		in := entries(listing1("in", hosts, 443, 80)).list
		for _, e := range in {
			var first, best *entry
			for _, o := range in {
				if o == e || o.port != e.port || !o.host.Covers(e.host) {
					continue
				}
				if first == nil {
					first = o
				}
				if best == nil || o.host.Compare(best.host) > 0 {
					best = o
				}
			}
			s, others := shelve(in), func(o *entry) bool { return o != e }
			require.Same(t, first, s.over(e, others, alike), "%s among %v", e.at, hosts)
			require.Same(t, best, s.over(e, others, func(a, b *entry) int { return a.host.Compare(b.host) }), "%s among %v", e.at, hosts)
			found += bit(best != nil)
		}
	}
	require.Greater(t, found, 100)
}

// Comparing large catalogs asks few of the pairs: none where nothing is in common.
func TestDiffOfLargeCatalogs(t *testing.T) {
	const n = 3000
	hosts := func(form string) (out []string) {
		for i := range n {
			out = append(out, fmt.Sprintf(form, i))
		}
		return out
	}
	asked := func(of, in *policy.Catalog) (total int) {
		s := shelve(entries(in).list)
		for _, e := range entries(of).list {
			for range s.near(e) {
				total++
			}
		}
		return total
	}
	old, now := listing1("old", hosts("a%d.example.org"), 443), listing1("new", hosts("b%d.example.net"), 443)
	d := DiffCatalogs(old, now)
	require.Equal(t, n, d.Count(ChangeRemoved))
	require.Equal(t, n, d.Count(ChangeAdded))
	require.Zero(t, asked(old, now))
	moved := listing1("new", hosts("a%d.example.org"), 80)
	require.Equal(t, n, DiffCatalogs(old, moved).Count(ChangePort))
	require.Zero(t, asked(old, moved))
	wide := listing1("new", hosts("*.a%d.example.org"), 443)
	parts := listing1("old", slices.Concat(hosts("x.a%d.example.org"), hosts("y.a%d.example.org")), 443)
	require.Equal(t, n, DiffCatalogs(parts, wide).Count(ChangeWidened))
	require.Equal(t, 2*n, asked(parts, wide), "each its own wildcard")

	used := started()
	for i := range 300 {
		used.conn(fmt.Sprintf("a%d.example.org", i), ok)
	}
	used.stop()
	d.Exercise([]Tried{{Old: used.report(Options{Catalogs: []*policy.Catalog{old}}), New: used.report(Options{Catalogs: []*policy.Catalog{now}})}})
	require.Contains(t, d.Summary, "300 of them were used in 1 trial")
}

// BenchmarkDiffCatalogs compares 2 x 20,000 hosts with nothing in common.
func BenchmarkDiffCatalogs(b *testing.B) {
	var old, now []string
	for i := range 20_000 {
		old, now = append(old, fmt.Sprintf("a%d.example.org", i)), append(now, fmt.Sprintf("b%d.example.net", i))
	}
	a, z := listing1("old", old, 443), listing1("new", now, 443)
	for b.Loop() {
		DiffCatalogs(a, z)
	}
}
