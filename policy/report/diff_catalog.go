package report

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/egressaudit/egressaudit/policy"
)

// DiffCatalogs compares two catalogs, mostly revisions of one page. The unit is
// the endpoint: a host pattern and port, however many rows have it. Names and
// digests of the revisions are no difference; comments of the files and
// descriptions of placeholders are not compared.
func DiffCatalogs(old, now *policy.Catalog) *Diff {
	d := newDiff(Catalogs, catalogSide(old), catalogSide(now))
	a, b := entries(old), entries(now)
	m := match(absent(a, b), absent(b, a))
	before, after := shelve(a.list), shelve(b.list)
	for _, p := range m.pairs {
		d.pair(p)
	}
	for _, e := range m.gone {
		d.add(ChangeRemoved, []*entry{e}, nil, nil, nil, e.covered(after, "still covered by"))
	}
	for _, e := range m.come {
		d.add(ChangeAdded, nil, []*entry{e}, nil, nil, e.covered(before, "was covered by"))
	}
	for _, e := range a.list {
		if n := b.at[e.at]; n != nil {
			d.compare(e, n)
		}
	}
	d.dressing(old, now, a, b)
	return d.finish(catalogSummary(d))
}

// entry is one endpoint of a catalog, with all rows that have it.
type entry struct {
	at    string // "host:port"
	host  policy.Pattern
	port  uint16
	place int // in the catalog
	rows  []*policy.Requirement
}

// entryList is the endpoints of a catalog, in their order.
type entryList struct {
	catalog *policy.Catalog
	list    []*entry
	at      map[string]*entry
}

func entries(c *policy.Catalog) entryList {
	out := entryList{catalog: c, at: map[string]*entry{}}
	for _, r := range c.Requirements {
		for _, h := range r.Hosts {
			at := policy.JoinPort(h.String(), r.Port)
			if out.at[at] == nil {
				out.at[at] = &entry{at: at, host: h, port: r.Port, place: len(out.list)}
				out.list = append(out.list, out.at[at])
			}
			out.at[at].rows = append(out.at[at].rows, r)
		}
	}
	return out
}

// absent are the entries of a that b has not.
func absent(a, b entryList) []*entry {
	var out []*entry
	for _, e := range a.list {
		if b.at[e.at] == nil {
			out = append(out, e)
		}
	}
	return out
}

// covered names an endpoint of a catalog that takes all that e takes.
func (e *entry) covered(in shelf, how string) string {
	o := in.over(e, anyEntry, alike)
	if o == nil {
		return ""
	}
	return how + " " + o.at
}

// words are what the rows say, by of, sorted and each once.
func (e *entry) words(of func(*policy.Requirement) []string) []string {
	var out []string
	for _, r := range e.rows {
		for _, w := range of(r) {
			out = addWord(out, w)
		}
	}
	slices.Sort(out)
	return out
}

func scopeOf(r *policy.Requirement) []string { return []string{r.Scope} }
func idOf(r *policy.Requirement) []string    { return []string{r.ID} }

// listed is e for the reader.
func (e *entry) listed(c policy.CatalogRef) Listed {
	return Listed{Host: e.host.String(), Port: e.port, Catalogs: []string{c.Name}, Requirements: e.words(idOf), Scopes: e.words(scopeOf)}
}

// add enters a change.
func (d *Diff) add(k ChangeKind, old, now []*entry, was, is []string, note string) {
	c := Change{Kind: k, Counts: true, Was: was, Now: is, Note: note}
	for _, e := range old {
		c.Old = append(c.Old, e.listed(d.Old.Catalogs[0]))
	}
	for _, e := range now {
		c.New = append(c.New, e.listed(d.New.Catalogs[0]))
	}
	d.Changes = append(d.Changes, c)
}

// pair enters endpoints that took the place of others, and what else became
// different with that.
func (d *Diff) pair(p pairing) {
	var was, is []string
	if p.kind == ChangePort {
		was, is = []string{fmt.Sprint(p.old[0].port)}, []string{fmt.Sprint(p.now[0].port)}
	}
	d.add(p.kind, p.old, p.now, was, is, "")
	d.substance(asOne(p.old), asOne(p.now), p.old, p.now)
}

func asOne(list []*entry) *entry {
	e := &entry{}
	for _, o := range list {
		e.rows = append(e.rows, o.rows...)
	}
	return e
}

// compare enters what became different of one endpoint.
func (d *Diff) compare(a, b *entry) {
	d.substance(a, b, []*entry{a}, []*entry{b})
	was, is := differing(a.looks(), b.looks())
	if len(a.rows) != len(b.rows) && slices.Equal(a.words(scopeOf), b.words(scopeOf)) {
		was, is = append(was, counted(len(a.rows), "row")), append(is, counted(len(b.rows), "row"))
	}
	if len(was)+len(is) > 0 {
		d.add(ChangeCosmetic, []*entry{a}, []*entry{b}, was, is, "")
	}
}

// substance enters changes of scope and terms.
func (d *Diff) substance(a, b *entry, old, now []*entry) {
	if was, is := a.words(scopeOf), b.words(scopeOf); !slices.Equal(was, is) {
		d.add(ChangeScope, old, now, was, is, "")
	}
	if was, is := differing(a.terms(b), b.terms(a)); len(was)+len(is) > 0 {
		d.add(ChangeTerms, old, now, was, is, "")
	}
}

// terms are on what conditions the rows hold. Where both sides have scopes in
// common, each term belongs to one of these; else all are compared together.
func (e *entry) terms(other *entry) []string {
	scopes := other.words(scopeOf)
	common := slices.ContainsFunc(e.words(scopeOf), func(s string) bool { return slices.Contains(scopes, s) })
	return e.words(func(r *policy.Requirement) []string {
		switch t := terms(r); {
		case !common:
			return []string{t}
		case slices.Contains(scopes, r.Scope):
			return []string{r.Scope + ": " + t}
		}
		return nil
	})
}

// terms is on what conditions r holds.
func terms(r *policy.Requirement) string {
	out := []string{string(r.Protocol)}
	for _, n := range slices.Sorted(slices.Values(r.Needs)) {
		out = append(out, "needs "+string(n))
	}
	if r.Optional {
		out = append(out, "optional")
	}
	if r.AnyOf != "" {
		out = append(out, "any of "+r.AnyOf)
	}
	if !r.From.IsZero() {
		out = append(out, "from "+r.From.Format(time.DateOnly))
	}
	if !r.Until.IsZero() {
		out = append(out, "until "+r.Until.Format(time.DateOnly))
	}
	return strings.Join(out, ", ")
}

// looks are the words of the rows that change nothing to allow.
func (e *entry) looks() []string {
	return e.words(func(r *policy.Requirement) []string {
		out := []string{"row " + r.ID, "purpose " + quote(r.Purpose)}
		if r.Source != "" {
			out = append(out, "source "+r.Source)
		}
		return out
	})
}

// differing are the words that only a has, and those that only b has.
func differing(a, b []string) (was, is []string) { return without(a, b), without(b, a) }

// dressing enters what is different of the catalogs as a whole.
func (d *Diff) dressing(old, now *policy.Catalog, a, b entryList) {
	about := func(c *policy.Catalog) []string {
		return []string{"title " + quote(c.Title), "page " + quote(c.Source.Title), "source " + c.Source.URL}
	}
	if was, is := differing(about(old), about(now)); len(was) > 0 {
		d.add(ChangeCosmetic, nil, nil, was, is, "of the catalog as a whole")
	}
	if !slices.Equal(common(a, b), common(b, a)) {
		d.add(ChangeCosmetic, nil, nil, nil, nil, "the rows stand in another order")
	}
}

// common are the endpoints of a that b has, too.
func common(a, b entryList) []string {
	var out []string
	for _, e := range a.list {
		if b.at[e.at] != nil {
			out = append(out, e.at)
		}
	}
	return out
}
