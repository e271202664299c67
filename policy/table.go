package policy

import "hash/maphash"

// flags tell what a node has, so that it need not be looked at.
type flags uint32

const (
	hasExact flags = 1 << iota
	hasDeep
	hasGlobs
)

func (n *node) flags() (f flags) {
	if len(n.exact) > 0 {
		f |= hasExact
	}
	if len(n.deep) > 0 {
		f |= hasDeep
	}
	if n.globs != nil {
		f |= hasGlobs
	}
	return f
}

// table is the literal edges of the trie in one flat array with open
// addressing. It compares 64-bit hashes under a random seed and not labels: a
// false hit leads to a node whose patterns do not match, which query.append
// sees.
type table struct {
	seed  maphash.Seed
	mask  uint64
	slots []slot
}

// slot is an edge: 16 bytes, four to a cache line. A free slot has hash 0.
type slot struct {
	hash uint64
	to   target
}

type target struct {
	node int32
	has  flags
}

func newTable(edges map[edge]int32, nodes []node) table {
	size := 8
	for size < 2*len(edges) {
		size *= 2
	}
	t := table{seed: maphash.MakeSeed(), mask: uint64(size - 1), slots: make([]slot, size)}
	for e, to := range edges {
		h := t.hash(e.from, e.label)
		i := h >> 1 & t.mask
		for t.slots[i].hash != 0 {
			i = (i + 1) & t.mask
		}
		t.slots[i] = slot{h, target{to, nodes[to].flags()}}
	}
	return t
}

func (t *table) hash(from int32, label string) uint64 {
	h := maphash.String(t.seed, label) ^ uint64(from)*0x9e3779b97f4a7c15
	h ^= h >> 32
	return h*0xd6e8feb86659fd93 | 1
}

func (t *table) find(from int32, label string) (target, bool) {
	h := t.hash(from, label)
	for i := h >> 1 & t.mask; ; i = (i + 1) & t.mask {
		switch t.slots[i].hash {
		case h:
			return t.slots[i].to, true
		case 0:
			return target{}, false
		}
	}
}
