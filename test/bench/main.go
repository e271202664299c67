//go:build linux

// Command bench measures egressaudit beside a bare goproxy, Debian's tinyproxy
// and squid, or with -dns beside Debian's unbound and dnsmasq and CoreDNS, in one
// run, and holds it to its targets. run.sh starts it; README.md
// says what is measured and how to read it.
//
// It owns the order of the runs, the peers' configuration and the table. The
// traffic comes from a generator that is not ours.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// options are the command line.
type options struct {
	generator string  // folder of the generator's source
	questions string  // file for dnsperf
	dns       bool    // name servers instead of proxies
	dir       string  // for everything that is built and written
	output    string  // the page that takes the table; "" for none
	rounds    int     // of all measures and peers
	scale     float64 // of the work in each measure
	strict    bool
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if err == nil && o.dns {
		err = o.buildDNS(ctx)
	} else if err == nil {
		err = o.build(ctx)
	}
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	missed := false
	if err == nil {
		missed, err = o.compare(ctx, stdout, stderr)
	}
	switch {
	case err != nil:
		fmt.Fprintln(stderr, "bench:", err)
		return 2
	case missed && o.strict:
		return 1
	}
	return 0
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	shared := os.Getenv("EGRESSAUDIT_SHARED")
	if shared == "" {
		shared = "../shared"
	}
	f.StringVar(&o.generator, "generator", filepath.Join(shared, "bench"), "`DIR` of the generator's source; $EGRESSAUDIT_SHARED/bench where that is set")
	corpora := os.Getenv("EGRESSAUDIT_CORPORA")
	if corpora == "" {
		corpora = filepath.Join(shared, "corpora")
	}
	f.BoolVar(&o.dns, "dns", false, "name servers instead of proxies")
	f.StringVar(&o.questions, "questions", filepath.Join(corpora, "dns", "queries-dnsperf.txt"), "`FILE` of questions for dnsperf")
	f.StringVar(&o.dir, "dir", "", "existing `DIR` for what is built and written; run.sh makes and removes one")
	f.StringVar(&o.output, "o", "", "write the table into `FILE`, between its markers, too")
	f.IntVar(&o.rounds, "rounds", 5, "`N` rounds of all measures and peers")
	f.Float64Var(&o.scale, "scale", 1, "`FACTOR` on the work in each measure; for a quick look, 0.1")
	f.BoolVar(&o.strict, "strict", false, "exit status 1 when a target is missed")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	switch _, err := os.Stat(filepath.Join(o.generator, "main.go")); {
	case f.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	case o.dir == "" || o.rounds < 1 || o.scale <= 0:
		return o, errors.New("-dir is needed, -rounds and -scale are above 0")
	case err != nil && !o.dns:
		return o, fmt.Errorf("read the generator: %w (name its folder with -generator DIR or EGRESSAUDIT_SHARED)", err)
	}
	return o, nil
}

// build makes egressaudit, the bare goproxy and the generator in o.dir; it is
// called at the top of the checkout.
func (o options) build(ctx context.Context) error {
	for _, b := range []struct{ in, pkg, name string }{
		{".", "./cmd/egressaudit", "egressaudit"},
		{".", "./test/bench/goproxy", "goproxy"},
		{o.generator, ".", "proxybench"},
	} {
		c := exec.CommandContext(ctx, "go", "build", "-o", o.in(b.name), b.pkg)
		c.Dir = b.in
		if out, err := c.CombinedOutput(); err != nil {
			return fmt.Errorf("build %q in %q: %w\n%s", b.pkg, b.in, err, out)
		}
	}
	return nil
}

func (o options) in(name string) string { return filepath.Join(o.dir, name) }

// compare runs every measure on every peer, o.rounds times, and prints the
// table. missed says that a target was not held.
func (o options) compare(ctx context.Context, stdout, stderr io.Writer) (missed bool, err error) {
	begun := machine()
	open := o.proxyContest
	if o.dns {
		open = o.dnsContest
	}
	c, stop, err := open(ctx)
	if err != nil {
		return false, err
	}
	defer stop()
	s := samples{}
	for round := range o.rounds {
		for _, m := range c.measures {
			for _, p := range inTurn(c.peers, round) {
				fmt.Fprintf(stderr, "round %d of %d: %s: %s\n", round+1, o.rounds, m.figures[0].name, p.name)
				r, err := o.try(ctx, c, p, m)
				if err != nil {
					return false, fmt.Errorf("%s through %s: %w", strings.Join(m.args, " "), p.name, err)
				}
				for _, f := range m.figures {
					s.add(f.name, p.name, f.of(r))
				}
			}
		}
	}
	table, missed := s.render(c.measures, c.columns)
	page := "Made by `" + o.command() + "`\n" + begun + " (load at the end: " + load() + ").\n\n" + table
	fmt.Fprint(stdout, page)
	if o.output != "" {
		err = splice(o.output, c.mark, page)
	}
	return missed, err
}

// command is what makes this table again.
func (o options) command() string {
	c := "sh test/bench/run.sh"
	if o.dns {
		c += " -dns"
	}
	c += fmt.Sprintf(" -rounds %d", o.rounds)
	if o.scale != 1 {
		c += fmt.Sprintf(" -scale %g", o.scale)
	}
	if o.output != "" {
		c += " -o " + o.output
	}
	return c
}

// inTurn is the order of the peers: egressaudit and who comes nearest to it are
// neighbours, and every other round runs backwards, so that neither is always the
// first.
func inTurn(all []peer, round int) []peer {
	all = slices.Clone(all)
	if round%2 == 1 {
		slices.Reverse(all)
	}
	return all
}
