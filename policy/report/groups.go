package report

import (
	"strconv"
	"time"

	"github.com/egressaudit/egressaudit/policy"
)

// meaning says in a few words what a status stands for.
var meaning = map[Status]string{
	Blocked:  "attempted, and nothing worked",
	Partial:  "worked in part",
	Reached:  "connections were accepted and never answered: proves nothing",
	Resolved: "looked up, and no connection came through us",
	Used:     "the last attempt at every host worked",
	Bypassed: "NO_PROXY leads around us: not judged here",
	Unused:   "not seen in this trial, which does not mean not needed",
}

// statuses in the order of urgency.
var statuses = []Status{Blocked, Partial, Reached, Resolved, Used, Bypassed, Unused}

// group is a catalog with its requirements, in the order of the publisher's page.
type group struct {
	policy.CatalogRef
	Page         Page
	Requirements []*requirementView
}

type requirementView struct {
	ID, Scope, Purpose, Source string
	Needs                      []policy.Need
	Half                       string // which hosts work and which do not
	Endpoints                  []endpointView
}

type endpointView struct {
	Endpoint
	Anchor string
}

// anchor names the i-th endpoint (e) or unlisted destination (u) on a page.
func anchor(kind string, i int) string { return kind + strconv.Itoa(i+1) }

// groups are the endpoints as they stand on the publishers' pages.
func (r *Report) groups() []*group {
	var out []*group
	halves := r.halves()
	for i, e := range r.Endpoints {
		g := groupOf(&out, r.Trial, e.Catalog)
		n := len(g.Requirements)
		if n == 0 || g.Requirements[n-1].ID != e.Requirement {
			g.Requirements = append(g.Requirements, &requirementView{ID: e.Requirement, Scope: e.Scope, Purpose: e.Purpose,
				Source: e.Source, Needs: e.Needs, Half: halves[requirement{e.Catalog, e.Requirement}]})
			n++
		}
		q := g.Requirements[n-1]
		q.Endpoints = append(q.Endpoints, endpointView{e, anchor("e", i)})
	}
	return out
}

// groupOf is the last group where it is that of the catalog, else a new one.
func groupOf(groups *[]*group, t Trial, catalog string) *group {
	if n := len(*groups); n > 0 && (*groups)[n-1].Name == catalog {
		return (*groups)[n-1]
	}
	g := &group{CatalogRef: policy.CatalogRef{Name: catalog}}
	for i, c := range t.Catalogs {
		if c.Name == catalog {
			g.CatalogRef, g.Page = c, t.Pages[i]
		}
	}
	*groups = append(*groups, g)
	return g
}

// remark says why an endpoint does not count; "" where it does.
func (e Endpoint) remark() string {
	switch {
	case e.Required && e.Excused:
		return "an alternative was used"
	case e.Required:
		return ""
	case e.Optional:
		return "optional: does not count"
	}
	return "not in scope: does not count"
}

// span is from when to when hosts of the endpoint were seen.
func (e Endpoint) span() (first, last time.Time) {
	for _, h := range e.Hosts {
		if !h.First.IsZero() {
			widen(&first, &last, h.First, h.Last)
		}
	}
	return first, last
}

// totals are the attempts of all hosts.
func (e Endpoint) totals() (attempts, ok int, bytes int64) {
	for _, h := range e.Hosts {
		attempts, ok, bytes = attempts+h.Attempts, ok+h.OK, sum(bytes, sum(h.BytesUp, h.BytesDown))
	}
	return attempts, ok, bytes
}
