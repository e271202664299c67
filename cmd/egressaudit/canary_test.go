package main

import (
	"io"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/policy/report"
)

// TestListenerThatDied: canaries that were asked once too often at the start, as by
// a reload that failed, do not stand for those of the end.
func TestListenerThatDied(t *testing.T) {
	_, d := serveFlags()
	d.ledger = filepath.Join(t.TempDir(), "t.jsonl")
	env := environ{stdout: io.Discard, stderr: io.Discard}
	tr, err := begin(env, &d.required, &d.path, settings{listen: "127.0.0.1:0", log: zerolog.Nop()})
	require.NoError(t, err)
	require.NoError(t, tr.sing())
	require.NoError(t, tr.sink(&policy.Observation{
		Kind: policy.KindConnection, ID: "t1", Origin: policy.OriginClient, Listener: "connect", Begun: time.Now(), Client: netip.MustParseAddrPort("127.0.0.1:40000"),
		Asked: "quay.io", Name: "quay.io", Port: 443, Verdict: policy.Verdict{Outcome: policy.OK},
	}))
	require.NoError(t, tr.listener.Close())
	require.ErrorContains(t, tr.end(t.Context(), nil), "canary through ")

	r, err := readAll(report.Options{Catalogs: tr.catalogs}, []string{d.ledger})
	require.NoError(t, err)
	require.Equal(t, report.CannotTell, r.Verdict)
	require.Contains(t, strings.Join(r.Doubts, "\n"), "canary through 127.0.0.1:")
}
