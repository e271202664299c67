package main

import (
	"fmt"
	"io"
	"math"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/policy/catalog"
	"github.com/egressaudit/egressaudit/policy/report"
)

func newCatalog(env environ) *cobra.Command {
	c := &cobra.Command{
		Use: "catalog list|show|lint", Short: "The requirement catalogs",
		Long: `catalog shows what the catalogs require that are embedded in the program, or
that you wrote: a catalog is a YAML file.`,
		Args: cobra.ArbitraryArgs, RunE: wrongVerb,
	}
	c.AddCommand(
		&cobra.Command{
			Use: "list", Short: "The embedded catalogs, with their revisions", Args: noArgs,
			RunE: func(*cobra.Command, []string) error { return whole(env.stdout, listCatalogs) },
		},
		&cobra.Command{
			Use: "show NAME|FILE", Short: "The endpoints of a catalog, and where each was taken from", Args: wants(1, "a catalog's name or file"),
			ValidArgsFunction: catalogNames,
			RunE: func(_ *cobra.Command, args []string) error {
				return whole(env.stdout, func(w io.Writer) error { return showCatalog(w, args[0]) })
			},
		},
		&cobra.Command{
			Use: "lint NAME|FILE...", Short: "What is suspicious in a catalog",
			Long: `lint tells what is suspicious in a catalog, a line each: a placeholder that is
defined and never used or used and not defined, a wildcard on a public suffix, a
missing apex beside a wildcard, a duplicate, an expired row, a host whose
companion only another catalog carries.

Exit status: 0 nothing but notes, 1 a warning or an error, 2 the file cannot be
read.`,
			Args: wants(math.MaxInt, "a catalog's name or file"), ValidArgsFunction: catalogNames,
			RunE: func(_ *cobra.Command, args []string) error {
				return whole(env.stdout, func(w io.Writer) error { return lintCatalogs(w, args) })
			},
		},
	)
	return c
}

func listCatalogs(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tREVISION\tENDPOINTS\tTITLE")
	for _, n := range catalog.Names() {
		f, err := catalog.Load(n)
		if err != nil {
			return err
		}
		c, err := f.Catalog(nil)
		if err != nil {
			return err
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\n", f.Name, f.Revision, len(policy.NewIndex(c).Endpoints()), f.Title)
	}
	return t.Flush()
}

func showCatalog(w io.Writer, name string) error {
	f, err := catalog.Load(name)
	if err != nil {
		return err
	}
	c, err := f.Catalog(nil)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%s: %s\nrevision %s, %s\nsource %s\n", report.Escape(c.Name), report.Escape(c.Title), report.Escape(c.Revision), c.Digest, report.Escape(c.Source.URL))
	for _, p := range f.Placeholders {
		fmt.Fprintf(w, "placeholder <%s>: %s (for instance %s)\n", p.Name, report.Escape(p.Description), report.Escape(p.Example))
	}
	for _, r := range c.Requirements {
		fmt.Fprintf(w, "\n%s  scope %s%s: %s\n", report.Escape(r.ID), report.Escape(r.Scope), optional(r), report.Escape(r.Purpose))
		for _, h := range r.Hosts {
			fmt.Fprintf(w, "  %s  %s\n", policy.JoinPort(h.String(), r.Port), r.Protocol)
		}
		src := f.SourceOf(r.ID)
		fmt.Fprintf(w, "  from %s, revision %s\n", report.Escape(src.URL), report.Escape(src.Revision))
	}
	return nil
}

// optional says what makes a requirement less than required.
func optional(r *policy.Requirement) string {
	s := ""
	if r.Optional {
		s += ", optional"
	}
	if r.AnyOf != "" {
		s += ", any of " + report.Escape(r.AnyOf)
	}
	if !r.From.IsZero() {
		s += ", from " + r.From.Format(time.DateOnly)
	}
	if !r.Until.IsZero() {
		s += ", until " + r.Until.Format(time.DateOnly)
	}
	return s
}

func lintCatalogs(w io.Writer, names []string) error {
	var others []*catalog.File
	for _, n := range catalog.Names() {
		f, err := catalog.Load(n)
		if err != nil {
			return err
		}
		others = append(others, f)
	}
	bad := false
	for _, n := range names {
		f, err := catalog.Load(n)
		if err != nil {
			return err
		}
		for _, p := range catalog.Lint(f, others, time.Now()) {
			fmt.Fprintln(w, report.Escape(p.String()))
			bad = bad || p.Severity != catalog.Note
		}
	}
	if bad {
		return exit(exitGap)
	}
	return nil
}
