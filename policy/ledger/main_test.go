package ledger

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/stretchr/testify/require"
)

// TestMain lets the test binary be the writer that TestKilledWriter kills.
func TestMain(m *testing.M) {
	if path := os.Getenv("LEDGER_TEST_CHILD"); path != "" {
		fmt.Fprintln(os.Stderr, appendForEver(path))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// noon is the first moment of the small worlds.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// ticking is a clock that moves on by a second at every look.
func ticking() func() time.Time {
	now := noon.Add(-time.Second)
	return func() time.Time {
		now = now.Add(time.Second)
		return now
	}
}

// connection is as long a record as a real one.
func connection(id string) *policy.Observation {
	return &policy.Observation{
		Kind: policy.KindConnection, ID: id, Origin: policy.OriginClient, Listener: "connect",
		Client: netip.MustParseAddrPort("10.244.1.7:40112"), Workload: "azureml/amlarc-identity-controller-0",
		Asked: "mcr.microsoft.com", SNI: "mcr.microsoft.com", SNIState: policy.SNIPresent,
		Name: "mcr.microsoft.com", NameFrom: policy.FromAsked, Port: 443,
		Address: netip.MustParseAddrPort("204.79.197.219:443"), Protocol: "tls",
		ALPN: []string{"h2", "http/1.1"}, TLSVersion: "1.3", Decision: policy.Allow,
		Matches: []policy.Match{{Catalog: "aml-extension", Requirement: "mcr", Endpoint: "mcr.microsoft.com:443"}},
		Verdict: policy.Verdict{Outcome: policy.OK, Stage: policy.StageData, Confidence: policy.Certain},
		BytesUp: 1834, BytesDown: 48211, ResolveMS: 3, ConnectMS: 21, FirstByteMS: 44, DurationMS: 1207,
	}
}

func open(t testing.TB, path string, o Options) *Writer {
	t.Helper()
	w, err := Open(path, o)
	require.NoError(t, err)
	t.Cleanup(func() { w.Close() })
	return w
}

// read is Read of a stream.
func read(in io.Reader, path string) iter.Seq2[*policy.Record, error] {
	return func(yield func(*policy.Record, error) bool) {
		for l, err := range Lines(in, path) {
			if !yield(l.Record, err) {
				return
			}
		}
	}
}

func newPath(t testing.TB) string { return filepath.Join(t.TempDir(), "trial.jsonl") }

// readAll returns the records of a ledger, and its damage as "kind line seq".
func readAll(t testing.TB, path string) (rs []*policy.Record, damage []string) {
	t.Helper()
	for r, err := range Read(path) {
		if r != nil {
			require.NoError(t, err)
			rs = append(rs, r)
			continue
		}
		var d *Damage
		require.ErrorAs(t, err, &d)
		require.Equal(t, path, d.Path)
		damage = append(damage, fmt.Sprint(d.Kind, " ", d.Line, " ", d.Seq))
	}
	return rs, damage
}

// requireWhole demands an undamaged ledger, with times in order.
func requireWhole(t testing.TB, path string) []*policy.Record {
	t.Helper()
	rs, damage := readAll(t, path)
	require.Empty(t, damage)
	for i, r := range rs {
		require.EqualValues(t, i+1, r.Seq)
		require.False(t, i > 0 && r.Time.Before(rs[i-1].Time), "record %d is older than the one before", i+1)
	}
	return rs
}

func kinds(rs []*policy.Record) (ks []policy.Kind) {
	for _, r := range rs {
		ks = append(ks, r.Kind)
	}
	return ks
}

func bg() context.Context { return context.Background() }

// firstError is the last pair's error of reading what is no ledger.
func firstError(path string) error {
	for _, err := range Read(path) {
		if d := (*Damage)(nil); err != nil && !errors.As(err, &d) {
			return err
		}
	}
	return nil
}

func requireWrite(t testing.TB, path string, content []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, content, 0o600))
}
