//go:build linux

// Command report measures `egressaudit report` over a huge ledger beside a plain
// encoding/json scan of three fields of each line, in one run, and holds it to
// its targets: at least 1.5 times as fast, under 200 MB of resident memory that
// does not grow with the ledger, and the same report as over the ledger's parts.
//
//	go run ./test/bench/report [-n RECORDS] [-dir DIR] [-rounds N]
//
// It makes the ledger with the program's own writer in a temporary folder, which
// takes 1.5 GB of disk for a million records, and removes it. Exit
// status: 0 all targets held, 1 one was missed, 2 it could not run.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	wantRatio  = 1.5
	wantMemory = 200e6 // bytes
	wantGrowth = 1.25  // of the memory over a part, to that over the whole
	parts      = 4
)

// options are the command line. One of scan and generate makes this process a
// part of the measuring one, whose memory would else count as that of what it
// starts: Linux hands the most that was resident on to a child.
type options struct {
	n, rounds      int
	dir            string
	scan, generate string
}

func main() {
	var o options
	flag.IntVar(&o.n, "n", 10_000_000, "`RECORDS` in the ledger")
	flag.StringVar(&o.dir, "dir", "", "existing `DIR` with room for the ledger (TMPDIR)")
	flag.IntVar(&o.rounds, "rounds", 1, "`N` times each; the fastest counts")
	flag.StringVar(&o.scan, "scan", "", "only scan `FILE`")
	flag.StringVar(&o.generate, "generate", "", "only make the ledger in `DIR`")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	held, err := run(ctx, o)
	stop()
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	case !held:
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (held bool, err error) {
	switch {
	case o.scan != "":
		n, err := scan(o.scan)
		fmt.Println(n)
		return true, err
	case o.generate != "":
		return true, generate(ctx, o.generate, o.n)
	}
	dir, err := os.MkdirTemp(o.dir, "egressaudit-bench-report-")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)
	self, err := os.Executable()
	if err != nil {
		return false, err
	}
	program := filepath.Join(dir, "egressaudit")
	for _, c := range [][]string{
		{"go", "build", "-o", program, "./cmd/egressaudit"},
		{self, "-n", strconv.Itoa(o.n), "-generate", dir},
	} {
		if out, err := exec.CommandContext(ctx, c[0], c[1:]...).CombinedOutput(); err != nil {
			return false, fmt.Errorf("%s: %w\n%s", strings.Join(c, " "), err, out)
		}
	}
	return compare(ctx, self, program, dir, o.rounds)
}

// usage is what a process took.
type usage struct {
	wall, processor time.Duration
	memory          float64 // bytes, the most that was resident
	stdout          []byte
}

// compare runs both over the whole, and the program over the parts.
func compare(ctx context.Context, self, program, dir string, rounds int) (held bool, err error) {
	whole, pieces := names(dir)
	verb := []string{"report", "--catalog", "aml-extension", "--catalog", "azure-arc", "--format", "json"}
	var scans, reports []usage
	for range rounds {
		s, err := measure(ctx, self, "-scan", whole)
		if err != nil {
			return false, err
		}
		r, err := measure(ctx, program, append(verb, whole)...)
		if err != nil {
			return false, err
		}
		scans, reports = append(scans, s), append(reports, r)
	}
	first, err := measure(ctx, program, append(verb, pieces[0])...)
	if err != nil {
		return false, err
	}
	all, err := measure(ctx, program, append(verb, pieces...)...)
	if err != nil {
		return false, err
	}
	return tell(whole, fastest(scans), fastest(reports), first, all), nil
}

func fastest(list []usage) usage {
	return slices.MinFunc(list, func(a, b usage) int { return int(a.wall - b.wall) })
}

// measure runs a program to its end. A report's gaps are no error.
func measure(ctx context.Context, name string, args ...string) (usage, error) {
	var u usage
	var out, trouble bytes.Buffer
	c := exec.CommandContext(ctx, name, args...)
	c.Stdout, c.Stderr = &out, &trouble
	begun := time.Now()
	err := c.Run()
	u.wall, u.stdout = time.Since(begun), out.Bytes()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() == 1 {
		err = nil
	}
	if err != nil {
		return u, fmt.Errorf("%s: %w\n%s", filepath.Base(name), err, trouble.String())
	}
	u.processor = c.ProcessState.UserTime() + c.ProcessState.SystemTime()
	u.memory = float64(c.ProcessState.SysUsage().(*syscall.Rusage).Maxrss) * 1024
	return u, nil
}

// tell prints the figures, and says whether all targets held.
func tell(whole string, scan, report, part, all usage) bool {
	lines := 0
	fmt.Sscan(string(scan.stdout), &lines)
	size := int64(0)
	if i, err := os.Stat(whole); err == nil {
		size = i.Size()
	}
	fmt.Printf("ledger: %d lines, %.2f GB\n", lines, float64(size)/1e9)
	for _, u := range []struct {
		name string
		usage
	}{{"encoding/json, three fields", scan}, {"egressaudit report", report}} {
		fmt.Printf("%-28s %7.2f s, %9.0f lines/s, %7.2f s of processor time, %6.1f MB\n", u.name, u.wall.Seconds(),
			float64(lines)/u.wall.Seconds(), u.processor.Seconds(), u.memory/1e6)
	}
	ratio := scan.wall.Seconds() / report.wall.Seconds()
	held := true
	hold := func(what string, ok bool) {
		fmt.Printf("%-64s %s\n", what, map[bool]string{true: "held", false: "MISSED"}[ok])
		held = held && ok
	}
	hold(fmt.Sprintf("%.2f times as fast, at least %.1f (%.2f by processor time)", ratio, wantRatio, scan.processor.Seconds()/report.processor.Seconds()), ratio >= wantRatio)
	hold(fmt.Sprintf("%.1f MB resident, under %.0f MB", report.memory/1e6, wantMemory/1e6), report.memory < wantMemory)
	hold(fmt.Sprintf("%.2f times the memory over a quarter of it, at most %.2f", report.memory/part.memory, wantGrowth), report.memory <= wantGrowth*part.memory)
	hold("the same report as over the parts, but for the numbers of records", bytes.Equal(plain(report.stdout), plain(all.stdout)))
	return held
}

var evidence = regexp.MustCompile(`(?s)"evidence": \[[^\]]*\]`)

// plain is a report without the numbers of records, which begin anew in each
// part.
func plain(report []byte) []byte {
	return evidence.ReplaceAll(report, nil)
}
