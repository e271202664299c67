package report

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/egressaudit/egressaudit/policy"
)

// judgement is a report in the making.
type judgement struct {
	opt       Options
	b         *book
	bypass    bypass
	scope     map[string]bool // nil: all
	sites     map[*policy.Endpoint]map[string]*site
	loose     []*destination // connections that no endpoint in force takes
	lonely    []*destination // look-ups that no endpoint in force takes, and no connection explains
	trail     map[string]trail
	connected map[string]bool // hosts
	clock     clock
	sides     []*judgement  // of each vantage alone; none: there is but one
	never     map[key]*site // destinations in no list that never worked
	r         *Report
}

// judge makes the report of b.
func judge(o Options, b *book, sides []*judgement) *judgement {
	j := &judgement{opt: o, b: b, sides: sides, sites: map[*policy.Endpoint]map[string]*site{}, connected: map[string]bool{}, never: map[key]*site{}}
	j.trail = j.trails()
	j.bypass = newBypass(j.noProxy())
	if len(o.Scopes) > 0 {
		j.scope = map[string]bool{}
		for _, s := range o.Scopes {
			j.scope[s] = true
		}
	}
	j.r = &Report{Schema: Schema, ChildStatus: b.child, Files: o.Files, Version: o.Version, Trial: j.trial(), Broken: b.killed+b.pauses > 0, Endpoints: []Endpoint{}}
	if c, ok := b.clock(); ok {
		j.clock, j.r.Timeline = c, c.timeline(b.marks)
	}
	j.place()
	for _, e := range o.Index.Endpoints() {
		j.endpoint(e)
	}
	j.excuse()
	j.unlisted()
	j.findings()
	j.settings()
	j.count()
	j.doubts()
	j.blindSpots()
	j.verdict()
	j.r.Matrix = across(sides)
	return j
}

func (j *judgement) noProxy() []string {
	list := slices.Clone(j.b.noProxy)
	for _, s := range j.opt.NoProxy {
		list = addOnce(list, s)
	}
	return list
}

func (j *judgement) trial() Trial {
	b := j.b
	t := Trial{
		Name: b.name, Vantage: strings.Join(b.vantages, ", "), Started: b.started, Ended: b.ended(),
		Phases: some(b.phases), Scopes: some(j.opt.Scopes), Regions: some(b.regions), Ledgers: some(b.ledgers),
		Catalogs: []policy.CatalogRef{}, Versions: b.versions,
	}
	if len(t.Ledgers) == 0 {
		t.Ledgers = some(j.opt.Files)
	}
	for _, c := range j.opt.Catalogs {
		t.Catalogs = append(t.Catalogs, c.Ref())
		t.Pages = append(t.Pages, Page{c.Title, c.Source})
	}
	return t
}

// place brings destinations to the endpoints that hold at the time of the
// trial. Connections come first, for they explain look-ups.
func (j *judgement) place() {
	var looked []*destination
	for _, d := range slices.SortedFunc(maps.Values(j.b.dests), byHost) {
		if d.lookup {
			looked = append(looked, d)
			continue
		}
		j.connected[d.host] = true
		j.settle(d, true)
	}
	for _, d := range looked {
		j.settle(d, !j.connected[d.host])
	}
	for e, d := range j.b.more {
		if j.inForce(e) {
			j.site(e, d.host).conn = d
		}
	}
}

// settle enters d at its endpoints. A look-up that a connection explains says
// something only where that connection went to the same endpoint.
func (j *judgement) settle(d *destination, alone bool) {
	found := inForce(d.endpoints, j.b.started, j.b.latest)
	stray := d.strayed && j.strayed(d.host)
	if d.strayed && !stray && d.asked == 0 { // another name was meant
		return
	}
	for _, e := range found {
		switch {
		case !d.lookup:
			s := j.site(e, d.host)
			s.conn, s.probe = d, j.b.probes[d.key]
		case alone || j.sites[e][d.host] != nil || j.failsAlone(e, d.host):
			s := j.site(e, d.host)
			s.look, s.trail, s.stray = d, j.trail[d.host], stray
		}
	}
	switch {
	case len(found) > 0:
	case !d.lookup:
		j.loose = append(j.loose, d)
	case (alone || j.failsAlone(nil, d.host)) && !d.retry && !d.indoors:
		j.lonely = append(j.lonely, d)
	}
}

func (j *judgement) site(e *policy.Endpoint, host string) *site {
	in := j.sites[e]
	if in == nil {
		in = map[string]*site{}
		j.sites[e] = in
	}
	if in[host] == nil {
		in[host] = &site{host: host}
	}
	return in[host]
}

func (j *judgement) inForce(e *policy.Endpoint) bool {
	return holds(e.Requirement, j.b.started, j.b.latest)
}

// endpoint judges e and adds it to the report.
func (j *judgement) endpoint(e *policy.Endpoint) {
	if !j.inForce(e) {
		return
	}
	r := e.Requirement
	inScope := j.inScope(r)
	out := Endpoint{
		Catalog: e.Catalog.Name, Requirement: r.ID, Scope: r.Scope, Host: e.Host.String(), Port: e.Port, Protocol: r.Protocol,
		Purpose: r.Purpose, Source: cmp.Or(r.Source, e.Catalog.Source.URL), Hosts: []Host{},
		Required: j.required(r), Optional: r.Optional, Needs: r.Needs,
		Around: j.bypass.touches(e.Host, e.Port),
	}
	sites := j.sorted(e)
	for _, s := range sites {
		s.judge(j.bypass, e)
		j.aside(s, func(side *judgement) *site { return side.sites[e][s.host] })
		out.Hosts = append(out.Hosts, s.row())
	}
	out.Status, out.Beats = status(sites), j.beats(sites...)
	if out.Status == Unused && j.bypass.pattern(e.Host, e.Port) {
		out.Status = Bypassed
	}
	if !inScope && (out.Status == Unused || out.Status == Bypassed) {
		return
	}
	out.Cause = j.cause(e, sites, out.Status)
	j.r.Endpoints = append(j.r.Endpoints, out)
}

func (j *judgement) inScope(r *policy.Requirement) bool { return j.scope == nil || j.scope[r.Scope] }

// required says whether r counts for the verdict.
func (j *judgement) required(r *policy.Requirement) bool { return j.inScope(r) && !r.Optional }

func (j *judgement) sorted(e *policy.Endpoint) []*site {
	return slices.SortedFunc(maps.Values(j.sites[e]), func(a, b *site) int { return cmp.Compare(a.host, b.host) })
}

// status is what hosts come to together.
func status(sites []*site) Status {
	n := map[Status]int{}
	for _, s := range sites {
		n[s.state]++
	}
	switch {
	case n[Partial] > 0, n[Used] > 0 && n[Blocked] > 0:
		return Partial
	case n[Used] > 0:
		return Used
	case n[Blocked] > 0:
		return Blocked
	case n[Reached] > 0:
		return Reached
	case n[Resolved] > 0:
		return Resolved
	case n[Bypassed] > 0:
		return Bypassed
	}
	return Unused
}

// excuse marks unused endpoints of which an alternative was used: another
// requirement of the same catalog and group.
func (j *judgement) excuse() {
	type group struct{ catalog, name string }
	groups := map[policy.Match]group{}
	used := map[group]map[string]bool{} // requirement ids
	for _, e := range j.opt.Index.Endpoints() {
		if e.Requirement.AnyOf != "" {
			groups[e.Match()] = group{e.Catalog.Name, e.Requirement.AnyOf}
		}
	}
	for _, e := range j.r.Endpoints {
		if g, ok := groups[e.match()]; ok && e.Status == Used {
			if used[g] == nil {
				used[g] = map[string]bool{}
			}
			used[g][e.Requirement] = true
		}
	}
	for i := range j.r.Endpoints {
		e := &j.r.Endpoints[i]
		u := used[groups[e.match()]]
		e.Excused = e.Status == Unused && (len(u) > 1 || len(u) == 1 && !u[e.Requirement])
	}
}

func (e Endpoint) match() policy.Match {
	return policy.Match{Catalog: e.Catalog, Requirement: e.Requirement, Endpoint: policy.JoinPort(e.Host, e.Port)}
}

// count sums up the required endpoints.
func (j *judgement) count() {
	r := j.r
	of := map[Status]*int{
		Used: &r.Summary.Used, Blocked: &r.Summary.Blocked, Partial: &r.Summary.Partial, Reached: &r.Summary.Reached,
		Resolved: &r.Summary.Resolved, Unused: &r.Summary.Unused, Bypassed: &r.Summary.Bypassed,
	}
	for _, e := range r.Endpoints {
		if e.Required {
			*of[e.Status]++
			r.Required++
		}
	}
	r.Exercised = r.Summary.Used + r.Summary.Partial + r.Summary.Blocked
	r.Summary.Unlisted = len(r.Unlisted)
}

func (j *judgement) verdict() {
	s := j.r.Summary
	switch {
	case s.Blocked+s.Partial+s.Unlisted > 0:
		j.r.Verdict = Gaps
	case len(j.r.Doubts) > 0:
		j.r.Verdict = CannotTell
	default:
		j.r.Verdict = Clear
	}
}

func byHost(a, b *destination) int {
	return cmp.Or(cmp.Compare(a.host, b.host), cmp.Compare(a.port, b.port), cmp.Compare(bit(a.lookup), bit(b.lookup)))
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}
