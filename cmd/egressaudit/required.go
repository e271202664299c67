package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/policy/catalog"
)

// required are the flags that say what is required.
type required struct {
	catalogs []string
	scopes   []string
	regions  []string
	set      []string
	// recorded says that the regions stand in a ledger: they were asked for when
	// it was made, whether a list knows them or not.
	recorded bool
	// recalled are "NAME=VALUE" of a ledger, likewise. Where the catalogs of now
	// have no such placeholder they say nothing.
	recalled []string
}

// defaultCatalogs are what is required where nothing is said.
var defaultCatalogs = []string{"azure-arc", "aml-extension"}

// register adds the flags; from is where the defaults come from, where that is
// not here.
func (r *required) register(c *cobra.Command, from string) {
	or := func(d string) string { return cmp.Or(from, d) }
	group(c, "What is required", func(f *pflag.FlagSet) {
		f.StringArrayVar(&r.catalogs, "catalog", nil, "a catalog: a `NAME` of 'egressaudit catalog list' or a file; repeatable (default "+or(strings.Join(defaultCatalogs, " and "))+")")
		f.StringArrayVar(&r.regions, "region", nil, "fills <region> with a `NAME` such as eastus; repeatable (default "+or("open: any, and the report says which were seen")+")")
		f.StringArrayVar(&r.set, "set", nil, "fills another placeholder: `NAME=VALUE`; repeatable (default open); --set region=NAME takes a region that no list knows")
	})
	c.RegisterFlagCompletionFunc("catalog", catalogNames)
	c.RegisterFlagCompletionFunc("region", fixed(regionNames()...))
	c.RegisterFlagCompletionFunc("set", cobra.NoFileCompletions)
}

// registerScope adds --scope, for the verbs that judge.
func (r *required) registerScope(c *cobra.Command, all string) {
	group(c, "What is required", func(f *pflag.FlagSet) {
		f.StringSliceVar(&r.scopes, "scope", nil, "only these `SCOPES` count as required, such as agent,connect (default "+all+")")
	})
	c.RegisterFlagCompletionFunc("scope", cobra.NoFileCompletions)
}

// catalogNames completes a catalog: the embedded ones, or else a file.
func catalogNames(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return catalog.Names(), cobra.ShellCompDirectiveDefault
}

func regionNames() []string {
	var out []string
	for _, r := range catalog.Regions() {
		out = append(out, r.Name)
	}
	return out
}

func fixed(words ...string) cobra.CompletionFunc {
	return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return words, cobra.ShellCompDirectiveNoFileComp
	}
}

// load reads and fills the catalogs.
func (r *required) load() ([]*policy.Catalog, error) {
	files, err := r.files()
	if err != nil {
		return nil, err
	}
	values, err := r.values(files)
	if err != nil {
		return nil, err
	}
	var out []*policy.Catalog
	for _, f := range files {
		c, err := f.Catalog(values)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, r.checkScopes(out)
}

func (r *required) files() ([]*catalog.File, error) {
	names := r.catalogs
	if len(names) == 0 {
		names = defaultCatalogs
	}
	var files []*catalog.File
	for _, n := range names {
		f, err := catalog.Load(n)
		if err != nil {
			return nil, oneEach(err, "catalog", n)
		}
		if i := slices.IndexFunc(files, func(o *catalog.File) bool { return o.Name == f.Name }); i >= 0 {
			return nil, fmt.Errorf("--catalog %q: a catalog named %q was given already, by %q (name each once)", n, f.Name, names[i])
		}
		files = append(files, f)
	}
	return files, nil
}

func (r *required) values(files []*catalog.File) (catalog.Values, error) {
	v := catalog.Values{}
	for _, region := range r.regions {
		if err := catalog.CheckRegion(region); err != nil && !r.recorded {
			return nil, oneEach(fmt.Errorf("--region: %w", err), "region", region)
		}
		v["region"] = append(v["region"], region)
	}
	for _, s := range r.set {
		name, value, _ := strings.Cut(s, "=")
		if name == "" || value == "" {
			return nil, fmt.Errorf("--set %q: write NAME=VALUE, such as region=eastus", s)
		}
		if err := catalog.CheckPlaceholder(name, files...); err != nil {
			return nil, fmt.Errorf("--set %q: %w", s, err)
		}
		v[name] = append(v[name], value)
	}
	for _, s := range r.recalled {
		name, value, _ := strings.Cut(s, "=")
		v[name] = append(v[name], value)
	}
	return v, nil
}

// filled are the regions in force, by --region and by --set.
func (r *required) filled() []string {
	out := slices.Clone(r.regions)
	for _, s := range r.set {
		if region, ok := strings.CutPrefix(s, "region="); ok {
			out = append(out, region)
		}
	}
	return out
}

// others are the other placeholders that --set fills, as it is written.
func (r *required) others() []string {
	return slices.DeleteFunc(slices.Clone(r.set), func(s string) bool { return strings.HasPrefix(s, "region=") })
}

func (r *required) checkScopes(catalogs []*policy.Catalog) error {
	var known []string
	for _, c := range catalogs {
		for _, q := range c.Requirements {
			if !slices.Contains(known, q.Scope) {
				known = append(known, q.Scope)
			}
		}
	}
	slices.Sort(known)
	for _, s := range r.scopes {
		if !slices.Contains(known, s) {
			return fmt.Errorf("--scope %q: no catalog in use has this scope (they have %s)", s, strings.Join(known, ", "))
		}
	}
	return nil
}
