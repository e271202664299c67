package report

import (
	"fmt"
	"slices"
	"time"

	"github.com/egressaudit/egressaudit/policy"
)

// DiffSchema is the value of Diff.Schema.
const DiffSchema = "egressaudit/diff/1"

// Comparison is what a Diff holds against what.
type Comparison string

// The comparisons.
const (
	Catalogs Comparison = "catalogs" // two lists of requirements
	Trials   Comparison = "trials"   // two trials, judged over the same catalogs
	Coverage Comparison = "coverage" // what catalogs require against what a trial saw
)

// ChangeKind is what a change is about.
type ChangeKind string

// The kinds of changes between two catalogs. An endpoint that was moved,
// narrowed, widened or renamed may have a change of scope or terms besides.
const (
	ChangeRemoved  ChangeKind = "removed"
	ChangeAdded    ChangeKind = "added"
	ChangePort     ChangeKind = "port"     // the same host, on another port
	ChangeNarrowed ChangeKind = "narrowed" // a wildcard replaced by hosts within it
	ChangeWidened  ChangeKind = "widened"  // hosts replaced by a wildcard over them
	ChangeRenamed  ChangeKind = "renamed"  // a placeholder has another name: the same hosts
	ChangeScope    ChangeKind = "scope"
	ChangeTerms    ChangeKind = "terms"    // protocol, needs, optional, valid, any_of
	ChangeCosmetic ChangeKind = "cosmetic" // purpose, source, id, order, repeated rows: nothing else to allow
)

// The kinds of changes between two trials.
const (
	ChangeFixed   ChangeKind = "fixed"   // did not work, and works now
	ChangeNew     ChangeKind = "new"     // a gap that was none: it does not work, or is in no list
	ChangeOther   ChangeKind = "changed" // a gap still, of another kind: was dropped, now intercepted
	ChangeLost    ChangeKind = "lost"    // evidence before, none now: neither broken nor fixed
	ChangeGained  ChangeKind = "gained"  // no evidence before, works now
	ChangeNothing ChangeKind = "still"   // the same gap; no difference
	ChangeFinding ChangeKind = "finding" // a kind of finding that one trial alone has
)

// The kinds of changes between catalogs and a trial.
const (
	ChangeMissing ChangeKind = "missing" // required, and not observed
	ChangeExtra   ChangeKind = "extra"   // observed, and not required
	ChangeBlocked ChangeKind = "blocked" // required, tried, and did not work
	ChangeUnclear ChangeKind = "unclear" // required, and seen in a way that proves nothing
)

// Diff is what differs between two sides. Its JSON has no null lists.
type Diff struct {
	Schema  string     `json:"schema"`
	Of      Comparison `json:"of"`
	Old     Side       `json:"old"`
	New     Side       `json:"new"`
	Same    bool       `json:"same"` // no change counts
	Summary string     `json:"summary"`
	Changes []Change   `json:"changes"`          // by kind, then in the order of the catalogs
	Trials  []Side     `json:"trials,omitempty"` // that Exercise was given
	Doubts  []string   `json:"doubts"`           // what a trial could not tell; where Same, it may not be so

	folds map[string]int // changes by what makes them the same in several catalogs
}

// Side is one of the two things compared.
type Side struct {
	File     string              `json:"file,omitempty"` // as the user named it
	Catalogs []policy.CatalogRef `json:"catalogs"`       // the catalogs compared; of a trial, those that it was judged by
	Trial    string              `json:"trial,omitempty"`
	Vantage  string              `json:"vantage,omitempty"`
	Started  time.Time           `json:"started,omitzero"`
}

// Change is one difference.
type Change struct {
	Kind ChangeKind `json:"kind"`
	// Counts says that it makes the two sides different. What is optional or out
	// of scope does not where a trial is held against catalogs.
	Counts   bool      `json:"counts"`
	Old      []Listed  `json:"old"` // the endpoints as the old side has them
	New      []Listed  `json:"new"`
	Was      []string  `json:"was"`            // what is said of them in the old side and no longer
	Now      []string  `json:"now"`            // what is said of them in the new side alone
	Note     string    `json:"note,omitempty"` // a sentence without a full stop
	Exercise *Exercise `json:"exercise,omitempty"`
}

// Listed is an endpoint as one side has it. The last four fields are of trials.
// A destination in no list has no catalogs.
type Listed struct {
	Host         string       `json:"host"`
	Port         uint16       `json:"port"`
	Catalogs     []string     `json:"catalogs"`
	Requirements []string     `json:"requirements"`
	Scopes       []string     `json:"scopes"`
	Status       Status       `json:"status,omitempty"`
	Stage        policy.Stage `json:"stage,omitempty"`
	Error        policy.Error `json:"error,omitempty"`
	By           policy.By    `json:"by,omitempty"`
}

func (l Listed) at() string {
	if l.Port == 0 {
		return l.Host
	}
	return policy.JoinPort(l.Host, l.Port)
}

func catalogSide(c *policy.Catalog) Side { return Side{Catalogs: []policy.CatalogRef{c.Ref()}} }

func trialSide(r *Report) Side {
	s := Side{Catalogs: some(r.Trial.Catalogs), Trial: r.Trial.Name, Vantage: r.Trial.Vantage, Started: r.Trial.Started}
	if len(r.Files) == 1 {
		s.File = r.Files[0]
	}
	return s
}

func newDiff(of Comparison, old, now Side) *Diff {
	return &Diff{Schema: DiffSchema, Of: of, Old: old, New: now, Changes: []Change{}, Doubts: []string{}, folds: map[string]int{}}
}

// doubt takes over why a trial cannot clear anything.
func (d *Diff) doubt(r *Report, file string) {
	for _, text := range r.Doubts {
		d.Doubts = addWord(d.Doubts, fmt.Sprintf("%s: %s", file, text))
	}
}

// finish orders the changes, and says whether any counts.
func (d *Diff) finish(summary string) *Diff {
	slices.SortStableFunc(d.Changes, func(a, b Change) int { return kindOrder(a.Kind) - kindOrder(b.Kind) })
	for i := range d.Changes {
		c := &d.Changes[i]
		c.Old, c.New, c.Was, c.Now = some(c.Old), some(c.New), some(c.Was), some(c.Now)
	}
	d.Same = !slices.ContainsFunc(d.Changes, func(c Change) bool { return c.Counts })
	d.Summary = summary
	return d
}

// Count is how many changes of the kind there are.
func (d *Diff) Count(k ChangeKind) int {
	n := 0
	for _, c := range d.Changes {
		n += bit(c.Kind == k)
	}
	return n
}
