package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/egressaudit/egressaudit/policy"
)

// DiffTrials compares two trials. Both reports are over the same catalogs and
// scopes. Nothing is called fixed that did not work in the new trial: what was
// not seen there is lost, whatever it was before.
func DiffTrials(old, now *Report) *Diff {
	d := newDiff(Trials, trialSide(old), trialSide(now))
	a, b := fates(old), fates(now)
	for _, key := range a.order {
		d.trace(a.of[key], b.of[key])
	}
	for _, key := range b.order {
		if a.of[key] == nil {
			d.trace(nil, b.of[key])
		}
	}
	d.findings(old, now)
	d.doubt(old, cmp.Or(d.Old.File, "the old trial"))
	d.doubt(now, cmp.Or(d.New.File, "the new trial"))
	return d.finish(trialSummary(d))
}

// proof is what a status proves.
type proof int

const (
	noProof proof = iota
	works
	failing
)

// fate is what became of one endpoint, or of a destination in no list.
type fate struct {
	Listed
	proof proof
	text  string          // for people
	bad   []string        // hosts that do not work, by name
	good  map[string]bool // hosts that work
}

// unseen is the fate of what was not seen.
var unseen = &fate{text: "not seen"}

// same says whether nothing has changed from f to o. Where nothing works, the
// hosts are no matter: clients make up new ones.
func (f *fate) same(o *fate) bool {
	return f.text == o.text && (f.Status != Partial || slices.Equal(f.bad, o.bad))
}

// untried are the hosts that did not work in f and were not seen to work in o.
func (f *fate) untried(o *fate) []string {
	return slices.DeleteFunc(slices.Clone(f.bad), func(h string) bool { return o.good[h] })
}

// fateList is by endpoint: policy.Match of an unlisted destination has nothing
// but the endpoint.
type fateList struct {
	order []policy.Match
	of    map[policy.Match]*fate
}

func fates(r *Report) fateList {
	l := fateList{of: map[policy.Match]*fate{}}
	for _, e := range r.Endpoints {
		l.add(e.match(), e.fate())
	}
	for _, u := range r.Unlisted {
		l.add(policy.Match{Endpoint: u.listed().at()}, &fate{Listed: u.listed(), proof: failing, text: u.fate()})
	}
	return l
}

func (l *fateList) add(key policy.Match, f *fate) {
	if l.of[key] == nil {
		l.order = append(l.order, key)
	}
	l.of[key] = f
}

// listed is e for the reader.
func (e Endpoint) listed() Listed {
	l := Listed{Host: e.Host, Port: e.Port, Catalogs: []string{e.Catalog}, Requirements: []string{e.Requirement}, Scopes: []string{e.Scope}, Status: e.Status}
	return l.with(e.Cause)
}

// listed is u for the reader; what worked is Used.
func (u Unlisted) listed() Listed {
	l := Listed{Host: u.Host, Port: u.Port, Catalogs: []string{}, Requirements: []string{}, Scopes: []string{}, Status: Status(u.Outcome)}
	if u.Outcome == Worked {
		l.Status = Used
	}
	return l.with(u.Cause)
}

func (l Listed) with(c *Cause) Listed {
	if c != nil {
		l.Stage, l.Error, l.By = c.Stage, c.Error, c.By
	}
	return l
}

// fate is what became of e, with what tells it from others of the same status:
// the cause, and the hosts that do not work.
func (e Endpoint) fate() *fate {
	f := &fate{Listed: e.listed(), good: map[string]bool{}}
	switch e.Status {
	case Used:
		f.proof = works
	case Blocked, Partial:
		f.proof = failing
	}
	for _, h := range e.Hosts {
		switch {
		case h.State == Blocked || h.State == Partial:
			f.bad = append(f.bad, h.Host)
		case h.State == Used && h.Host != otherHosts:
			f.good[h.Host] = true
		}
	}
	f.text = e.words(f.bad)
	return f
}

// words are the status for people.
func (e Endpoint) words(bad []string) string {
	switch e.Status {
	case Used:
		return "working"
	case Blocked:
		return plainly(e.Cause)
	case Partial:
		return "in part " + plainly(e.Cause) + around(", at ", listing(bad, 4), "")
	case Reached:
		return "accepted and never answered, which proves nothing"
	case Resolved:
		return "looked up and gone around us"
	case Bypassed:
		return "left to NO_PROXY"
	}
	return "not seen"
}

func (u Unlisted) fate() string {
	switch u.Outcome {
	case Worked:
		return "working, in no list"
	case string(Reached):
		return "accepted and never answered, in no list"
	}
	return plainly(u.Cause) + ", in no list"
}

// plainWords are what was done to a connection, by error.
var plainWords = map[policy.Error]string{
	policy.DNSTimeout: "left without a DNS answer", policy.DNSSinkhole: "sinkholed", policy.DNSError: "not resolved",
	policy.ConnectionRefused: "refused", policy.ConnectionTimeout: "dropped", policy.DestinationUnroutable: "without a route",
	policy.ConnectionTerminated: "cut", policy.ConnectionReadTimeout: "left in silence", policy.TLSAlertReceived: "answered with a TLS alert",
	policy.NotTLSReply: "answered by something else than TLS", policy.TLSIntercepted: "intercepted", policy.HTTPBlockPage: "given a block page",
	policy.ParentDenied: "denied by the proxy", policy.ParentAuthRequired: "held up by the proxy's login", policy.ParentError: "failed by the proxy",
	policy.HTTPRequestDenied: "denied by egressaudit", policy.DestinationProhibited: "guarded by egressaudit",
}

// plainly is a cause in a word and in its terms: "dropped (connection_timeout at
// connect, by network)".
func plainly(c *Cause) string {
	if c == nil {
		return "blocked"
	}
	terms := fmt.Sprintf("%s at %s", orUnknown(string(c.Error)), orUnknown(string(c.Stage)))
	if rcode := fact(c.Detail, "rcode"); c.Error == policy.DNSError && rcode != "" {
		terms = rcode
	}
	return fmt.Sprintf("%s (%s%s)", cmp.Or(plainWords[c.Error], "blocked"), terms, around(", by ", string(c.By), ""))
}

// trace enters what became of one endpoint; nil is not seen.
func (d *Diff) trace(a, b *fate) {
	c := Change{}
	if a != nil {
		c.Old = []Listed{a.Listed}
	}
	if b != nil {
		c.New = []Listed{b.Listed}
	}
	a, b = cmp.Or(a, unseen), cmp.Or(b, unseen)
	c.Was, c.Now, c.Kind = []string{a.text}, []string{b.text}, became(a, b)
	c.Counts = c.Kind != ChangeNothing
	if c.Kind == ChangeLost && b.proof == works {
		c.Note = "not tried again: " + listing(a.untried(b), 4)
	}
	if c.Kind != "" {
		d.fold(c)
	}
}

// became is the kind of change from a to b, "" where there is nothing to tell.
func became(a, b *fate) ChangeKind {
	switch {
	case a.same(b) && (a.proof == failing || a.Status == Reached || a.Status == Resolved):
		return ChangeNothing
	case a.same(b):
		return ""
	case a.proof == failing && b.proof == failing:
		return ChangeOther
	case b.proof == failing:
		return ChangeNew
	case a.proof == failing && b.proof == works && len(a.untried(b)) == 0:
		return ChangeFixed
	case b.proof == works && a.proof == noProof:
		return ChangeGained
	case a.proof != noProof:
		return ChangeLost
	}
	return ChangeOther // two doubts
}

// fold enters c, or joins it with the same change of the same endpoint in
// another catalog.
func (d *Diff) fold(c Change) {
	at := func(list []Listed) string {
		if len(list) == 0 {
			return ""
		}
		return list[0].at()
	}
	key := strings.Join([]string{string(c.Kind), at(c.Old), at(c.New), strings.Join(c.Was, "\x00"), strings.Join(c.Now, "\x00"), c.Note}, "\x00")
	if i, ok := d.folds[key]; ok {
		join(d.Changes[i].Old, c.Old)
		join(d.Changes[i].New, c.New)
		return
	}
	d.folds[key] = len(d.Changes)
	d.Changes = append(d.Changes, c)
}

func join(to, from []Listed) {
	for i, l := range from {
		to[i].Catalogs = addWords(to[i].Catalogs, l.Catalogs)
		to[i].Requirements = addWords(to[i].Requirements, l.Requirements)
		to[i].Scopes = addWords(to[i].Scopes, l.Scopes)
	}
}

func addWords(list, more []string) []string {
	for _, s := range more {
		list = addWord(list, s)
	}
	return list
}

// findings enters the kinds of findings that one trial alone has: what works may
// be intercepted, or flap. Their texts count and name hosts, so they mostly
// differ.
func (d *Diff) findings(old, now *Report) {
	texts := func(r *Report, k Kind) []string {
		var out []string
		for _, f := range r.Findings {
			if f.Kind == k {
				out = append(out, fmt.Sprintf("%s: %s", k, f.Text))
			}
		}
		return out
	}
	for _, k := range Kinds {
		was, is := texts(old, k), texts(now, k)
		if (len(was) == 0) != (len(is) == 0) {
			d.Changes = append(d.Changes, Change{Kind: ChangeFinding, Counts: true, Was: was, Now: is})
		}
	}
}

// trialSummary is a diff of trials in one sentence.
func trialSummary(d *Diff) string {
	var out []string
	for _, k := range []ChangeKind{ChangeFixed, ChangeNew, ChangeOther, ChangeLost, ChangeGained, ChangeNothing} {
		if n := d.Count(k); n > 0 {
			out = append(out, fmt.Sprintf("%d %s", n, k))
		}
	}
	if n := d.Count(ChangeFinding); n > 0 {
		out = append(out, counted(n, "finding")+" in one alone")
	}
	if len(out) == 0 {
		return "no difference, and no gap in either"
	}
	return strings.Join(out, ", ")
}
