package deploy

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDashboard: it is JSON, and asks for metrics that are described.
func TestDashboard(t *testing.T) {
	text, err := os.ReadFile("helm/egressaudit/files/dashboard.json")
	require.NoError(t, err)
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	require.NoError(t, json.Unmarshal(text, &board))
	described, err := os.ReadFile("../policy/live/README.md")
	require.NoError(t, err)
	asked := 0
	for _, p := range board.Panels {
		for _, target := range p.Targets {
			for _, name := range regexp.MustCompile(`egressaudit(_[a-z_]+)\b`).FindAllStringSubmatch(target.Expr, -1) {
				asked++
				require.True(t, strings.Contains(string(described), name[1]+"`") || strings.Contains(string(described), name[1]+"{"), "%s: %s", p.Title, name[0])
			}
		}
	}
	require.Greater(t, asked, 5)
}
