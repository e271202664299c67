//go:build linux

// Package alerts tries the alerting rules of the chart with Prometheus's own tool:
// that each is understood, and what raises it. tests.yaml is what it tries. That the
// metrics exist is tried where they are made (cmd/egressaudit, serve-metrics).
package alerts

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/test/suite"
)

const rules = "../../deploy/helm/egressaudit/files/alerts.yaml"

func TestRules(t *testing.T) {
	suite.Need(t, "promtool")
	out, err := exec.Command("promtool", "check", "rules", rules).CombinedOutput()
	require.NoError(t, err, "%s", out)
	out, err = exec.Command("promtool", "test", "rules", "tests.yaml").CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "SUCCESS")
}

// A rule that is wrong is noticed: the tests are not empty.
func TestRulesAreTried(t *testing.T) {
	suite.Need(t, "promtool", "sh")
	for _, edit := range []string{
		"s/ledger_lost_total > 0/ledger_lost_total > 9/", "s/lag_seconds > 5/lag_seconds > 5000/", "s/blocked|partial/blocked/",
		`s/result="failed"/result="trusted"/`, `s/result="untrusted"/result="trusted"/`, "s/egressaudit_ready == 0/egressaudit_ready == 2/",
		"s/recording_read == 0/recording_read == 1/", "s/absent(egressaudit_ready)/absent(up)/",
	} {
		dir := t.TempDir()
		script := `sed '` + edit + `' "$1" >"$3/alerts.yaml" && ! cmp -s "$1" "$3/alerts.yaml" && sed 's|^rule_files:.*|rule_files: [alerts.yaml]|' "$2" >"$3/tests.yaml" &&
			cd "$3" && promtool test rules tests.yaml; echo "status $?"`
		out, err := exec.Command("sh", "-c", script, "sh", rules, "tests.yaml", dir).CombinedOutput()
		require.NoError(t, err)
		require.True(t, strings.HasSuffix(string(out), "status 1\n") && strings.Contains(string(out), "FAILED"), "%s: %s", edit, out)
	}
}
