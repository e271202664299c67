package report

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/egressaudit/egressaudit/policy"
)

const maxBypass = 64 // findings

// trail is what look-ups of a name left that no connection explains.
type trail int

const (
	explained trail = iota
	fresh           // the window was not over when recording ended
	ripe            // somebody goes around us
)

// bypassing is a client and names that it reached without us, as sure as they
// are.
type bypassing struct {
	client     netip.Addr
	workload   string
	owner      string
	confidence policy.Confidence
	names      []string
	seqs       []uint64
	looks      int
	first      time.Time
	shared     bool // others went there through us meanwhile
}

// trails weighs what is suspect, by name.
func (j *judgement) trails() map[string]trail {
	out := map[string]trail{}
	for _, s := range j.b.lookout.suspects {
		for _, g := range s.glances {
			out[s.host] = max(out[s.host], j.weigh(s, g))
		}
	}
	return out
}

// weigh says what one look-up tells. Where its client asks for others, and
// others went there, they are who asked.
func (j *judgement) weigh(s *suspect, g glance) trail {
	switch {
	case g.shared && (j.b.lookout.parties[s.client].forwards || !s.client.IsValid()):
		return explained
	case g.at.Add(j.b.lookout.window).After(g.within.latest):
		return fresh
	}
	return ripe
}

// bypasses tells who looked up required names and went around us.
func (j *judgement) bypasses() {
	type group struct {
		client     netip.Addr
		confidence policy.Confidence
	}
	groups := map[group]*bypassing{}
	for _, s := range slices.SortedFunc(maps.Values(j.b.lookout.suspects), bySuspect) {
		if !j.requires(s.host) {
			continue
		}
		p := j.b.lookout.parties[s.client]
		for _, g := range s.glances {
			if j.weigh(s, g) != ripe {
				continue
			}
			k := group{s.client, policy.Likely}
			if p.connected && !p.forwards && !g.shared && !s.crowded && !j.b.lookout.spans.crowded {
				k.confidence = policy.Certain
			}
			if groups[k] == nil {
				groups[k] = &bypassing{client: k.client, confidence: k.confidence}
			}
			groups[k].add(s, g)
		}
	}
	j.tellBypasses(slices.SortedFunc(maps.Values(groups), func(a, b *bypassing) int {
		return cmp.Or(cmp.Compare(a.confidence, b.confidence), a.client.Compare(b.client)) // certain comes first
	}))
}

func bySuspect(a, b *suspect) int {
	return cmp.Or(a.client.Compare(b.client), cmp.Compare(a.host, b.host))
}

func (b *bypassing) add(s *suspect, g glance) {
	if n := len(b.names); n == 0 || b.names[n-1] != s.host { // they come in their order
		b.names = append(b.names, s.host)
		b.looks += s.more
	}
	if b.workload == "" {
		b.workload, b.owner = s.workload, s.owner
	}
	b.looks++
	b.seqs = append(b.seqs, g.seq)
	b.shared = b.shared || g.shared
	if b.first.IsZero() || g.at.Before(b.first) {
		b.first = g.at
	}
}

func (j *judgement) tellBypasses(all []*bypassing) {
	for _, b := range all[:min(len(all), maxBypass)] {
		j.tellBypass(b)
	}
	if n := len(all) - maxBypass; n > 0 {
		j.find(Bypass, nil, "%d more clients went around egressaudit; confidence: %s", n, policy.Likely)
	}
}

func (j *judgement) tellBypass(b *bypassing) {
	p := j.b.lookout.parties[b.client]
	who, but := b.client.String(), ""
	if b.workload != "" {
		who += " (" + clip(b.workload) + around(", ", clip(b.owner), "") + ")"
	}
	switch {
	case !b.client.IsValid():
		who = "an unknown client"
	case p.forwards:
		who = "an unknown client behind the resolver " + who
	case !p.connected:
		but = ", or is a resolver that asks for others, for it never connected here at all"
	}
	if b.shared {
		but += " (others went there through egressaudit meanwhile)"
	}
	j.find(Bypass, b.seqs, "%s looked up %s, %s (first at %s UTC), and no connection from it there came through egressaudit within %s before or after: "+
		"it goes around egressaudit%s; confidence: %s", who, listing(b.names, 4), times(b.looks), b.first.Format("2006-01-02 15:04:05"), j.window(), but, b.confidence)
}

// requires says whether an endpoint that counts as required stands for host, and
// NO_PROXY does not lead around us to it.
func (j *judgement) requires(host string) bool {
	d := j.b.dests[key{host: host, lookup: true}]
	return d != nil && slices.ContainsFunc(inForce(d.endpoints, j.b.started, j.b.latest), func(e *policy.Endpoint) bool {
		return j.required(e.Requirement) && !j.bypass.host(d.name, e.Port)
	})
}

// strayed says whether an answer to a name with a search suffix took the place of
// host. It did not where a connection asked for the longer name, or said it: that
// is the name of a mirror, say.
func (j *judgement) strayed(host string) bool {
	for p := range j.b.strays {
		if p.sni == host && !j.connected[p.asked] {
			return true
		}
	}
	return j.b.moreStray > 0
}

// strays tells of names that got an answer with a search suffix.
func (j *judgement) strays() {
	pairs := slices.SortedFunc(maps.Keys(j.b.strays), func(a, b pair) int {
		return cmp.Or(strings.Compare(a.sni, b.sni), strings.Compare(a.asked, b.asked))
	})
	for _, p := range pairs {
		if j.connected[p.asked] {
			continue
		}
		s := j.b.strays[p]
		who := "an unknown client"
		if s.client.IsValid() {
			who = s.client.String()
		}
		j.find(SearchSuffixAnswered, s.seqs, "%s asked for %s and meant %s, %s, and was answered %s: connections go there and not to the name that was meant; "+
			"remove the wildcard record of that domain, or write the name with a final dot", who, p.asked, p.sni, times(s.n), s.answer)
	}
	if n := j.b.moreStray; n > 0 {
		j.find(SearchSuffixAnswered, nil, "more names with a search suffix were answered, %s, too many to list", times(n))
	}
}

// unfollowed tells of look-ups that say less than they seem to.
func (j *judgement) unfollowed(say func(bool, string, ...any)) {
	var lost, quiet []string
	for _, d := range slices.SortedFunc(maps.Values(j.b.dests), byHost) {
		if !d.lookup || d.class != listed {
			continue
		}
		lost = addIf(lost, d.unfollowed, d.host)
		state, _ := d.judge()
		quiet = addIf(quiet, state == addresses && !d.unfollowed && !d.strayed && !j.connected[d.host] && j.trail[d.host] == explained, d.host)
	}
	say(len(lost) > 0, "look-ups by more clients at a time than can be held against connections: who went around egressaudit is not told in full for %s", listing(lost, 8))
	say(len(quiet) > 0, "%d %s looked up by clients with a connection to the same address, which may have served for both: %s", len(quiet),
		plural(uint64(len(quiet)), "name was", "names were"), listing(quiet, 8))
	say(len(j.b.lookout.parties) >= maxParties, "there were more than %d clients: who of the rest went around egressaudit is not told in full", maxParties)
	say(j.b.overfull, "look-ups gave more than %d addresses: whether a connection went to another one is not told", maxGiven)
}

// early are hosts of e whose look-ups came too late to tell anything.
func (j *judgement) early(e Endpoint) []string {
	var hosts []string
	for _, h := range e.Hosts {
		if h.State == Unused && j.trail[h.Host] == fresh {
			hosts = append(hosts, h.Host)
		}
	}
	return hosts
}

// window is the bypass window as people read it.
func (j *judgement) window() string { return fmt.Sprint(j.b.lookout.window) }
