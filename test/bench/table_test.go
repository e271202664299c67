//go:build linux

package main

import (
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
	return s, []measure{{figures: []figure{{name: "cost", targets: []target{{"goproxy", 1.05, false}, {"squid", 0.5, true}}}}}}
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
		table, missed := s.render(m)
		require.Contains(t, table, c.line+"\n", c.why)
		require.Equal(t, c.missed, missed, c.why)
	}
}

func TestThePageTakesTheTableBetweenItsMarks(t *testing.T) {
	page := filepath.Join(t.TempDir(), "README.md")
	require.NoError(t, os.WriteFile(page, []byte("before\n"+beginMark+"old\n"+endMark+"after\n"), 0o600))
	require.NoError(t, splice(page, "new\n"))
	require.NoError(t, splice(page, "newer\n"))
	got, err := os.ReadFile(page)
	require.NoError(t, err)
	require.Equal(t, "before\n"+beginMark+"newer\n"+endMark+"after\n", string(got))

	require.NoError(t, os.WriteFile(page, []byte("no marks\n"), 0o600))
	require.ErrorContains(t, splice(page, "new\n"), "marks")
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
	require.NoError(t, recorded(path, 2))
	require.ErrorContains(t, recorded(path, 3), "2 lines for 3 tunnels")
}

func TestAMissingGeneratorIsSaidWithItsFlag(t *testing.T) {
	var said strings.Builder
	dir := t.TempDir()
	code := run(t.Context(), []string{"-dir", dir, "-generator", filepath.Join(dir, "none")}, &said, &said)
	require.Equal(t, 2, code)
	require.Contains(t, said.String(), "-generator DIR")
}
