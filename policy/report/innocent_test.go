package report

import (
	"fmt"
	"strings"
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

// Where clients ask somebody else, most addresses are unknown to us: that is one
// finding to read, not hundreds.
func TestGuessesOfAddressesAreOneFinding(t *testing.T) {
	tape := started().dns().query("quay.io", found, c1).conn("quay.io", ok, took, c1, to(quay1+":443"))
	for i := range 100 {
		tape.conn(fmt.Sprintf("h%d.quay.io", i), ok, took, c2, to(fmt.Sprintf("198.51.100.%d:443", i)))
	}
	tape.conn("jobs.example.org", ok, took, c1, to("192.0.2.9:443")).conn("jobs.example.org", ok, took, c3, to("192.0.2.10:443"))
	r := tape.stop(at(1000)).report(Options{Catalogs: []*policy.Catalog{small}})
	told := only(r, HardcodedAddress)
	require.Len(t, told, 3, "one for the client that asks us, and one for each that does not")
	all := fmt.Sprint(told)
	require.Contains(t, all, "10.1.0.1 connected to 192.0.2.9:443 (as jobs.example.org), once")
	require.Contains(t, all, "10.1.0.2 connected to 100 addresses")
	require.Equal(t, 2, strings.Count(all, "confidence: guess"))
}
