package report

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// settings tells who came, and what that says.
func (j *judgement) settings() {
	s := Settings{Seen: []Way{}, Notes: []string{}}
	for w, t := range j.b.doors.ways {
		s.Seen = append(s.Seen, Way{w.vantage, w.listener, t.first, t.seq, t.n, t.unnamed, t.workloads()})
	}
	slices.SortFunc(s.Seen, func(a, b Way) int {
		return cmp.Or(a.First.Compare(b.First), cmp.Compare(a.Seq, b.Seq), cmp.Compare(a.Vantage, b.Vantage), cmp.Compare(a.Listener, b.Listener))
	})
	say := func(when bool, format string, args ...any) {
		if when {
			s.Notes = append(s.Notes, fmt.Sprintf(format, args...))
		}
	}
	say(j.b.doors.proxied.nodes+j.b.doors.captured.nodes > 0, "node:NAME is a node's own address: its image pulls, pods on its network, or pods whose addresses are translated there; which, cannot be told")
	if b := j.b; b.sessions > 0 && b.lost == 0 && len(b.damages) == 0 { // or else what is missing may have been it
		j.absent(s.Seen, say)
	}
	j.r.Settings = s
}

func (t *traffic) workloads() []Workload {
	out := []Workload{}
	for o, a := range t.owners {
		out = append(out, Workload{o.String(), a.first, a.seq, a.n})
	}
	slices.SortFunc(out, func(a, b Workload) int {
		return cmp.Or(a.First.Compare(b.First), cmp.Compare(a.Seq, b.Seq), cmp.Compare(a.Workload, b.Workload))
	})
	return out
}

// absent tells who did not come.
func (j *judgement) absent(seen []Way, say func(bool, string, ...any)) {
	j.nodesAbsent(say)
	j.podsAbsent(seen, say)
	for _, kind := range []string{"connect", "redirect", "tproxy", "dns"} {
		say(j.listened(kind) && !came(seen, carries(kind)), "nobody came by %s, which listened", kind)
	}
}

// nodesAbsent tells of nodes, whose pulls come by the setting of containerd. It can
// be known only where every connection has its workload.
func (j *judgement) nodesAbsent(say func(bool, string, ...any)) {
	p, all := j.b.doors.proxied, ""
	if j.b.doors.captured.nodes > 0 {
		all = "; what nodes sent was captured all the same"
	}
	none := p.pods > 0 && p.nodes == 0
	say(none && p.unnamed == 0, "no connection from a node came to the proxy: containerd's setting did not take effect, or it pulled nothing%s", all)
	say(none && p.unnamed > 0, "no connection is known to be from a node, and whose %d %s is not known: whether containerd's setting took effect cannot be told",
		p.unnamed, plural(uint64(p.unnamed), "connection was", "connections were"))
}

// podsAbsent tells of workloads that were captured and never came to the proxy,
// though others did: where every connection there has its workload, and none is
// folded.
func (j *judgement) podsAbsent(seen []Way, say func(bool, string, ...any)) {
	proxied, captured := map[string]bool{}, map[string]bool{}
	for _, w := range seen {
		in := captured
		if k := carries(w.Listener); k == "proxy" || w.Listener == otherHosts {
			in = proxied
		} else if k != "redirect" && k != "tproxy" {
			continue
		}
		for _, o := range w.Workloads {
			in[o.Workload] = true
		}
	}
	maps.DeleteFunc(captured, func(o string, _ bool) bool { return proxied[o] || ofNode(o) || o == otherHosts })
	or := ""
	if j.b.doors.proxied.nodes > 0 {
		or = ", or their addresses are translated to a node's on the way to it"
	}
	p := j.b.doors.proxied
	say(len(captured) > 0 && p.pods > 0 && p.unnamed == 0 && !proxied[otherHosts], "captured, and never seen at the proxy as others were: %s; the proxy settings did not take effect there%s",
		escapedList(slices.Sorted(maps.Keys(captured)), 8), or)
}

// listened says whether a session announced a listener of this kind.
func (j *judgement) listened(kind string) bool {
	return slices.ContainsFunc(j.b.listeners, func(l string) bool { return listenerKind(l) == kind })
}

// came says whether anybody came by the socket of a listener, as carries has it.
func came(seen []Way, socket string) bool {
	return slices.ContainsFunc(seen, func(w Way) bool { return carries(w.Listener) == socket })
}

// Bounds of what people read of settings; the JSON has all.
const (
	textWays   = 6
	textOwners = 3
)

// Line is what came by a way, in a sentence.
func (w Way) Line() string {
	what := map[string]string{"dns": "look-up", "http": "request"}[w.Listener]
	at := "at an unknown time"
	if !w.First.IsZero() {
		at = w.First.Format("2006-01-02 15:04:05") + " UTC"
	}
	line := fmt.Sprintf("first %s (record %d), %s", at, w.Seq, counted(w.Count, cmp.Or(what, "connection")))
	var names []string
	for _, o := range w.Workloads {
		names = append(names, o.Workload)
	}
	if len(names) == 0 {
		return line
	}
	line += ", from " + escapedList(names, textOwners)
	if w.Unnamed > 0 {
		line += fmt.Sprintf("; %d of unknown workloads", w.Unnamed)
	}
	return line
}

// Few are the ways that people read, and how many more there are.
func (s Settings) Few() []Way { return s.Seen[:min(len(s.Seen), textWays)] }

// More is how many ways Few leaves out.
func (s Settings) More() int { return len(s.Seen) - len(s.Few()) }

// Empty says that there is nothing to tell.
func (s Settings) Empty() bool { return len(s.Seen)+len(s.Notes) == 0 }

// settings is the section of the text.
func (p *page) settings(s Settings) {
	if s.Empty() {
		return
	}
	p.heading("SETTINGS SEEN", "", "who came, and by which listener")
	for _, w := range s.Few() {
		p.hang("  "+joined(", ", Escape(w.Listener), Escape(w.Vantage)), 19, w.Line())
	}
	if s.More() > 0 {
		p.hang("  ...", 6, fmt.Sprintf("and %d more (--format json has all)", s.More()))
	}
	for _, n := range s.Notes {
		p.hang("  -", 4, Escape(n))
	}
}
