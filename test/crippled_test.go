package test

import (
	"crypto/tls"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/policy/ledger"
	"github.com/egressaudit/egressaudit/policy/report"
	"github.com/egressaudit/egressaudit/test/lab"
)

// TestQueueOfOne: a recorder that keeps up with nothing loses records, tells so,
// and the report of it is never an all-clear.
func TestQueueOfOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "l.jsonl")
	w, err := ledger.Open(path, ledger.Options{Queue: 1, Vantage: "admin"})
	require.NoError(t, err)
	require.NoError(t, w.Start(&policy.Session{}))
	require.NoError(t, w.Sync(t.Context()))
	r := newRig(t, options{rules: map[string]lab.Behaviour{"site.example.com:443": lab.Site{}}})
	_, err = r.fetch(r.target("site.example.com", 443, false), "site.example.com", client{version: tls.VersionTLS13})
	require.NoError(t, err)
	o := r.closing()
	require.NoError(t, w.Append(&o))
	require.NoError(t, w.Sync(t.Context()))
	for w.Lost() == 0 { // a disk that is quick takes some of them
		w.Append(&o)
	}
	require.NoError(t, w.Sync(t.Context()))
	require.NoError(t, w.Stop(&policy.Session{}))

	c := &policy.Catalog{Name: "test", Requirements: []*policy.Requirement{{ID: "a", Port: r.world.Port(443), Hosts: []policy.Pattern{policy.MustPattern("*.example.com")}}}}
	rep := report.Build(report.Options{Catalogs: []*policy.Catalog{c}}, ledger.Read(path))
	require.Equal(t, report.CannotTell, rep.Verdict)
	on, err := report.ParseFailOn(report.DefaultFailOn)
	require.NoError(t, err)
	require.Equal(t, 3, rep.ExitStatus(on))
	require.Equal(t, report.Used, rep.Endpoints[0].Status, "what was recorded is judged all the same")
}
