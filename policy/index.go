package policy

import "slices"

// Index finds the endpoints that a host and port meet. It is a trie over labels
// from the right: its cost depends on the labels of the name and on the
// endpoints found, not on the number of patterns, and a look-up allocates
// nothing. Two things can cost more: patterns that differ only between two
// wildcards of one label (a*1*b, a*2*b) are tried one by one, and labels with
// wildcards in one place are looked up once for each pair of lengths of their
// literal ends. An Index does not change after it is made.
type Index struct {
	endpoints []*Endpoint
	ends      []Endpoint // what they point to: those of a node side by side
	root      target
	table     table
	shapes    [][]shape              // by node
	domains   map[string][]*Endpoint // by registrable domain, for Near
}

// NewIndex compiles the endpoints of the catalogs, in their order.
func NewIndex(catalogs ...*Catalog) *Index {
	t := trie{edges: map[edge]int32{}, nodes: make([]node, 1)}
	for _, c := range catalogs {
		for _, r := range c.Requirements {
			for _, h := range r.Hosts {
				t.add(Endpoint{Catalog: c, Requirement: r, Host: h, Port: r.Port})
			}
		}
	}
	x := &Index{domains: map[string][]*Endpoint{}}
	x.flatten(&t)
	for _, e := range x.endpoints {
		if d := registrable(e.Host.Suffix()); d != "" && !e.Host.addr {
			x.domains[d] = append(x.domains[d], e)
		}
	}
	return x
}

// flatten lays the nodes and endpoints of t side by side.
func (x *Index) flatten(t *trie) {
	x.endpoints = make([]*Endpoint, len(t.endpoints))
	x.ends = make([]Endpoint, 0, len(t.endpoints))
	targets := make([]target, len(t.nodes))
	for i, n := range t.nodes {
		first := len(x.ends)
		for _, e := range n.ends {
			x.ends = append(x.ends, t.endpoints[e])
			x.endpoints[e] = &x.ends[len(x.ends)-1]
		}
		targets[i] = target{int32(i), int32(first), int32(len(x.ends)), n.has}
		x.shapes = append(x.shapes, n.shapes)
	}
	x.root = targets[0]
	x.table = newTable(t.edges, targets)
}

// Endpoints lists all endpoints, in the order of the catalogs. The caller does
// not change it.
func (x *Index) Endpoints() []*Endpoint { return x.endpoints }

// Match appends the endpoints that host n and port meet to dst, in no order.
// Port 0 stands for any port: a DNS question has none.
func (x *Index) Match(dst []*Endpoint, n Name, port uint16) []*Endpoint {
	q := query{x, n, port}
	switch {
	case n.s == "":
		return dst
	case n.addr.IsValid(): // as a whole, for it has no labels
		if to, ok := x.table.find(x.table.literal(0, n.s)); ok {
			dst = q.append(dst, to)
		}
		return dst
	}
	return q.walk(dst, x.root, n.s)
}

// Best is Match, reduced to what counts: within one catalog a host counts for
// its most specific endpoint alone (for several, where rows of the same
// catalog repeat that pattern).
func (x *Index) Best(dst []*Endpoint, n Name, port uint16) []*Endpoint {
	from := len(dst)
	dst = x.Match(dst, n, port)
	found := dst[from:]
	kept := from
	for i, e := range found {
		if !slices.ContainsFunc(found, func(o *Endpoint) bool {
			return o.Catalog == e.Catalog && o.Host.compare(&e.Host) > 0
		}) {
			found[i], dst[kept] = dst[kept], e
			kept++
		}
	}
	return dst[:kept]
}

// anyPort is the port of a look-up that asks for the host alone; no endpoint
// has it.
const anyPort = 0

// query is one look-up on its way down the trie.
type query struct {
	x    *Index
	name Name
	port uint16
}

// walk appends what stands at a node and below it for the labels left in rest.
func (q *query) walk(dst []*Endpoint, at target, rest string) []*Endpoint {
	for ok := true; rest != ""; {
		if at.has&hasDeep != 0 {
			dst = q.append(dst, at)
		}
		var last string
		rest, last = cutLast(rest)
		if at.has&hasOpen != 0 {
			dst = q.open(dst, at, rest, last)
		}
		if at.has&hasNames == 0 {
			return dst
		}
		if at, ok = q.x.table.find(q.x.table.literal(at.node, last)); !ok {
			return dst
		}
	}
	if at.has&hasExact != 0 {
		dst = q.append(dst, at)
	}
	return dst
}

// open walks on through the labels with holes that may stand for last.
func (q *query) open(dst []*Endpoint, at target, rest, last string) []*Endpoint {
	t := &q.x.table
	for _, s := range q.x.shapes[at.node] {
		if len(last) < s.head+s.tail {
			continue
		}
		if to, ok := t.find(t.open(at.node, last[:s.head], last[len(last)-s.tail:])); ok {
			dst = q.walk(dst, to, rest)
		}
	}
	return dst
}

// append takes those endpoints of a node that have the port. The walk compared
// hashes and the ends of labels only, so the pattern has the last word.
func (q *query) append(dst []*Endpoint, at target) []*Endpoint {
	ends := q.x.ends[at.first:at.last]
	for i := range ends {
		if e := &ends[i]; e.on(q.port) && e.Host.match(&q.name) {
			dst = append(dst, e)
		}
	}
	return dst
}
