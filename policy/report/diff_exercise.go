package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/egressaudit/egressaudit/policy"
)

// Exercise is what trials saw of the endpoints of a change: those of the old
// catalog, or where they are added, of the new one.
type Exercise struct {
	Trials  int `json:"trials"`
	Used    int `json:"used"`    // trials in which one worked, in part at least
	Blocked int `json:"blocked"` // trials in which one was tried and none worked
	Unclear int `json:"unclear"` // trials in which one was seen in a way that proves nothing
	// Stranded are the hosts that trials went to and that the new catalog no
	// longer lists, as "host:port", sorted.
	Stranded []string `json:"stranded"`
}

// Tried is one trial, judged by the old catalog alone and by the new one alone.
type Tried struct {
	Old, New *Report
}

// Timeless is c without the dates from and until which its rows hold: a trial
// says something of a row that was not in force, too.
func Timeless(c *policy.Catalog) *policy.Catalog {
	out := *c
	out.Requirements = nil
	for _, r := range c.Requirements {
		q := *r
		q.From, q.Until = policy.Requirement{}.From, policy.Requirement{}.Until
		out.Requirements = append(out.Requirements, &q)
	}
	return &out
}

// exercised are the kinds of changes that make a difference to an install.
var exercised = []ChangeKind{ChangeRemoved, ChangeAdded, ChangePort, ChangeNarrowed, ChangeWidened}

// Exercise joins a diff of catalogs with what trials used. The reports are of
// Timeless catalogs.
func (d *Diff) Exercise(trials []Tried) {
	var seen []sighting
	for _, t := range trials {
		seen = append(seen, t.sighting())
	}
	for i := range d.Changes {
		c := &d.Changes[i]
		if !slices.Contains(exercised, c.Kind) {
			continue
		}
		c.Exercise = &Exercise{Trials: len(trials), Stranded: []string{}}
		for _, t := range seen {
			c.Exercise.add(c, t)
		}
		slices.Sort(c.Exercise.Stranded)
	}
	for _, t := range trials {
		side := trialSide(t.Old)
		d.Trials = append(d.Trials, side)
		d.doubt(t.Old, cmp.Or(side.File, "a trial"))
		d.doubt(t.New, cmp.Or(side.File, "a trial"))
	}
	d.Summary = catalogSummary(d)
}

// sighting is a trial by what it saw: endpoints of the old and the new catalog,
// and the hosts that the new one lists, all as "host:port".
type sighting struct {
	old, now map[string][]Endpoint
	listed   map[string]bool
}

func (t Tried) sighting() sighting {
	s := sighting{old: map[string][]Endpoint{}, now: map[string][]Endpoint{}, listed: map[string]bool{}}
	for _, e := range t.Old.Endpoints {
		s.old[e.at()] = append(s.old[e.at()], e)
	}
	for _, e := range t.New.Endpoints {
		s.now[e.at()] = append(s.now[e.at()], e)
		for _, h := range e.Hosts {
			s.listed[policy.JoinPort(h.Host, e.Port)] = true
		}
	}
	return s
}

func (e Endpoint) at() string { return policy.JoinPort(e.Host, e.Port) }

// add counts one trial.
func (x *Exercise) add(c *Change, t sighting) {
	list, in := c.Old, t.old
	if len(list) == 0 {
		list, in = c.New, t.now
	}
	seen := map[Status]bool{}
	for _, l := range list {
		for _, e := range in[l.at()] {
			seen[e.Status] = true
			if len(c.Old) > 0 {
				x.strand(e, t.listed)
			}
		}
	}
	switch {
	case seen[Used] || seen[Partial]:
		x.Used++
	case seen[Blocked]:
		x.Blocked++
	case seen[Reached] || seen[Resolved] || seen[Bypassed]:
		x.Unclear++
	}
}

// strand adds the hosts of e that are no longer listed.
func (x *Exercise) strand(e Endpoint, listed map[string]bool) {
	for _, h := range e.Hosts {
		if at := policy.JoinPort(h.Host, e.Port); !listed[at] {
			x.Stranded = addOnce(x.Stranded, at)
		}
	}
}

// sentence says what the trials saw of the old endpoints, or of new ones.
func (x *Exercise) sentence(old []Listed) string {
	if x.Used+x.Blocked+x.Unclear == 0 {
		return "not exercised in " + counted(x.Trials, "trial")
	}
	var out []string
	for _, w := range []struct {
		n    int
		word string
	}{{x.Used, "used"}, {x.Blocked, "tried and blocked"}, {x.Unclear, "seen, which proves nothing,"}} {
		if w.n > 0 {
			out = append(out, fmt.Sprintf("%s in %d of %s", w.word, w.n, counted(x.Trials, "trial")))
		}
	}
	hosts := slices.DeleteFunc(slices.Clone(x.Stranded), func(at string) bool { // what the line begins with
		return len(old) == 1 && old[0].at() == at
	})
	if len(hosts) > 0 {
		out = append(out, "no longer listed: "+listing(hosts, 4))
	}
	return strings.Join(out, "; ")
}

// catalogSummary is a diff of catalogs in one sentence.
func catalogSummary(d *Diff) string {
	var out []string
	for _, g := range diffGroups {
		n := d.Count(g.kind)
		if n == 0 || g.many == "" {
			continue
		}
		says := fmt.Sprintf(plural(uint64(n), g.one, g.many), n)
		if len(out) > 0 && g.kind == ChangeAdded { // hosts were spoken of already
			says = fmt.Sprintf("adds %d", n)
		}
		out = append(out, says+d.exercised(g.kind))
	}
	if len(out) == 0 {
		return "no difference in what is required"
	}
	return joined("; ", strings.Join(out, "; "), d.stranded())
}

// stranded says how many hosts that trials went to the new catalog lacks.
func (d *Diff) stranded() string {
	var hosts []string
	for _, c := range d.Changes {
		if c.Exercise != nil {
			hosts = append(hosts, c.Exercise.Stranded...)
		}
	}
	slices.Sort(hosts)
	if hosts = slices.Compact(hosts); len(hosts) == 0 {
		return ""
	}
	return fmt.Sprintf("%s that trials went to %s no longer listed", counted(len(hosts), "host"), plural(uint64(len(hosts)), "is", "are"))
}

// exercised adds to the number of endpoints dropped or added how many of them
// trials used.
func (d *Diff) exercised(k ChangeKind) string {
	used, tried := 0, 0
	for _, c := range d.Changes {
		if c.Kind == k && c.Exercise != nil {
			used, tried = used+bit(c.Exercise.Used > 0), tried+bit(c.Exercise.Used+c.Exercise.Blocked+c.Exercise.Unclear > 0)
		}
	}
	in := counted(len(d.Trials), "trial")
	switch {
	case len(d.Trials) == 0 || k != ChangeRemoved && k != ChangeAdded:
		return ""
	case k == ChangeAdded && tried == 0:
		return ", not exercised"
	case tried > used:
		return fmt.Sprintf("; %d of them %s used in %s, and %d seen otherwise", used, plural(uint64(used), "was", "were"), in, tried-used)
	}
	return fmt.Sprintf("; %d of them %s used in %s", used, plural(uint64(used), "was", "were"), in)
}
