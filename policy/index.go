package policy

import "slices"

// Index finds the endpoints that a host and port meet. It is a trie over labels
// from the right: its cost depends on the labels of the name and on the
// endpoints found, not on the number of patterns, and a look-up allocates
// nothing. An Index does not change after it is made.
type Index struct {
	endpoints []*Endpoint
	nodes     []node
	edges     map[edge]int32 // while it is made; table holds the same
	table     table
	addrs     map[string][]*Endpoint // literal addresses
	domains   map[string][]*Endpoint // by registrable domain, for Near
}

// edge leads from a node to the child for a literal label.
type edge struct {
	from  int32
	label string
}

type node struct {
	exact []*Endpoint // patterns that end here
	deep  []*Endpoint // patterns whose leading "*" is left to match
	globs *globs      // children for labels with wildcards
}

// globs are the children of a node whose label has a wildcard, by what the
// label begins and ends with, so that many of them (azgn*, umsa*, ...) are not
// tried one by one.
type globs struct {
	shapes   []shape
	children map[affix][]glob
}

type shape struct{ prefix, suffix int }

type affix struct{ prefix, suffix string }

type glob struct {
	label label
	to    int32
}

// NewIndex compiles the endpoints of the catalogs, in their order.
func NewIndex(catalogs ...*Catalog) *Index {
	x := &Index{
		nodes:   make([]node, 1),
		edges:   map[edge]int32{},
		addrs:   map[string][]*Endpoint{},
		domains: map[string][]*Endpoint{},
	}
	for _, c := range catalogs {
		for _, r := range c.Requirements {
			for _, h := range r.Hosts {
				x.add(&Endpoint{Catalog: c, Requirement: r, Host: h, Port: r.Port})
			}
		}
	}
	x.table = newTable(x.edges, x.nodes)
	x.edges = nil
	return x
}

// Endpoints lists all endpoints, in the order of the catalogs. The caller does
// not change it.
func (x *Index) Endpoints() []*Endpoint { return x.endpoints }

// Match appends the endpoints that host n and port meet to dst, in no order.
func (x *Index) Match(dst []*Endpoint, n Name, port uint16) []*Endpoint {
	q := query{x, n, port}
	switch {
	case n.addr.IsValid():
		return q.append(dst, x.addrs[n.s])
	case n.s == "":
		return dst
	}
	return q.walk(dst, 0, x.nodes[0].flags(), n.s)
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
			return o.Catalog == e.Catalog && o.Host.Compare(e.Host) > 0
		}) {
			found[i], dst[kept] = dst[kept], e
			kept++
		}
	}
	return dst[:kept]
}

// anyPort makes walk pass over the port; no endpoint has it.
const anyPort = 0

// query is one look-up on its way down the trie.
type query struct {
	x    *Index
	name Name
	port uint16
}

// walk appends what stands below the node at for the labels left in rest. The
// flags of the node are those of the edge that led to it, so that a node
// without a match is never touched.
func (q *query) walk(dst []*Endpoint, at int32, has flags, rest string) []*Endpoint {
	if rest == "" {
		if has&hasExact != 0 {
			dst = q.append(dst, q.x.nodes[at].exact)
		}
		return dst
	}
	if has&hasDeep != 0 {
		dst = q.append(dst, q.x.nodes[at].deep)
	}
	rest, last := cutLast(rest)
	if to, ok := q.x.table.find(at, last); ok {
		dst = q.walk(dst, to.node, to.has, rest)
	}
	if has&hasGlobs != 0 {
		dst = q.globs(dst, q.x.nodes[at].globs, rest, last)
	}
	return dst
}

func (q *query) globs(dst []*Endpoint, in *globs, rest, last string) []*Endpoint {
	for _, s := range in.shapes {
		if len(last) < s.prefix+s.suffix {
			continue
		}
		for _, g := range in.children[affix{last[:s.prefix], last[len(last)-s.suffix:]}] {
			if g.label.match(last) {
				dst = q.walk(dst, g.to, q.x.nodes[g.to].flags(), rest)
			}
		}
	}
	return dst
}

// append takes those of from that have the port. The table compares hashes
// only, so the pattern has the last word.
func (q *query) append(dst, from []*Endpoint) []*Endpoint {
	for _, e := range from {
		if (e.Port == q.port || q.port == anyPort) && e.Host.Match(q.name) {
			dst = append(dst, e)
		}
	}
	return dst
}

func (x *Index) add(e *Endpoint) {
	x.endpoints = append(x.endpoints, e)
	p := e.Host
	if d := registrable(p.Suffix()); d != "" {
		x.domains[d] = append(x.domains[d], e)
	}
	if p.addr {
		x.addrs[p.text] = append(x.addrs[p.text], e)
		return
	}
	at := int32(0)
	for _, l := range p.labels {
		at = x.child(at, l)
	}
	if n := &x.nodes[at]; p.deep {
		n.deep = append(n.deep, e)
	} else if p.text != "" {
		n.exact = append(n.exact, e)
	}
}

// child is the node that label l leads to, made where it does not exist.
func (x *Index) child(at int32, l label) int32 {
	if l.literal() {
		k := edge{at, l.pieces[0]}
		to, ok := x.edges[k]
		if !ok {
			to = x.grow()
			x.edges[k] = to
		}
		return to
	}
	g := x.nodes[at].globs
	if g == nil {
		g = &globs{children: map[affix][]glob{}}
		x.nodes[at].globs = g
	}
	k := affix{l.pieces[0], l.pieces[len(l.pieces)-1]}
	for _, c := range g.children[k] {
		if c.label.String() == l.String() {
			return c.to
		}
	}
	if s := (shape{len(k.prefix), len(k.suffix)}); !slices.Contains(g.shapes, s) {
		g.shapes = append(g.shapes, s)
	}
	to := x.grow()
	g.children[k] = append(g.children[k], glob{l, to})
	return to
}

func (x *Index) grow() int32 {
	x.nodes = append(x.nodes, node{})
	return int32(len(x.nodes) - 1)
}
