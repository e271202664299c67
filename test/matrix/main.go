// Command matrix provokes every cause of contract section 3 with real devices in
// network namespaces and holds egressaudit's report against what was done. What
// is expected stands in the README's tables, which it reads; it uses nothing of
// the product but its program. It needs root.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/egressaudit/egressaudit/test/lab/netns"
)

// prefix begins the names of all namespaces and folders of ours.
const prefix = "eamatrix"

// longest is how long all may take; cells that did not run by then are wrong.
const longest = 10 * time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// options are the flags.
type options struct {
	program, inspectors, world, only string
	seed                             uint64
	jobs                             int
	keep, verbose                    bool

	role, dir           string // of a program that the matrix starts itself
	proxy, ca, tls, url string
	insecure            bool
	beside              string
	wait, holds         time.Duration
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var o options
	f := flag.NewFlagSet("matrix", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&o.program, "program", "", "the egressaudit to try: a `FILE`")
	f.StringVar(&o.inspectors, "squid-openssl", "", "`FOLDER` with Debian's squid-openssl, unpacked")
	f.StringVar(&o.world, "world", "", "only the world `NAME`, such as direct4 or tproxy6")
	f.StringVar(&o.only, "only", "", "only causes with this `TEXT` in their name")
	f.Uint64Var(&o.seed, "seed", rand.Uint64N(1e6), "of the order of the cells")
	f.IntVar(&o.jobs, "jobs", 16, "clients at once")
	f.BoolVar(&o.keep, "keep", false, "leave ledgers, reports and logs behind")
	f.BoolVar(&o.verbose, "v", false, "print each cell")
	f.StringVar(&o.role, "role", "", "for the matrix itself: internet, parents, fetch or listen")
	f.StringVar(&o.dir, "dir", "", "for a role")
	f.StringVar(&o.proxy, "proxy", "", "for fetch")
	f.StringVar(&o.ca, "ca", "", "for fetch")
	f.StringVar(&o.tls, "tls", "", "for fetch")
	f.StringVar(&o.url, "url", "", "for fetch")
	f.BoolVar(&o.insecure, "insecure", false, "for fetch")
	f.StringVar(&o.beside, "beside", "", "for listen")
	f.DurationVar(&o.holds, "holds", 0, "for listen")
	f.DurationVar(&o.wait, "wait", 0, "for fetch")
	if err := f.Parse(args); err != nil {
		return 2
	}
	wrong, err := o.run(ctx, stdout)
	switch {
	case err != nil:
		fmt.Fprintln(stderr, "matrix:", err)
		return 2
	case wrong:
		return 1
	}
	return 0
}

func (o *options) run(ctx context.Context, stdout io.Writer) (wrong bool, err error) {
	switch o.role {
	case "listen":
		return false, listen(o.proxy, o.beside, o.url, o.wait, o.holds)
	case "fetch":
		return false, fetch(o.proxy, o.ca, o.tls, o.url, o.insecure, o.wait)
	}
	t, err := readTables(readme)
	if err != nil {
		return false, err
	}
	all, err := plan(t, o.seed, o.only)
	if err != nil {
		return false, err
	}
	all = slices.DeleteFunc(all, func(w *world) bool { return len(w.cells) == 0 || o.world != "" && w.name != o.world })
	switch {
	case len(all) == 0:
		return false, fmt.Errorf("no cell is called that (-world %q -only %q)", o.world, o.only)
	case o.role == "internet":
		return false, playInternet(ctx, all[0], o.dir)
	case o.role == "parents":
		return false, playParents(ctx, all[0], o.dir)
	}
	return o.matrix(ctx, all, stdout)
}

// matrix builds the worlds, plays all cells and prints what came of it.
func (o *options) matrix(ctx context.Context, all []*world, stdout io.Writer) (wrong bool, err error) {
	begun := time.Now()
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	if err := o.clean(); err != nil {
		return false, err
	}
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("%s%d-files", prefix, os.Getpid()))
	if o.keep {
		dir = strings.TrimSuffix(dir, "files") + "kept"
	} else {
		defer os.RemoveAll(dir)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return false, err
	}
	n := 0
	for _, w := range all {
		n += len(w.cells)
	}
	fmt.Fprintf(stdout, "%d cells in %d worlds, seed %d\n", n, len(all), o.seed)
	results, err := o.play(ctx, all, dir)
	bad := o.print(stdout, results)
	fmt.Fprintf(stdout, "%d cells, %d off the diagonal or wrong in detail, %s\n", len(results), bad, time.Since(begun).Round(100*time.Millisecond))
	if o.keep {
		fmt.Fprintln(stdout, "files are in", dir)
	}
	if err == nil && len(results) != n {
		err = fmt.Errorf("%d of %d cells did not run", n-len(results), n)
	}
	return bad > 0, err
}

// clean removes what a killed matrix left behind.
func (o *options) clean() error {
	if os.Geteuid() != 0 {
		return errors.New("network namespaces need root (sudo test/matrix/run.sh)")
	}
	left, err := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*-files"))
	for _, dir := range left {
		number := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(dir), prefix), "-files")
		pid, bad := strconv.Atoi(number)
		if bad == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}
	return errors.Join(err, netns.Sweep(prefix))
}

// play runs the worlds beside each other.
func (o *options) play(ctx context.Context, all []*world, dir string) ([]result, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	slots := make(chan struct{}, o.jobs)
	var mu sync.Mutex
	var results []result
	var errs []error
	var running sync.WaitGroup
	for _, w := range all {
		running.Go(func() {
			b := &built{world: w, dir: filepath.Join(dir, w.name), inspectors: o.inspectors,
				again: []string{"-seed", fmt.Sprint(o.seed), "-only", o.only}}
			r, err := b.run(ctx, o.program, self, slots)
			mu.Lock()
			defer mu.Unlock()
			results = append(results, r...)
			if err != nil {
				errs = append(errs, fmt.Errorf("world %q: %w", w.name, err))
			}
		})
	}
	running.Wait()
	return results, errors.Join(errs...)
}

// run builds a world, plays its cells and takes it down again.
func (b *built) run(ctx context.Context, program, self string, slots chan struct{}) (r []result, err error) {
	if err := os.Mkdir(b.dir, 0o755); err != nil {
		return nil, err
	}
	defer func() {
		if b.net != nil {
			err = errors.Join(err, b.net.Close())
		}
	}()
	if err := b.build(ctx); err != nil {
		return nil, err
	}
	return b.play(ctx, program, self, slots)
}

// print lists the cells that are wrong, and the matrix; bad is how many are.
func (o *options) print(out io.Writer, results []result) (bad int) {
	slices.SortFunc(results, func(a, b result) int { return strings.Compare(a.cell.String(), b.cell.String()) })
	for _, r := range results {
		switch {
		case len(r.off) > 0:
			bad++
			fmt.Fprintf(out, "WRONG %s (%s): %s\n", r.cell, r.cell.host, strings.Join(r.off, "; "))
		case o.verbose:
			fmt.Fprintf(out, "right %s: %s\n", r.cell, r.got.label())
		}
	}
	confusion(out, results)
	return bad
}
