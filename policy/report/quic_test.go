package report

import (
	"testing"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/stretchr/testify/require"
)

// A rule lets TCP pass or not: QUIC that works beside it proves nothing of that.
func TestQUICDoesNotStandForTCP(t *testing.T) {
	quic := func(r *policy.Record) { r.Protocol, r.Listener = "quic", "tproxy" }
	o := Options{Catalogs: []*policy.Catalog{small}}
	for why, tape := range map[string]*tape{
		"after it":  started().conn("quay.io", dropped, c1).conn("quay.io", ok, quic, c1),
		"before it": started().conn("quay.io", ok, quic, c1).conn("quay.io", dropped, c1),
	} {
		r := tape.stop(late).report(o)
		require.Equal(t, Partial, r.Endpoints[0].Status, why)
		require.Equal(t, policy.ConnectionTimeout, r.Endpoints[0].Cause.Error, why)
	}
	r := started().conn("quay.io", dropped, c1).conn("quay.io", ok, quic, c1).conn("quay.io", ok, c1).stop(late).report(o)
	require.Equal(t, Used, r.Endpoints[0].Status, "TCP works in the end")
	r = started().conn("quay.io", ok, quic, c1).stop(late).report(o)
	require.Equal(t, Used, r.Endpoints[0].Status, "nobody tried TCP")
	r = started().conn("quay.io", quic, denied(policy.HTTPRequestDenied), c1).conn("quay.io", ok, c1).stop(late).report(o)
	require.Equal(t, Used, r.Endpoints[0].Status, "we refused QUIC, as --quic refuse does")
}
