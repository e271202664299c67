//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// twice costs egressaudit as told, over rounds in which everything takes 100
// times as long as in the round before.
func twice(ours ...float64) (samples, []measure) {
	s, slow := samples{}, 1.0
	for _, v := range ours {
		s.add("cost", "egressaudit", v*slow)
		for _, p := range []string{"goproxy", "squid", "tinyproxy"} {
			s.add("cost", p, slow)
		}
		slow *= 100
	}
	return s, []measure{{figures: []figure{{name: "cost", targets: []target{{"goproxy", 1.05, atMost}, {"squid", 0.5, below}, {best, 0.1, atLeast}}}}}}
}

func TestTargetsAreJudgedByTheRatioWithinARound(t *testing.T) {
	for _, c := range []struct {
		why    string
		ours   []float64
		line   string
		missed bool
	}{
		{"at most includes the bound", []float64{1.05}, "| cost | ≤ 1.05 × goproxy | 1.050 | 1.050 … 1.050 | yes |", true},
		{"below excludes it", []float64{0.5}, "| cost | < 0.50 × squid | 0.500 | 0.500 … 0.500 | **no** |", true},
		{"a machine that slows down slows both", []float64{0.4, 0.1, 0.3}, "| cost | < 0.50 × squid | 0.300 | 0.100 … 0.400 | yes |", false},
		{"of an even number the middle two count", []float64{1, 1.2}, "| cost | ≤ 1.05 × goproxy | 1.100 | 1.000 … 1.200 | **no** |", true},
	} {
		s, m := twice(c.ours...)
		table, missed := s.render(m, []string{"egressaudit", "goproxy", "squid"})
		require.Contains(t, table, c.line+"\n", c.why)
		require.Equal(t, c.missed, missed, c.why)
	}
}

func TestTheBestIsChosenInEachRound(t *testing.T) {
	s := samples{}
	for peer, all := range map[string][]float64{"egressaudit": {30, 30}, "unbound": {20, 10}, "CoreDNS": {10, 20}} {
		for _, v := range all {
			s.add("rate", peer, v)
		}
	}
	table, missed := s.render([]measure{{figures: []figure{{name: "rate", targets: []target{{best, 1.5, atLeast}, {best, 1.6, atLeast}}}}}},
		[]string{"egressaudit", "CoreDNS"})
	require.Contains(t, table, "| rate | ≥ 1.50 × the best of the others | 1.500 | 1.500 … 1.500 | yes |")
	require.Contains(t, table, "| rate | ≥ 1.60 × the best of the others | 1.500 | 1.500 … 1.500 | **no** |")
	require.Contains(t, table, "| rate | 30.0 | 15.0 |")
	require.True(t, missed)
}

func TestAQuestionThatIsLostSpoilsTheRun(t *testing.T) {
	const said = `Statistics:

  Queries sent:         100
  Queries completed:    %s
  Queries lost:         %s

  Response codes:       %s
  Average packet size:  request 37, response 53
  Run time (s):         1.555990
  Queries per second:   29557.388415

  Average Latency (s):  0.003101 (min 0.000052, max 0.018240)
`
	told, err := readStatistics(fmt.Sprintf(said, "100 (100.00%)", "0 (0.00%)", "NOERROR 100 (100.00%)"))
	require.NoError(t, err)
	require.Equal(t, 29557.388415, told["Queries per second"])
	require.Equal(t, 0.003101, told["Average Latency (s)"])
	for why, out := range map[string]string{
		"lost":    fmt.Sprintf(said, "99 (99.00%)", "1 (1.00%)", "NOERROR 99 (100.00%)"),
		"refused": fmt.Sprintf(said, "100 (100.00%)", "0 (0.00%)", "NOERROR 99 (99.00%), SERVFAIL 1 (1.00%)"),
		"nothing": "Error: unable to bind",
	} {
		_, err := readStatistics(out)
		require.Error(t, err, why)
	}
}

func TestThePageTakesTheTableBetweenItsMarks(t *testing.T) {
	page := filepath.Join(t.TempDir(), "README.md")
	begin, end := marks("table")
	require.NoError(t, os.WriteFile(page, []byte("before\n"+begin+"old\n"+end+"after\n"), 0o600))
	require.NoError(t, splice(page, "table", "new\n"))
	require.NoError(t, splice(page, "table", "newer\n"))
	got, err := os.ReadFile(page)
	require.NoError(t, err)
	require.Equal(t, "before\n"+begin+"newer\n"+end+"after\n", string(got))

	require.NoError(t, os.WriteFile(page, []byte("no marks\n"), 0o600))
	require.ErrorContains(t, splice(page, "table", "new\n"), "marks")
	got, err = os.ReadFile(page)
	require.NoError(t, err)
	require.Equal(t, "no marks\n", string(got))
}

func TestProcessorTimeCountsWork(t *testing.T) {
	before, err := processorTime(os.Getpid())
	require.NoError(t, err)
	for begun := time.Now(); ; {
		after, err := processorTime(os.Getpid())
		require.NoError(t, err)
		if after-before > 20*time.Millisecond {
			break
		}
		require.Less(t, time.Since(begun), time.Minute, "a loop uses processor time")
	}
	_, err = processorTime(1 << 22)
	require.Error(t, err, "no process has that number")
}

func TestALedgerThatMissesATunnelSpoilsTheRun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	require.NoError(t, os.WriteFile(path, []byte("a\nb\n"), 0o600))
	require.NoError(t, recorded(path, "", 2))
	require.ErrorContains(t, recorded(path, "", 3), "2 lines for 3 tunnels")
	require.NoError(t, recorded(path, "", 1))
	require.NoError(t, recorded(path, "a", 1))
	require.ErrorContains(t, recorded(path, "a", 0), "1 lines for 0 tunnels", "one too many")
}

func TestAMissingGeneratorIsSaidWithItsFlag(t *testing.T) {
	var said strings.Builder
	dir := t.TempDir()
	code := run(t.Context(), []string{"-dir", dir, "-generator", filepath.Join(dir, "none")}, &said, &said)
	require.Equal(t, 2, code)
	require.Contains(t, said.String(), "-generator DIR")
}
