//go:build linux

package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/policy/ledger"
	"github.com/egressaudit/egressaudit/policy/report"
	"github.com/egressaudit/egressaudit/test/suite"
)

// trial is one egressaudit run around one command.
type trial struct {
	*process
	ledger, report string
}

// flags are those that every recording of this internet needs.
func (w *world) flags(ledger string) []string {
	return []string{"--catalog", w.catalog, "--resolver", w.dns, "--allow-address", "127.0.0.0/8", "--trust", w.ca, "--ledger", ledger}
}

// prepare makes a trial that is not started yet.
func (w *world) prepare(t *testing.T, env, flags []string, command ...string) *trial {
	t.Helper()
	x := &trial{ledger: filepath.Join(w.dir, "trial.jsonl"), report: filepath.Join(w.dir, "report.json")}
	args := append([]string{suite.Program(t), "run"}, w.flags(x.ledger)...)
	args = append(args, "--format", "json", "-o", x.report)
	args = append(append(append(args, flags...), "--"), command...)
	x.process = w.command(t, env, args...)
	return x
}

// run is a trial from its start to its end.
func (w *world) run(t *testing.T, env, flags []string, command ...string) (*trial, int) {
	t.Helper()
	x := w.prepare(t, env, flags, command...)
	x.start()
	return x, x.wait()
}

// said is all that the trial and its command printed, for messages.
func (x *trial) said() string { return x.stdout.String() + x.stderr.String() }

// records are the whole ledger, which must be without damage.
func (x *trial) records(t *testing.T) []*policy.Record { return readLedger(t, x.ledger) }

func readLedger(t *testing.T, path string) []*policy.Record {
	t.Helper()
	var out []*policy.Record
	for r, err := range ledger.Read(path) {
		require.NoError(t, err)
		out = append(out, r)
	}
	return out
}

// closing are the closing records of what clients did, in the order of their
// beginning.
func closing(records []*policy.Record) []*policy.Record {
	out := slices.DeleteFunc(slices.Clone(records), func(r *policy.Record) bool {
		return r.Observation == nil || r.Open || r.Origin != policy.OriginClient
	})
	return out
}

// judged is the report.
func (x *trial) judged(t *testing.T) *report.Report { return readReport(t, x.report) }

func readReport(t *testing.T, path string) *report.Report {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	r := new(report.Report)
	require.NoError(t, json.Unmarshal(b, r), "%s", b)
	require.Equal(t, "egressaudit/report/1", r.Schema)
	return r
}

// endpoint is the row of the report for a requirement.
func endpoint(t *testing.T, r *report.Report, requirement string) report.Endpoint {
	t.Helper()
	i := slices.IndexFunc(r.Endpoints, func(e report.Endpoint) bool { return e.Requirement == requirement })
	require.GreaterOrEqual(t, i, 0, "the report has no endpoint %q", requirement)
	return r.Endpoints[i]
}

// carried is what records say that they carried, sorted.
func carried(records []*policy.Record) []traffic {
	var out []traffic
	for _, r := range records {
		out = append(out, traffic{r.BytesUp, r.BytesDown})
	}
	return sorted(out)
}
