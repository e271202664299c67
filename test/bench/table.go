//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"
)

// samples are the figures by name and peer, one a round.
type samples map[string]map[string][]float64

func (s samples) add(figure, peer string, v float64) {
	if s[figure] == nil {
		s[figure] = map[string][]float64{}
	}
	s[figure][peer] = append(s[figure][peer], v)
}

// ratios are egressaudit's figure over a peer's, round by round, in order of
// size: what slows the machine for a while slows both.
func (s samples) ratios(figure, peer string) []float64 {
	ours, theirs := s[figure]["egressaudit"], s[figure][peer]
	if peer == best {
		theirs = s.best(figure)
	}
	out := make([]float64, len(ours))
	for i := range ours {
		out[i] = ours[i] / theirs[i]
	}
	slices.Sort(out)
	return out
}

// best stands for the one of the others that has the most, in each round anew.
const best = "the best of the others"

func (s samples) best(figure string) []float64 {
	most := make([]float64, len(s[figure]["egressaudit"]))
	for peer, all := range s[figure] {
		for i, v := range all {
			if peer != "egressaudit" {
				most[i] = max(most[i], v)
			}
		}
	}
	return most
}

// median of a copy; of an even number, the mean of the two in the middle.
func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	n := len(v)
	return (v[(n-1)/2] + v[n/2]) / 2
}

func (t target) held(ratio float64) bool {
	switch t.bound {
	case atLeast:
		return ratio >= t.ratio
	case below:
		return ratio < t.ratio
	}
	return ratio <= t.ratio
}

func (t target) String() string { return fmt.Sprintf("%s %.2f × %s", t.bound, t.ratio, t.peer) }

// render makes two tables: what is held, and the figures. missed says that a
// target is not held.
func (s samples) render(all []measure, columns []string) (table string, missed bool) {
	var held, figures strings.Builder
	held.WriteString("| figure | target | median ratio | least … most | held |\n|---|---|---:|---:|---|\n")
	fmt.Fprintf(&figures, "| median of the rounds | %s |\n|---%s|\n", strings.Join(columns, " | "), strings.Repeat("|---:", len(columns)))
	for _, m := range all {
		for _, f := range m.figures {
			fmt.Fprintf(&figures, "| %s |", f.name)
			for _, p := range columns {
				fmt.Fprintf(&figures, " %s |", digits(median(s[f.name][p])))
			}
			figures.WriteByte('\n')
			for _, t := range f.targets {
				r := s.ratios(f.name, t.peer)
				answer := "yes"
				if !t.held(median(r)) {
					answer, missed = "**no**", true
				}
				fmt.Fprintf(&held, "| %s | %s | %.3f | %.3f … %.3f | %s |\n", f.name, t, median(r), r[0], r[len(r)-1], answer)
			}
		}
	}
	return held.String() + "\n" + figures.String(), missed
}

// digits shows three of them.
func digits(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// machine says when and on what the figures were made.
func machine() string {
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	toolchain, _ := exec.Command("go", "env", "GOVERSION").Output()
	commit, _ := exec.Command("git", "--no-optional-locks", "describe", "--always", "--dirty").Output()
	return fmt.Sprintf("on %s from commit %s: %d processors, Linux %s, %s, load at the start %s", time.Now().UTC().Format("2006-01-02 15:04 UTC"),
		bytes.TrimSpace(commit), runtime.NumCPU(), bytes.TrimSpace(kernel), bytes.TrimSpace(toolchain), load())
}

// load is the system's load of the last minute.
func load() string {
	b, _ := os.ReadFile("/proc/loadavg")
	one, _, _ := strings.Cut(string(b), " ")
	return one
}

// marks stand around a table in a page.
func marks(name string) (begin, end string) {
	return "<!-- " + name + ": begin -->\n", "<!-- " + name + ": end -->\n"
}

// splice puts the table between its marks of a page.
func splice(path, name, table string) error {
	beginMark, endMark := marks(name)
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, began := strings.Cut(string(b), beginMark)
	_, after, ended := strings.Cut(rest, endMark)
	if !began || !ended {
		return fmt.Errorf("write %q: the marks %q and %q are missing", path, strings.TrimSpace(beginMark), strings.TrimSpace(endMark))
	}
	return os.WriteFile(path, []byte(before+beginMark+table+endMark+after), 0o644)
}
