//go:build linux

package e2e

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy/report"
	"github.com/egressaudit/egressaudit/test/suite"
)

// TestBypass: of three clients that are told of the proxy and ask its name server,
// one has a part that ignores HTTPS_PROXY and goes straight out, past us. The
// report names that client and no other, although all went to the same site.
func TestBypass(t *testing.T) {
	suite.Need(t, append([]string{"curl", "openssl", "getent"}, gatewayPrograms...)...)
	t.Parallel()
	g := newGateway(t, 4, 3, "web.egress.test", "only.egress.test")
	require.NoError(t, g.gate.Router()) // it forwards what is not for the proxy
	rows := []unaware{{host: "web.egress.test", port: 443, protocol: "tls"}, {host: "only.egress.test", port: 443, protocol: "tls"}}
	for _, u := range rows {
		g.securely(t, g.listen(t, u.host, u.port))
	}
	g.write(t, "upload", "hello\n")
	catalog := g.write(t, "gateway.yaml", catalogOf(rows))
	g.start(t, "--catalog", catalog, "--bypass-window", "2s")

	env := []string{"HTTPS_PROXY=http://" + gateAddr + ":3128"}
	fetch := "curl -q -sSf --cacert " + g.ca + " -o /dev/null https://web.egress.test/"
	straight := func(host string) string {
		return "openssl s_client -connect " + host + ":443 -servername " + host + " -CAfile " + g.ca + " -verify_return_error </dev/null"
	}
	g.at(t, 0, env, "sh", "-c", fetch).succeeds()
	g.at(t, 1, env, "sh", "-c", "getent hosts web.egress.test && "+fetch).succeeds()
	g.at(t, 2, env, "sh", "-c", fetch+" && "+straight("web.egress.test")+" && "+straight("only.egress.test")).succeeds()
	// The report waits for the window to pass, by what the ledger says: so go on.
	accused := func() []report.Finding {
		r, _ := g.judge(t, catalog)
		return slices.DeleteFunc(r.Findings, func(f report.Finding) bool { return f.Kind != "bypass" })
	}
	eventually(t, "a finding", func() bool {
		g.at(t, 0, env, "sh", "-c", fetch).succeeds()
		return len(accused()) > 0
	})
	g.stop(t)
	found := accused()
	require.NotEmpty(t, found)
	for _, f := range found {
		require.Contains(t, f.Text, g.client(2).String())
		require.NotContains(t, f.Text, g.client(0).String())
		require.NotContains(t, f.Text, g.client(1).String())
	}
	r, status := g.judge(t, catalog)
	require.Equal(t, 3, status)
	require.EqualValues(t, "cannot-tell", r.Verdict)
	require.EqualValues(t, "used", endpoint(t, r, "site-web").Status)
	require.EqualValues(t, "resolved", endpoint(t, r, "site-only").Status)
}
