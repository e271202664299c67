package report

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/egressaudit/egressaudit/policy"
)

// Settings say by which of our listeners clients came, and so which of the settings
// that send them here were seen to take effect.
type Settings struct {
	Seen  []Way    `json:"seen"`  // by the time of the first
	Notes []string `json:"notes"` // what that says of settings, where it can be known
}

// Way is a listener at a vantage, with what clients sent there: connections, requests
// ("http") or look-ups ("dns").
type Way struct {
	Vantage   string     `json:"vantage"`
	Listener  string     `json:"listener"` // connect, http, redirect, tproxy, dns
	First     time.Time  `json:"first,omitzero"`
	Seq       uint64     `json:"seq"` // the record of the first
	Count     int        `json:"count"`
	Unnamed   int        `json:"unnamed,omitempty"` // of Count: whose workload is not known
	Workloads []Workload `json:"workloads"`         // by the time of the first; empty where none is known
}

// Workload is whoever came, as far as it is known: "namespace/KIND/NAME" of the owner
// of pods, "namespace/pod" of a pod that has none, "node:NAME" of a node's own address.
type Workload struct {
	Workload string    `json:"workload"`
	First    time.Time `json:"first,omitzero"`
	Seq      uint64    `json:"seq"`
	Count    int       `json:"count"`
}

// Limits of what clients can make us remember of settings.
const (
	maxWays   = 64
	maxOwners = 256 // of a way
)

// way is a listener at a vantage.
type way struct{ vantage, listener string }

// owner is whose pods are counted together.
type owner struct{ namespace, name string }

// arrivals are the first of several observations, and how many there were.
type arrivals struct {
	first time.Time
	seq   uint64
	n     int
}

func (a *arrivals) add(s sight) {
	if a.n == 0 || s.begun.Before(a.first) {
		a.first, a.seq = s.begun, s.seq
	}
	a.n++
}

// traffic is what came by one way.
type traffic struct {
	arrivals
	unnamed int
	owners  map[owner]arrivals
}

// crowd counts observations by who made them.
type crowd struct{ pods, nodes, unnamed int }

// doors are who came by which listener.
type doors struct {
	ways              map[way]*traffic
	proxied, captured crowd
}

func newDoors() doors { return doors{ways: map[way]*traffic{}} }

func (d doors) clone() doors {
	d.ways = maps.Clone(d.ways)
	for w, t := range d.ways {
		c := *t
		c.owners = maps.Clone(t.owners)
		d.ways[w] = &c
	}
	return d
}

// enter counts an observation of a client.
func (d *doors) enter(s sight) {
	if s.Origin != policy.OriginClient && s.Origin != "" {
		return
	}
	listener := s.Listener
	if s.kind == policy.KindQuery {
		listener = "dns"
	}
	switch carries(listener) {
	case "proxy":
		d.proxied.count(s.Workload)
	case "redirect", "tproxy":
		d.captured.count(s.Workload)
	}
	t := d.traffic(way{short(s.vantage), short(listener)})
	t.add(s)
	t.count(s)
}

func (d *doors) traffic(w way) *traffic {
	t := d.ways[w]
	if t != nil {
		return t
	}
	w = way{keep(w.vantage), keep(w.listener)}
	if len(d.ways) >= maxWays {
		w = way{otherHosts, otherHosts}
	}
	if t = d.ways[w]; t == nil {
		t = &traffic{owners: map[owner]arrivals{}}
		d.ways[w] = t
	}
	return t
}

// count enters s at its workload, where that is known.
func (t *traffic) count(s sight) {
	if s.Workload == "" {
		t.unnamed++
		return
	}
	o := ownerOf(s)
	a, known := t.owners[o]
	if !known {
		o = owner{keep(o.namespace), keep(o.name)}
		if len(t.owners) >= maxOwners {
			o = owner{"", otherHosts}
			a = t.owners[o]
		}
	}
	a.add(s)
	t.owners[o] = a
}

// ownerOf is whose s is. A pod without a known owner stands for itself.
func ownerOf(s sight) owner {
	namespace, pod, inside := strings.Cut(s.Workload, "/")
	if !inside || ofNode(s.Workload) {
		return owner{"", short(s.Workload)}
	}
	if o, _ := s.Detail["owner"].(string); o != "" {
		pod = o
	}
	return owner{short(namespace), short(pod)}
}

// ofNode says whether a workload is an address of a node itself.
func ofNode(workload string) bool { return strings.HasPrefix(workload, "node:") }

func (c *crowd) count(workload string) {
	switch {
	case workload == "":
		c.unnamed++
	case ofNode(workload):
		c.nodes++
	default:
		c.pods++
	}
}

func (o owner) String() string { return joined("/", o.namespace, o.name) }

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
	j.unset(s.Seen, say)
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

// absent tells who did not come. Of nodes, whose pulls come by the setting of
// containerd, it can be known only where every connection has its workload.
func (j *judgement) absent(seen []Way, say func(bool, string, ...any)) {
	p, c := j.b.doors.proxied, j.b.doors.captured
	all := ""
	if c.nodes > 0 {
		all = "; what nodes sent was captured all the same"
	}
	say(p.pods > 0 && p.nodes == 0 && p.unnamed == 0, "no connection from a node came to the proxy: containerd's setting did not take effect, or it pulled nothing%s", all)
	say(p.pods > 0 && p.nodes == 0 && p.unnamed > 0, "no connection is known to be from a node, and whose %d %s is not known: whether containerd's setting took effect cannot be told",
		p.unnamed, plural(uint64(p.unnamed), "connection was", "connections were"))
	for _, kind := range []string{"connect", "redirect", "tproxy", "dns"} {
		say(j.listened(kind) && !came(seen, carries(kind)), "nobody came by %s, which listened", kind)
	}
}

// unset tells of workloads that were captured and never came to the proxy, though
// others did.
func (j *judgement) unset(seen []Way, say func(bool, string, ...any)) {
	uses, left := map[string]bool{otherHosts: true}, []string(nil)
	for _, w := range seen {
		for _, o := range w.Workloads {
			uses[o.Workload] = uses[o.Workload] || carries(w.Listener) == "proxy" || ofNode(o.Workload)
		}
	}
	for _, o := range slices.Sorted(maps.Keys(uses)) {
		captured := slices.ContainsFunc(seen, func(w Way) bool {
			k := carries(w.Listener)
			return (k == "redirect" || k == "tproxy") && slices.ContainsFunc(w.Workloads, func(x Workload) bool { return x.Workload == o })
		})
		left = addIf(left, captured && !uses[o], o)
	}
	say(j.b.doors.proxied.pods > 0 && len(left) > 0, "captured, and never came to the proxy as others did: the proxy settings did not take effect for %s", escapedList(left, 8))
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
func (s Settings) Few() (few []Way) { return s.Seen[:min(len(s.Seen), textWays)] }

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
