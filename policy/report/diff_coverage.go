package report

import (
	"cmp"
	"fmt"
	"strings"
)

// DiffCoverage holds what catalogs require against what a trial saw: the report
// as a list of differences, on one line each. What is optional or out of scope
// is told where it failed, and does not count.
func DiffCoverage(r *Report) *Diff {
	trial := trialSide(r)
	d := newDiff(Coverage, Side{Catalogs: some(r.Trial.Catalogs)}, trial)
	for _, e := range r.Endpoints {
		d.cover(e)
	}
	for _, u := range r.Unlisted {
		d.Changes = append(d.Changes, Change{Kind: ChangeExtra, Counts: true, New: []Listed{u.listed()}, Now: []string{u.fate()}, Note: u.Near})
	}
	d.doubt(r, cmp.Or(trial.File, "the trial"))
	return d.finish(coverageSummary(d, r))
}

// cover enters e, where it is not simply used.
func (d *Diff) cover(e Endpoint) {
	c := Change{Counts: e.Required, Old: []Listed{e.listed()}, Now: []string{e.fate().text}}
	switch e.Status {
	case Used:
		return
	case Blocked, Partial:
		c.Kind, c.New = ChangeBlocked, c.Old
	case Unused:
		if !e.Required || e.Excused {
			return
		}
		c.Kind = ChangeMissing
	default:
		c.Kind, c.New = ChangeUnclear, c.Old
	}
	if !c.Counts {
		c.Note = "does not count: optional, or not in scope"
	}
	d.fold(c)
}

func coverageSummary(d *Diff, r *Report) string {
	out := []string{fmt.Sprintf("%d of %s used", r.Summary.Used, counted(r.Required, "required endpoint"))}
	for _, k := range []ChangeKind{ChangeBlocked, ChangeMissing, ChangeUnclear, ChangeExtra} {
		if n := d.Count(k); n > 0 {
			out = append(out, fmt.Sprintf("%d %s", n, map[ChangeKind]string{
				ChangeBlocked: "blocked", ChangeMissing: "not observed", ChangeUnclear: "unclear", ChangeExtra: "observed and not required"}[k]))
		}
	}
	return strings.Join(out, ", ")
}
