package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/policy/catalog"
	"github.com/egressaudit/egressaudit/policy/ledger"
	"github.com/egressaudit/egressaudit/policy/report"
)

// diffFlags are those of the verb.
type diffFlags struct {
	required
	rendering
	trials []string
}

func newDiff(env environ) *cobra.Command {
	var o diffFlags
	c := &cobra.Command{
		Use:   "diff [flags] A B",
		Short: "What differs: two ledgers, two catalogs, or a catalog and a ledger",
		Long: `diff tells what differs between A and B. Each is a ledger, or a catalog: the
name of an embedded one, NAME@REVISION, or a file.

  two ledgers   judged over the same catalogs: gaps that are new, changed, still
                there, fixed, and what was seen in one trial alone
  two catalogs  - dropped, + added, moved to another port or scope, wildcards
                narrowed or widened; with --ledger, what the trials used of it
  one of each   - required and not observed, + observed and not required,
                ! required and blocked, ? seen in a way that proves nothing

Exit status: 0 the same, 1 different, 2 trouble (or no difference where a trial
cannot tell).`,
		Example: `  egressaudit diff monday.jsonl friday.jsonl
  egressaudit diff aml-extension aml-kubernetes --ledger monday.jsonl
  egressaudit diff azure-arc monday.jsonl`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 1 {
				return hinted(fmt.Errorf("diff wants two ledgers or catalogs, and %q is one", args[0]), "write %s", c.UseLine())
			}
			return wants(2, "two ledgers or catalogs")(c, args)
		},
		ValidArgsFunction: catalogNames,
		RunE:              func(_ *cobra.Command, args []string) error { return o.run(env, args[0], args[1]) },
	}
	o.required.register(c, "those of the recordings")
	o.registerScope(c, "those of the recordings")
	group(c, "The difference", func(f *pflag.FlagSet) {
		f.StringArrayVar(&o.trials, "ledger", nil, "with two catalogs: tell what the trial of this ledger used of the difference; a `FILE`, repeatable (default none)")
		f.StringVar(&o.format, "format", "text", "`FORMAT`: text, markdown or json")
		f.StringVarP(&o.output, "output", "o", "", "`FILE` for the difference, - for stdout (default stdout)")
	})
	c.RegisterFlagCompletionFunc("format", fixed("text", "markdown", "json"))
	return c
}

func (o *diffFlags) run(env environ, a, b string) error {
	if !slices.Contains([]string{"text", "markdown", "json"}, o.format) {
		return fmt.Errorf("--format %q: write text, markdown or json", o.format)
	}
	inputs := append([]string{a, b}, o.trials...)
	if err := o.checkPlace(inputs); err != nil {
		return err
	}
	for _, in := range inputs {
		if err := checkFile(in); err != nil {
			return err
		}
	}
	d, err := o.compare(env, a, b)
	if err != nil {
		return err
	}
	if err := o.deliver(env, env.stdout, "difference", o.renderer(d)); err != nil {
		return err
	}
	switch {
	case !d.Same:
		return exit(exitGap)
	case d.Of != report.Catalogs && len(d.Doubts) > 0:
		return errors.New("no difference was found, but the trials cannot tell: see the doubts")
	}
	return nil
}

// checkPlace refuses a -o that cannot be written, or that is an input.
func (o *diffFlags) checkPlace(inputs []string) error {
	if o.output == "" || o.output == "-" {
		return nil
	}
	for _, in := range inputs {
		if sameFile(in, o.output) {
			return fmt.Errorf("-o %q: is what is compared (name another file)", o.output)
		}
	}
	return o.checkOutput(nil)
}

func (o *diffFlags) renderer(d *report.Diff) func(io.Writer) error {
	return func(w io.Writer) error {
		switch o.format {
		case "json":
			return d.WriteJSON(w)
		case "markdown":
			return d.WriteMarkdown(w)
		}
		t := textOptions(w)
		t.Width = min(t.Width, 80) // 0 where w is no terminal
		return d.WriteText(w, t)
	}
}

// compare finds out what a and b are, and compares them.
func (o *diffFlags) compare(env environ, a, b string) (*report.Diff, error) {
	old, err := catalogOf(a)
	if err != nil {
		return nil, err
	}
	now, err := catalogOf(b)
	if err != nil {
		return nil, err
	}
	if len(o.trials) > 0 && (old == nil || now == nil) {
		return nil, errors.New("--ledger: joins trials to two catalogs, and these are not (write the ledgers as A and B)")
	}
	switch {
	case old != nil && now != nil:
		return o.catalogsDiffer(a, b, old, now)
	case old == nil && now == nil:
		return o.trialsDiffer(env, a, b)
	case old == nil:
		a, b, old = b, a, now
	}
	return o.coverage(env, a, b, old)
}

// catalogOf is the catalog that arg names; nil where it is a ledger.
func catalogOf(arg string) (*catalog.File, error) {
	if name, revision, ok := strings.Cut(arg, "@"); ok && slices.Contains(catalog.Names(), name) {
		f, err := catalog.Load(name)
		if err == nil && f.Revision != revision {
			err = fmt.Errorf("catalog %q: the built-in %s is revision %q (name a file for another)", arg, name, f.Revision)
		}
		return f, err
	}
	if !slices.Contains(catalog.Names(), arg) && isLedger(arg) {
		return nil, nil
	}
	f, err := catalog.Load(arg)
	if errors.Is(err, catalog.ErrUnknown) && strings.Contains(arg, ".") {
		return nil, fmt.Errorf("read %q: no such file or directory", arg)
	}
	if err != nil && errors.Is(notLedger(arg), ledger.ErrNotLedger) {
		err = fmt.Errorf("%q is no ledger, and no catalog: %w", arg, err)
	}
	return f, err
}

// isLedger says whether the file at path is a ledger, damaged or not.
func isLedger(path string) bool { return notLedger(path) == nil }

// notLedger is why the file at path cannot be read as a ledger.
func notLedger(path string) error {
	for _, err := range ledger.Read(path) {
		var damage *ledger.Damage
		if err != nil && !errors.As(err, &damage) {
			return err
		}
		break
	}
	return nil
}

func (o *diffFlags) catalogsDiffer(a, b string, old, now *catalog.File) (*report.Diff, error) {
	if len(o.catalogs)+len(o.scopes) > 0 {
		return nil, errors.New("--catalog and --scope: say what trials are held against, and these are two catalogs (leave them out)")
	}
	values, err := o.values([]*catalog.File{old, now})
	if err != nil {
		return nil, err
	}
	was, err := old.Catalog(values)
	if err != nil {
		return nil, err
	}
	is, err := now.Catalog(values)
	if err != nil {
		return nil, err
	}
	d := report.DiffCatalogs(was, is)
	d.Old.File, d.New.File = a, b
	if len(o.trials) == 0 {
		return d, nil
	}
	tried, err := try(o.trials, report.Timeless(was), report.Timeless(is))
	if err != nil {
		return nil, err
	}
	d.Exercise(tried)
	return d, nil
}

// try judges each ledger by both catalogs, each alone.
func try(ledgers []string, old, now *policy.Catalog) ([]report.Tried, error) {
	was, err := readEach(report.Options{Catalogs: []*policy.Catalog{old}}, apart(ledgers))
	if err != nil {
		return nil, err
	}
	is, err := readEach(report.Options{Catalogs: []*policy.Catalog{now}}, apart(ledgers))
	if err != nil {
		return nil, err
	}
	var out []report.Tried
	for i := range ledgers {
		out = append(out, report.Tried{Old: was[i], New: is[i]})
	}
	return out, nil
}

func (o *diffFlags) trialsDiffer(env environ, a, b string) (*report.Diff, error) {
	reports, err := o.judged(env, a, b)
	if err != nil {
		return nil, err
	}
	return report.DiffTrials(reports[0], reports[1]), nil
}

// coverage holds the ledger b against the catalog a, and --catalog besides.
func (o *diffFlags) coverage(env environ, a, b string, file *catalog.File) (*report.Diff, error) {
	if name, _, ok := strings.Cut(a, "@"); ok && name == file.Name {
		a = name
	}
	o.catalogs = append([]string{a}, o.catalogs...)
	reports, err := o.judged(env, b)
	if err != nil {
		return nil, err
	}
	return report.DiffCoverage(reports[0]), nil
}

// judged are the reports of ledgers over the same catalogs and scopes.
func (o *diffFlags) judged(env environ, ledgers ...string) ([]*report.Report, error) {
	var opt report.Options
	if err := o.complete(env, &opt, ledgers); err != nil {
		return nil, err
	}
	catalogs, err := o.load()
	if err != nil {
		return nil, err
	}
	opt.Catalogs, opt.Scopes = catalogs, o.scopes
	var out []*report.Report
	for _, l := range ledgers {
		opt.Files = []string{l}
		r, err := readAll(opt, opt.Files)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}
