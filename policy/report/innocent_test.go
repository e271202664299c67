package report

import (
	"testing"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/stretchr/testify/require"
)

// A mirror may have the name of what it mirrors in front: whoever connects to it
// by its name meant it, and nothing else.
func TestMirrorsAreNoSearchSuffix(t *testing.T) {
	const mirror = "quay.io.mirror.example.com"
	o := Options{Catalogs: []*policy.Catalog{cat("c", "registry extension quay.io", "jobs workload jobs.example.org", "mirror extension *.mirror.example.org")}}
	for why, tape := range map[string]*tape{
		"by CONNECT": started().conn("jobs.example.org", ok, c1).query(mirror, answers("203.0.113.8"), c1).conn(mirror, ok, c1),
		"captured":   started().conn("jobs.example.org", ok, c1).query(mirror, answers("203.0.113.8"), c1).conn(mirror, ok, took, c1, to("203.0.113.8:443")),
	} {
		r := tape.stop(late).report(o)
		require.Empty(t, only(r, SearchSuffixAnswered), why)
		require.Equal(t, Unused, r.Endpoints[0].Status, why)
		require.Len(t, r.Unlisted, 1, why)
		require.Empty(t, r.Doubts, why)
	}
	// The client that is led astray says the name that it meant.
	r := started().conn("jobs.example.org", ok, c1).query(mirror, answers("203.0.113.8"), c1).conn("quay.io", dropped, took, c1, to("203.0.113.8:443")).stop(late).report(o)
	require.Len(t, only(r, SearchSuffixAnswered), 1)
}
