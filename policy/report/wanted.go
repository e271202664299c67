package report

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/egressaudit/egressaudit/policy"
)

// rule is one thing to ask for: what should pass, who wants it and why, what was
// seen, and what allowing it risks.
type rule struct {
	Anchor   string // of the endpoint on the page
	Status   Status
	Listed   []string // catalog/scope; none: no catalog lists it
	Host     string
	Port     uint16 // 0: none is known
	Protocol policy.Protocol
	Needs    []policy.Need
	Purpose  string
	Page     string   // URL
	Hosts    []string // that do not work
	From     []string // workloads; else the vantage
	First    time.Time
	Last     time.Time
	Attempts int
	Failed   int
	*Cause
	Risks []string
}

// At is the destination as host:port, the host alone where no port is known.
func (w *rule) At() string { return target(w.Host, w.Port) }

// target is host:port, or the host where port is 0.
func target(host string, port uint16) string {
	if port == 0 {
		return host
	}
	return policy.JoinPort(host, port)
}

// wanted lists the rules that the report asks for, those that count first.
func (r *Report) wanted() []*rule {
	var out []*rule
	rows := r.rows()
	for _, row := range slices.Concat(rows[Blocked], rows[Partial]) {
		if row.Cause != nil {
			out = append(out, r.listedRule(row))
		}
	}
	slices.SortStableFunc(out, func(a, b *rule) int { return bit(b.counts()) - bit(a.counts()) })
	for i, u := range r.Unlisted {
		if u.Cause != nil {
			out = append(out, r.unlistedRule(i, u))
		}
	}
	return out
}

const (
	notRequired = "the catalog calls it optional"
	notInScope  = "not in the scope of this trial"
)

// counts says whether the verdict rests on w.
func (w *rule) counts() bool { return w.Standing() == "" || len(w.Listed) == 0 }

// Standing says why w is no plain requirement; "" where it is.
func (w *rule) Standing() string {
	switch {
	case len(w.Listed) == 0:
		return "in no list"
	case slices.Contains(w.Risks, notRequired):
		return "optional"
	case slices.Contains(w.Risks, notInScope):
		return "not in scope"
	}
	return ""
}

func (r *Report) listedRule(row *row) *rule {
	w := &rule{
		Anchor: row.anchor, Status: row.Status, Listed: row.catalogs, Host: row.Host, Port: row.Port, Protocol: row.Protocol,
		Needs: row.Needs, Purpose: row.Purpose, Page: row.Source, Cause: row.Cause,
	}
	for _, h := range row.Hosts {
		if h.State == Blocked || h.State == Partial {
			w.Hosts = append(w.Hosts, h.Host)
			w.seen(h.Attempts, h.Failed, h.First, h.Last, h.Workloads)
		}
	}
	if row.counts == 0 && row.optional {
		w.Risks = append(w.Risks, notRequired)
	} else if row.counts == 0 {
		w.Risks = append(w.Risks, notInScope)
	}
	return r.finish(w)
}

func (r *Report) unlistedRule(i int, u Unlisted) *rule {
	w := &rule{Anchor: anchor("u", i), Status: Blocked, Host: u.Host, Port: u.Port, Hosts: []string{u.Host}, Cause: u.Cause}
	w.seen(u.Attempts, u.Failed, u.First, u.Last, u.Workloads)
	w.Risks = append(w.Risks, "no catalog lists this destination: find out who needs it before it is allowed")
	return r.finish(w)
}

func (w *rule) seen(attempts, failed int, first, last time.Time, workloads []string) {
	w.Attempts, w.Failed = w.Attempts+attempts, w.Failed+failed
	widen(&w.First, &w.Last, first, last)
	for _, l := range workloads {
		w.From = addWord(w.From, l)
	}
}

func (r *Report) finish(w *rule) *rule {
	if len(w.From) == 0 {
		w.From = []string{cmp.Or(w.Cause.vantage, r.Trial.Vantage, "unknown")}
	}
	w.Risks = append(w.Risks, w.risks()...)
	return w
}

// risks are the notes on what a rule as it stands would let pass.
func (w *rule) risks() []string {
	var out []string
	say := func(when bool, text string) {
		if when {
			out = append(out, text)
		}
	}
	_, err := netip.ParseAddr(w.Host)
	say(err == nil, "an address and no name: who stands behind it may change")
	say(strings.Contains(w.Host, "*"), "a wildcard: it allows every name below it, not only the hosts that were seen")
	say(strings.Contains(w.Host, "<"), "an open placeholder: fill it in, or else it allows every value")
	say(w.Protocol == policy.HTTP || w.Protocol == "" && w.Port == 80, "plain HTTP: neither encrypted nor proof of who answers")
	say(slices.Contains(w.Needs, policy.NeedNoTLSInspection), "must not be inspected, so what passes stays unseen")
	say(w.Confidence == policy.Guess, "the cause is a guess: look into the device's log first")
	return out
}
