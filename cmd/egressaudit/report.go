package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/policy/catalog"
	"github.com/egressaudit/egressaudit/policy/ledger"
	"github.com/egressaudit/egressaudit/policy/report"
)

func newReport(env environ) *cobra.Command {
	var r required
	var o rendering
	var noProxy string
	c := &cobra.Command{
		Use:   "report LEDGER...",
		Short: "Required against observed",
		Long: `report holds what one or more ledgers observed against what catalogs require.
It judges afresh: an old ledger can be held against a new catalog. Where --catalog,
--region or --scope is not given, those of the recording are taken.

Exit status: 0 no gap that --fail-on names, 1 such a gap, 2 trouble, 3 cannot
tell (the ledger is damaged, nothing was observed, records were lost).`,
		Example: `  egressaudit report trial.jsonl
  egressaudit report --catalog aml-kubernetes --format json -o gaps.json trial.jsonl`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, files []string) error {
			on, err := o.check()
			if err != nil {
				return err
			}
			if err := r.complete(env, files[0]); err != nil {
				return err
			}
			catalogs, err := r.load()
			if err != nil {
				return err
			}
			opts := report.Options{Catalogs: catalogs, Scopes: r.scopes, NoProxy: split(noProxy), Files: files}
			rep, err := readAll(opts, files)
			if err != nil {
				return err
			}
			if err := o.write(env, env.stdout, rep); err != nil {
				return err
			}
			return exit(rep.ExitStatus(on))
		},
	}
	c.Args = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return hinted(errors.New("report wants a ledger"), "write egressaudit report LEDGER...")
		}
		return nil
	}
	r.register(c)
	o.register(c)
	c.Flags().StringVar(&noProxy, "no-proxy", "", "names and ranges that clients were told to reach without us (default what the ledger says)")
	return c
}

// complete takes what was not given from the first session of a ledger: then the
// report is the one that the recording ended with. Catalogs that were files are
// not in there.
func (r *required) complete(env environ, path string) error {
	s, err := firstSession(path)
	if err != nil || s == nil {
		return err
	}
	if len(r.regions) == 0 && len(r.set) == 0 {
		r.regions = s.Regions
		r.regions = slices.DeleteFunc(slices.Clone(s.Regions), func(n string) bool { return catalog.CheckRegion(n) != nil })
	}
	if len(r.catalogs) > 0 {
		return nil
	}
	var names, files []string
	for _, c := range s.Catalogs {
		if slices.Contains(catalog.Names(), c.Name) {
			names = append(names, c.Name)
		} else {
			files = append(files, c.Name)
		}
	}
	if len(files) > 0 {
		say(env, "the recording was held against %s too; name the file with --catalog to do that again", clean(strings.Join(files, ", ")))
	}
	if r.catalogs = names; len(r.scopes) == 0 {
		r.scopes = s.Scopes
	}
	return nil
}

// firstSession is the first start record of a ledger, nil where it has none.
func firstSession(path string) (*policy.Session, error) {
	for rec, err := range ledger.Read(path) {
		var damage *ledger.Damage
		switch {
		case errors.As(err, &damage):
			continue
		case err != nil:
			return nil, err
		case rec.Kind == policy.KindStart:
			return rec.Session, nil
		}
		return nil, nil
	}
	return nil, nil
}

// readAll feeds whole ledgers to one engine. Damage makes the report doubt; a
// file that is no ledger is an error.
func readAll(o report.Options, files []string) (*report.Report, error) {
	e := report.New(o)
	for _, f := range files {
		for rec, err := range ledger.Read(f) {
			var damage *ledger.Damage
			switch {
			case errors.As(err, &damage):
				e.Damage(err)
			case err != nil:
				return nil, err
			default:
				e.Add(rec)
			}
		}
	}
	return e.Report(), nil
}

// judge makes the report of a trial that has just ended, from what is on the
// disk. trouble is what went wrong with recording it.
func judge(catalogs []*policy.Catalog, scopes []string, trouble error, path string) *report.Report {
	o := report.Options{Catalogs: catalogs, Scopes: scopes, Files: []string{path}}
	e := report.New(o)
	if trouble != nil {
		e.Damage(fmt.Errorf("recording: %w", trouble))
	}
	for rec, err := range ledger.Read(path) {
		if err != nil {
			e.Damage(err)
		} else {
			e.Add(rec)
		}
	}
	return e.Report()
}
