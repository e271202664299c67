package report

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/egressaudit/egressaudit/policy"
)

// NarrowWarning stands wherever exact hosts are shown in place of a wildcard.
const NarrowWarning = "exact hosts are what these trials happened to meet; the publisher may use others at any time, in other regions, for other versions and for what was not done here, and a list of exact hosts breaks then where the wildcard does not"

// minNarrow is how many trials a wildcard needs to be called stable.
const minNarrow = 3

// Narrowing says which concrete hosts the wildcards of the catalogs stood for.
type Narrowing struct {
	Warning   string     `json:"warning"` // NarrowWarning
	Trials    int        `json:"trials"`
	Wildcards []Wildcard `json:"wildcards"` // in the order of the catalogs
}

// Stability is what trials say of the hosts behind a wildcard.
type Stability string

// The stabilities. Only a stable wildcard can be replaced by its hosts, and that
// not without NarrowWarning.
const (
	Stable      Stability = "stable"      // the same hosts in each of three trials or more
	Rotating    Stability = "rotating"    // others in other trials, or numbered
	Unproven    Stability = "unproven"    // too few trials, or trials that do not show all
	Unexercised Stability = "unexercised" // no host was seen
)

// Wildcard is a host pattern with a "*" and port, and what it stood for.
type Wildcard struct {
	Catalogs  []string       `json:"catalogs"`
	Host      string         `json:"host"`
	Port      uint16         `json:"port"`
	Trials    int            `json:"trials"` // in which a host was seen for it
	Stability Stability      `json:"stability"`
	Keep      bool           `json:"keep"` // the wildcard: everything but stable
	Why       string         `json:"why"`
	Hosts     []WildcardHost `json:"hosts"` // the exact list that would have served, by name

	around, folded, bypassed bool
}

// WildcardHost is one host seen for a wildcard.
type WildcardHost struct {
	Host   string `json:"host"`
	Trials int    `json:"trials"` // in which it was seen
}

// Narrow brings together what the wildcards stood for in trials: a report each,
// all over the same catalogs. Hosts that were blocked belong to the list, too:
// they were wanted. Trials of one ledger, or of copies of it, are no proof of each
// other.
func Narrow(trials []*Report) *Narrowing {
	n := &Narrowing{Warning: NarrowWarning, Trials: len(trials), Wildcards: []Wildcard{}}
	at := map[string]int{}
	lack := ""
	for i, r := range trials {
		lack = cmp.Or(lack, r.lack(trials[:i]))
		seen := map[string]bool{} // of this trial: rows of several catalogs are one
		for _, e := range r.Endpoints {
			if !strings.Contains(e.Host, "*") {
				continue
			}
			key := policy.JoinPort(e.Host, e.Port)
			i, ok := at[key]
			if !ok {
				i, at[key] = len(n.Wildcards), len(n.Wildcards)
				n.Wildcards = append(n.Wildcards, Wildcard{Host: e.Host, Port: e.Port, Hosts: []WildcardHost{}})
			}
			n.Wildcards[i].add(e, seen)
		}
	}
	for i := range n.Wildcards {
		w := &n.Wildcards[i]
		slices.SortFunc(w.Hosts, func(a, b WildcardHost) int { return cmp.Compare(a.Host, b.Host) })
		w.Stability, w.Why = w.judge(lack)
		w.Keep = w.Stability != Stable
	}
	return n
}

// lack is why r does not show all of a trial of its own; "" where it does.
func (r *Report) lack(before []*Report) string {
	switch {
	case slices.ContainsFunc(before, func(o *Report) bool { return r.sameLedger(o) }):
		return "two trials are of one ledger, and prove but one"
	case r.Incomplete || r.Trial.Ended.IsZero():
		return "a trial has no end, or its records are not complete"
	case r.Broken:
		return "recording was cut off or paused in a trial: what happened in between is unknown"
	}
	return ""
}

// sameLedger says whether r and o have a ledger in common.
func (r *Report) sameLedger(o *Report) bool {
	return slices.ContainsFunc(r.Trial.Ledgers, func(l string) bool { return slices.Contains(o.Trial.Ledgers, l) })
}

// add takes the hosts of one endpoint of one trial.
func (w *Wildcard) add(e Endpoint, seen map[string]bool) {
	key := policy.JoinPort(e.Host, e.Port)
	w.Catalogs = addWord(w.Catalogs, e.Catalog)
	w.bypassed = w.bypassed || e.Around
	if len(e.Hosts) > 0 && !seen[key] {
		seen[key] = true
		w.Trials++
	}
	for _, h := range e.Hosts {
		if seen[key+" "+h.Host] {
			continue
		}
		seen[key+" "+h.Host] = true
		w.around = w.around || h.Attempts == 0 || h.State == Resolved || h.State == Bypassed
		if h.Host == otherHosts {
			w.folded = true
			continue
		}
		i := slices.IndexFunc(w.Hosts, func(o WildcardHost) bool { return o.Host == h.Host })
		if i < 0 {
			i, w.Hosts = len(w.Hosts), append(w.Hosts, WildcardHost{Host: h.Host})
		}
		w.Hosts[i].Trials++
	}
}

// judge says how stable the hosts are, and why.
func (w *Wildcard) judge(lack string) (Stability, string) {
	numbered := w.numbered()
	switch {
	case w.Trials == 0:
		return Unexercised, "no trial used it"
	case w.folded:
		return Rotating, "it stood for more hosts than a trial keeps apart"
	case numbered != "":
		return Rotating, numbered + " is numbered: its siblings serve as well"
	case slices.ContainsFunc(w.Hosts, func(h WildcardHost) bool { return h.Trials < w.Trials }):
		return Rotating, "other hosts in other trials"
	case w.around:
		return Unproven, "it was looked up, and connections went around us or came too late: to which hosts is unknown"
	case w.bypassed:
		return Unproven, "NO_PROXY leads around us to some hosts of it: which ones served is unknown"
	case lack != "":
		return Unproven, lack
	case w.Trials < minNarrow:
		return Unproven, fmt.Sprintf("seen in %s, and it takes %d", counted(w.Trials, "trial"), minNarrow)
	}
	return Stable, fmt.Sprintf("the same in each of %d trials", w.Trials)
}

// Verdict is what to do with the wildcard, for people.
func (w Wildcard) Verdict() string {
	switch {
	case w.Stability == Unexercised:
		return "no host was seen"
	case w.Keep:
		return string(w.Stability) + ", so keep the wildcard"
	}
	return "stable, so these hosts would have served"
}

// Seen are its hosts, each with how often.
func (w Wildcard) Seen() []string {
	var out []string
	for _, h := range w.Hosts {
		out = append(out, fmt.Sprintf("%s in %d of %s", h.Host, h.Trials, counted(w.Trials, "trial")))
	}
	return out
}

// series is a label, or the part of one before a hyphen, that is a short number or
// ends in one behind a letter (cdn01, azgnrelay-eastus-l1, westus2, 7).
var series = regexp.MustCompile(`(^|[a-z.-])[0-9]{1,3}([.-]|$)`)

// numbered is a host whose part behind the wildcard looks like one of a series;
// "" where none does.
func (w *Wildcard) numbered() string {
	p, err := policy.ParsePattern(w.Host)
	if err != nil {
		return ""
	}
	for _, h := range w.Hosts {
		if series.MatchString(strings.TrimSuffix(h.Host, "."+p.Suffix())) {
			return h.Host
		}
	}
	return ""
}

// narrowing is the section of the text.
func (p *page) narrowing(n *Narrowing) {
	if n == nil {
		return
	}
	p.heading("NARROWING", fmt.Sprint(len(n.Wildcards)), "what each wildcard stood for in "+counted(n.Trials, "trial"))
	p.hang("  Warning:", indent, n.Warning+".")
	var idle []string
	for _, w := range n.Wildcards {
		at := Escape(policy.JoinPort(w.Host, w.Port))
		if w.Stability == Unexercised {
			idle = append(idle, at)
			continue
		}
		p.hang("  "+at, p.column(), w.Verdict()+"; "+Escape(w.Why))
		for _, h := range w.Hosts {
			p.hang("    "+Escape(h.Host), p.column(), fmt.Sprintf("in %d of %s", h.Trials, counted(w.Trials, "trial")))
		}
	}
	if len(idle) > 0 {
		p.hang("  -", 4, "no host was seen for "+strings.Join(idle, ", "))
	}
}
