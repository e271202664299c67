package main

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/policy/catalog"
	"github.com/egressaudit/egressaudit/policy/ledger"
	"github.com/egressaudit/egressaudit/policy/report"
)

func newReport(env environ) *cobra.Command {
	var r required
	var o rendering
	var noProxy string
	var window time.Duration
	var narrow bool
	c := &cobra.Command{
		Use:   "report [flags] LEDGER...",
		Short: "Required against observed",
		Long: `report holds what one or more ledgers observed against what catalogs require.
It judges afresh: an old ledger can be held against a new catalog. Where
--catalog, --region, --set or --scope is not given, the recordings' is taken.
Ledgers of several vantages are put beside each other besides, and the report
says which vantage lacks what; what fails at one is a gap, though it works at
another.

Exit status: 0 no gap that --fail-on names, 1 such a gap, 2 trouble, 3 cannot
tell (the ledger is damaged, nothing was observed, records were lost).`,
		Example: `  egressaudit report trial.jsonl
  egressaudit report --catalog aml-kubernetes --format json -o gaps.json t.jsonl
  egressaudit report --format html -o gaps.html trial.jsonl`,
		Args: wants(math.MaxInt, "a ledger"),
		RunE: func(_ *cobra.Command, files []string) error {
			if window < 0 {
				return fmt.Errorf("--bypass-window %s: write a time above zero, such as 30s", window)
			}
			if narrow && (o.format == "csv" || o.format == "junit") {
				return fmt.Errorf("--narrow: --format %s has no room for it (write text, json, markdown or html)", o.format)
			}
			if err := checkNoProxy(split(noProxy)); err != nil {
				return err
			}
			return makeReport(env, &r, &o, narrow, report.Options{NoProxy: split(noProxy), BypassWindow: window, Files: files}, files)
		},
	}
	r.register(c, "those of the recordings")
	r.registerScope(c, "those of the recordings")
	o.register(c, "stdout")
	group(c, "The recording", func(f *pflag.FlagSet) {
		f.StringVar(&noProxy, "no-proxy", "", "names and ranges that clients were told to reach without us: a `LIST` as in NO_PROXY, beside what the ledgers say")
		f.DurationVar(&window, "bypass-window", 0, "`TIME` after a look-up by which a connection must come, or it went around us; 0s takes that of the recordings")
	})
	group(c, "The report", func(f *pflag.FlagSet) {
		f.BoolVar(&narrow, "narrow", false, "also the hosts that each wildcard stood for, a ledger being a trial: which exact list would have served, and where it would not last")
	})
	return c
}

// makeReport is the verb: read the ledgers, judge, write.
func makeReport(env environ, r *required, o *rendering, narrow bool, opt report.Options, files []string) error {
	on, err := o.check(files...)
	if err != nil {
		return err
	}
	if err := checkLedgers(files); err != nil {
		return err
	}
	if err := r.complete(env, &opt, files); err != nil {
		return err
	}
	catalogs, err := r.load()
	if err != nil {
		return err
	}
	opt.Catalogs, opt.Scopes, opt.Version = catalogs, r.scopes, version()
	rep, err := readAll(opt, files)
	if err != nil {
		return err
	}
	if narrow {
		trials, err := readEach(opt, apart(files))
		if err != nil {
			return err
		}
		rep.Narrowing = report.Narrow(trials)
	}
	if err := o.write(env, env.stdout, rep); err != nil {
		return err
	}
	return exit(rep.ExitStatus(on))
}

// apart is a list of its own for each file.
func apart(files []string) [][]string {
	var out [][]string
	for _, f := range files {
		out = append(out, []string{f})
	}
	return out
}

// readEach makes a report over each list of ledgers.
func readEach(o report.Options, lists [][]string) ([]*report.Report, error) {
	var out []*report.Report
	for _, files := range lists {
		o.Files = files
		r, err := readAll(o, files)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// complete takes what was not given from the sessions of the ledgers. Catalogs
// that a reload added count, and so do those that it took away.
func (r *required) complete(env environ, opt *report.Options, files []string) error {
	var sessions []*policy.Session
	for _, f := range files {
		list, err := sessionsOf(f)
		if err != nil {
			return err
		}
		sessions = append(sessions, list...)
	}
	for _, s := range sessions {
		if opt.BypassWindow == 0 {
			opt.BypassWindow = windowOf(s)
		}
	}
	if len(r.filled()) == 0 {
		r.recorded = true
		r.regions = union(sessions, func(s *policy.Session) []string { return s.Regions })
	}
	r.recalled = recall(sessions, r.set)
	if len(r.catalogs) > 0 {
		return nil
	}
	if len(r.scopes) == 0 {
		r.scopes = union(sessions, func(s *policy.Session) []string { return s.Scopes })
	}
	for _, s := range sessions {
		for _, c := range s.Catalogs {
			if err := r.take(env, c); err != nil {
				return err
			}
		}
	}
	return nil
}

// take adds the catalog of a recording. One that was a file is not in the
// program: without it the report would hide what it required.
func (r *required) take(env environ, c policy.CatalogRef) error {
	if slices.Contains(r.catalogs, c.Name) {
		return nil
	}
	if !slices.Contains(catalog.Names(), c.Name) {
		return hinted(fmt.Errorf("the recording was held against a file, the catalog %q", c.Name), "name all catalogs again: --catalog FILE")
	}
	f, err := catalog.Load(c.Name)
	if err != nil {
		return err
	}
	if c.Digest != "" && c.Digest != f.Digest {
		say(env, "the recording was held against another %s, revision %s; this report takes the built-in one, revision %s (--catalog FILE takes another)",
			report.Escape(c.Name), report.Escape(c.Revision), report.Escape(f.Revision))
	}
	r.catalogs = append(r.catalogs, c.Name)
	return nil
}

// union is what any of the sessions names, in their order; where one names
// nothing, which stands for everything, it is nothing, too.
func union(sessions []*policy.Session, of func(*policy.Session) []string) []string {
	var out []string
	for _, s := range sessions {
		if len(of(s)) == 0 {
			return nil
		}
		for _, word := range of(s) {
			if !slices.Contains(out, word) {
				out = append(out, word)
			}
		}
	}
	return out
}

// recall is what the sessions had put in place of placeholders, but for those
// that are given now.
func recall(sessions []*policy.Session, given []string) []string {
	var out []string
	done := map[string]bool{"region": true}
	for _, s := range given {
		done[placeholderOf(s)] = true
	}
	for _, s := range sessions {
		for _, set := range s.Set {
			if name := placeholderOf(set); !done[name] {
				done[name] = true
				out = append(out, union(sessions, func(s *policy.Session) []string {
					return slices.DeleteFunc(slices.Clone(s.Set), func(o string) bool { return placeholderOf(o) != name })
				})...)
			}
		}
	}
	return out
}

// placeholderOf is the NAME of "NAME=VALUE".
func placeholderOf(set string) string {
	name, _, _ := strings.Cut(set, "=")
	return name
}

// sessionsOf are the different sessions of a ledger: those of its starts, or where
// they are lost, of its stops. A reload begins another, with other catalogs.
func sessionsOf(path string) ([]*policy.Session, error) {
	var starts, stops []*policy.Session
	for rec, err := range ledger.Sessions(path) {
		var damage *ledger.Damage
		switch {
		case errors.As(err, &damage):
		case err != nil:
			return nil, err
		case rec.Session == nil:
		case rec.Kind == policy.KindStart:
			starts = addSession(starts, rec.Session)
		default:
			stops = addSession(stops, rec.Session)
		}
	}
	if len(starts) == 0 {
		return stops, nil
	}
	return starts, nil
}

// addSession adds what complete asks of s, unless it stands there already.
func addSession(list []*policy.Session, s *policy.Session) []*policy.Session {
	c := &policy.Session{
		Catalogs: slices.Clone(s.Catalogs), Scopes: slices.Clone(s.Scopes), Regions: slices.Clone(s.Regions),
		Set: slices.Clone(s.Set), Limits: map[string]any{bypassLimit: s.Limits[bypassLimit]},
	}
	if slices.ContainsFunc(list, func(o *policy.Session) bool { return reflect.DeepEqual(o, c) }) {
		return list
	}
	return append(list, c)
}

// windowOf is the --bypass-window of a session; 0 where it has none.
func windowOf(s *policy.Session) time.Duration {
	switch ms := s.Limits[bypassLimit].(type) {
	case int64:
		return time.Duration(ms) * time.Millisecond
	case float64: // as JSON has it
		return time.Duration(ms) * time.Millisecond
	}
	return 0
}

// judge makes the report of a trial that has just ended, from what is on the
// disk. trouble is what went wrong with recording it.
func judge(o report.Options, trouble error, path string) *report.Report {
	o.Files, o.Version = []string{path}, version()
	e := report.New(o)
	if trouble != nil {
		e.Damage(fmt.Errorf("recording: %w", trouble))
	}
	err := feed(o.Files, to(e), e.Damage)
	if err == nil {
		err = holdApart(e, o, o.Files) // the ledger may have trials of other vantages
	}
	if err != nil {
		e.Damage(err)
	}
	return e.Report()
}
