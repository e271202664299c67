package policy

import "slices"

// trie is an Index in the making: patterns by their labels, from the right.
type trie struct {
	endpoints []Endpoint
	nodes     []node         // the root is the first
	edges     map[edge]int32 // to the child
}

// edge leads from a node to a child. A label with holes is known by the text
// at its two ends alone, so that many of them (azgn*, umsa*, ...) are not tried
// one by one; what stands between the ends is for the pattern to judge.
type edge struct {
	from       int32
	open       bool // a label with holes
	head, tail string
}

// node is where the labels of some patterns end, or go on.
type node struct {
	ends   []int   // endpoints whose labels end here
	shapes []shape // of the children for labels with holes
	has    flags
}

// shape is the lengths of head and tail of a label with holes.
type shape struct{ head, tail int }

// flags tell what is at a node, so that a look-up need not go and see.
type flags uint32

const (
	hasExact flags = 1 << iota // patterns that match where no label is left
	hasDeep                    // patterns whose leading "*" is left to match
	hasNames                   // children for literal labels
	hasOpen                    // children for labels with holes
)

func (t *trie) add(e Endpoint) {
	at := int32(0)
	for i := range e.Host.labels {
		at = t.child(at, &e.Host.labels[i])
	}
	n := &t.nodes[at]
	n.ends = append(n.ends, len(t.endpoints))
	if e.Host.deep {
		n.has |= hasDeep
	} else {
		n.has |= hasExact
	}
	t.endpoints = append(t.endpoints, e)
}

// child is the node that l leads to, made where it does not exist.
func (t *trie) child(at int32, l *label) int32 {
	k := edge{at, !l.literal(), l.head, l.tail}
	to, ok := t.edges[k]
	if ok {
		return to
	}
	to = int32(len(t.nodes))
	t.edges[k] = to
	t.nodes = append(t.nodes, node{})
	n := &t.nodes[at]
	if !k.open {
		n.has |= hasNames
		return to
	}
	n.has |= hasOpen
	if s := (shape{len(k.head), len(k.tail)}); !slices.Contains(n.shapes, s) {
		n.shapes = append(n.shapes, s)
	}
	return to
}
