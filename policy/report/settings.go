package report

import (
	"maps"
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
