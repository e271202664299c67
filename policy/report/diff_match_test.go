package report

import (
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

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

// Catalogs of tens of thousands of hosts are no matter of patience, with trials
// or without, whether they have nothing in common or everything is moved.
func TestDiffOfLargeCatalogs(t *testing.T) {
	const n = 20_000
	hosts := func(form string) (out []string) {
		for i := range n {
			out = append(out, fmt.Sprintf(form, i))
		}
		return out
	}
	old, now := listing1("old", hosts("a%d.example.org"), 443), listing1("new", hosts("b%d.example.net"), 443)
	begun := time.Now()
	d := DiffCatalogs(old, now)
	require.Equal(t, n, d.Count(ChangeRemoved))
	require.Equal(t, n, d.Count(ChangeAdded))
	moved := listing1("new", hosts("a%d.example.org"), 80)
	require.Equal(t, n, DiffCatalogs(old, moved).Count(ChangePort))
	wide := listing1("new", hosts("*.a%d.example.org"), 443)
	parts := listing1("old", slices.Concat(hosts("x.a%d.example.org"), hosts("y.a%d.example.org")), 443)
	require.Equal(t, n, DiffCatalogs(parts, wide).Count(ChangeWidened))

	used := started()
	for i := range 300 {
		used.conn(fmt.Sprintf("a%d.example.org", i), ok)
	}
	used.stop()
	d.Exercise([]Tried{{Old: used.report(Options{Catalogs: []*policy.Catalog{old}}), New: used.report(Options{Catalogs: []*policy.Catalog{now}})}})
	require.Contains(t, d.Summary, "300 of them were used in 1 trial")
	require.NoError(t, d.WriteText(io.Discard, TextOptions{}))
	require.NoError(t, d.WriteMarkdown(io.Discard))
	t.Logf("all took %s", time.Since(begun))
	require.Less(t, time.Since(begun), 10*time.Second)
}
