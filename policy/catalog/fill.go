package catalog

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/egressaudit/egressaudit/policy"
)

// Values are what placeholders stand for, by their names without brackets.
// Where a placeholder has several values, each makes a host of its own.
type Values map[string][]string

// maxFilled is the number of hosts beyond which the product of many values is
// refused.
const maxFilled = 100_000

// Catalog is the file's catalog with the values filled in; placeholders without
// a value stay open, and values for placeholders that no host holds are
// ignored (see CheckPlaceholder). A value is part of a host name: one label, a
// part of one, or several with dots. The error names the value that is not.
func (f *File) Catalog(v Values) (*policy.Catalog, error) {
	c := &policy.Catalog{
		Name: f.Name, Title: f.Title, Revision: f.Revision, Digest: f.Digest,
		Source: policy.Source{Title: f.Source.Title, URL: f.Source.URL},
	}
	for _, r := range f.rows {
		req := r.Requirement
		req.Hosts = nil
		has := map[string]bool{}
		for _, h := range r.Hosts {
			filled, err := fill(h, v)
			if err != nil {
				return nil, fmt.Errorf("fill catalog %q: %w", f.Name, err)
			}
			for _, p := range filled {
				if !has[p.String()] {
					has[p.String()] = true
					req.Hosts = append(req.Hosts, p)
				}
			}
		}
		req.Needs = slices.Clone(r.Needs)
		c.Requirements = append(c.Requirements, &req)
	}
	return c, nil
}

// fill makes every host that p stands for with the values.
func fill(p policy.Pattern, v Values) ([]policy.Pattern, error) {
	hosts := []policy.Pattern{p}
	for _, name := range p.Placeholders() {
		values := v[name]
		if len(values) == 0 {
			continue
		}
		if len(hosts)*len(values) > maxFilled {
			return nil, fmt.Errorf("host %q: its placeholders make more than %d hosts", p.String(), maxFilled)
		}
		var next []policy.Pattern
		for _, value := range values {
			if err := checkValue(value); err != nil {
				return nil, fmt.Errorf("placeholder <%s>: value %w", name, err)
			}
			for _, h := range hosts {
				q, err := h.Fill(name, value)
				if err != nil {
					return nil, fmt.Errorf("placeholder <%s>: value %q makes a bad host of %q: %w", name, value, p.String(), because(err))
				}
				next = append(next, q)
			}
		}
		hosts = next
	}
	return hosts, nil
}

// checkValue says whether s can stand in a host name. The error begins with the
// quoted value.
func checkValue(s string) error {
	switch {
	case s == "":
		return fmt.Errorf("%q is empty", s)
	case strings.ContainsAny(s, "*<>"):
		return fmt.Errorf("%q: a value is literal, without wildcard and placeholder", s)
	case strings.HasSuffix(s, "."):
		return fmt.Errorf("%q ends with a dot", s)
	}
	// A name of digits alone would be an address; beside letters it is a label.
	if _, err := policy.ParsePattern(s + ".a"); err != nil {
		if _, alone := policy.ParsePattern(s); alone != nil {
			err = alone
		}
		return fmt.Errorf("%q: %w", s, because(err))
	}
	return nil
}

// CheckPlaceholder says whether a host of one of the files holds the
// placeholder name, so that a value for it has an effect. The error has the
// nearest names.
func CheckPlaceholder(name string, files ...*File) error {
	used := map[string]bool{}
	for _, f := range files {
		for _, r := range f.rows {
			for _, h := range r.Hosts {
				for _, p := range h.Placeholders() {
					used[p] = true
				}
			}
		}
	}
	if used[name] {
		return nil
	}
	known := slices.Sorted(maps.Keys(used))
	if len(known) == 0 {
		return fmt.Errorf("placeholder %q: no host of the catalogs has one", name)
	}
	hint := policy.DidYouMean(policy.Nearest(name, known))
	if hint == "" {
		hint = " (they have " + policy.List(known, "and") + ")"
	}
	return fmt.Errorf("placeholder %q: no host of the catalogs has it%s", name, hint)
}
