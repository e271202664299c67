// Command cluster is the proof on a real Kubernetes: it makes a node, a corporate
// firewall with a parent proxy and an internet out of namespaces of this host,
// installs egressaudit with helm and then an extension that imitates Azure Machine
// Learning's, while the firewall blocks some endpoints in nine ways; it writes down
// what it does, and holds egressaudit's report against that. It needs root; run.sh
// installs what it needs. Nothing of it is left when it ends, however it ends.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/egressaudit/egressaudit/test/lab/netns"
)

func main() {
	switch filepath.Base(os.Args[0]) + " " + os.Args[min(1, len(os.Args)-1)] {
	case "exe init":
		fmt.Fprintln(os.Stderr, "cluster: init:", initNode(os.Args[2], os.Args[3]))
		os.Exit(1)
	case "cluster reap":
		reap(os.Stdout)
	}
	signal.Ignore(syscall.SIGPIPE) // whoever read us may be gone by ^C, and there is work left
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// options are the flags.
type options struct {
	kube, helm, program, client, image string // files
	chart                              string
	rollingProgram                     string // a file
	hold, sweep, die                   bool
	keep, stages                       string
	pace                               pace
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var o options
	f := flag.NewFlagSet("cluster", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&o.kube, "kube", "", "Kubernetes: the `FILE` that kube/build.sh kube prints")
	f.StringVar(&o.helm, "helm", "", "helm: a `FILE`")
	f.StringVar(&o.program, "program", "", "egressaudit, of this host: a `FILE`")
	f.StringVar(&o.image, "image", "", "egressaudit's image, as a docker-archive: a `FILE`")
	f.StringVar(&o.chart, "chart", "../../deploy/helm/egressaudit", "egressaudit's chart: a `FOLDER`")
	f.StringVar(&o.client, "client", "", "the program of test/cluster/client: a `FILE`")
	f.StringVar(&o.rollingProgram, "rolling", "", "the program of test/rolling: a `FILE`")
	f.StringVar(&o.stages, "play", "trial,rolling", "what to play: a `LIST` of trial and rolling")
	f.IntVar(&o.pace.tunnels, "tunnels", 200, "`NUMBER` of tunnels held open while replicas are replaced")
	f.IntVar(&o.pace.rate, "rate", 500, "`NUMBER` of new connections a second meanwhile")
	f.IntVar(&o.pace.floor, "floor", 450, "`NUMBER` of them below which nothing is proven")
	f.DurationVar(&o.pace.delay, "delay", 5*time.Second, "shutdownDelaySeconds of those replicas, a `TIME`")
	f.DurationVar(&o.pace.drain, "drain", 10*time.Second, "drainSeconds of those replicas, a `TIME`")
	f.BoolVar(&o.hold, "hold", false, "let the cluster stand after egressaudit was installed, until ^C, and play no trial")
	f.StringVar(&o.keep, "keep", "", "copy ledgers, report, truth and logs into a `FOLDER`")
	f.BoolVar(&o.die, "die", false, "be killed in the middle, to see what is left")
	f.BoolVar(&o.sweep, "sweep", false, "only remove what a killed cluster left")
	if err := f.Parse(args); err != nil {
		return 2
	}
	for _, stage := range strings.Split(o.stages, ",") {
		if stage != "trial" && stage != "rolling" {
			fmt.Fprintf(stderr, "cluster: -play %q: write trial, rolling, or trial,rolling\n", o.stages)
			return 2
		}
	}
	if err := sweep(); err != nil || o.sweep {
		return status(err, stderr)
	}
	return status(o.play(ctx, stdout), stderr)
}

func status(err error, stderr io.Writer) int {
	var wrong *mistakes
	switch {
	case err == nil:
		return 0
	case errors.As(err, &wrong):
		fmt.Fprintln(stderr, err)
		return 1
	}
	fmt.Fprintln(stderr, "cluster:", err)
	return 2
}

// sweep removes what killed clusters left.
func sweep() error {
	errs := []error{netns.Sweep(prefix), sweepGroups()}
	left, _ := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*-*"))
	for _, dir := range left {
		number, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), prefix), "-")
		if gone(number) {
			errs = append(errs, os.RemoveAll(dir))
		}
	}
	return errors.Join(errs...)
}

// gone says whether the process of that number has ended.
func gone(number string) bool {
	pid, err := strconv.Atoi(number)
	return err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
}

// steps print what each step took.
type steps struct {
	out   io.Writer
	begun time.Time
}

// do does a step and says how long it took.
func (s *steps) do(what string, step func() error) error {
	begun := time.Now()
	err := step()
	if err != nil {
		fmt.Fprintf(s.out, "cluster: %-40s failed after %.1f s\n", what, time.Since(begun).Seconds())
		return fmt.Errorf("%s: %w", what, err)
	}
	fmt.Fprintf(s.out, "cluster: %-40s %5.1f s\n", what, time.Since(begun).Seconds())
	return nil
}
