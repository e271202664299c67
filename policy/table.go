package policy

import "hash/maphash"

// table is the edges of a trie in one flat array with open addressing. It
// compares 64-bit hashes under a random seed and not labels. No two edges of a
// table share a hash, so that none hides another; a name that is not there may
// still hit one, and what it finds then is refuted by the pattern.
type table struct {
	seed  maphash.Seed
	mask  uint64
	slots []slot
}

// slot is an edge; a free one has hash 0.
type slot struct {
	hash uint64
	to   target
}

// target is a node as the edge to it tells it, so that a node without a match
// is never touched.
type target struct {
	node        int32
	first, last int32 // Index.ends[first:last] end here
	has         flags
}

// newTable takes the edges, and what each leads to.
func newTable(edges map[edge]int32, targets []target) table {
	size := 8
	for size < 2*len(edges) {
		size *= 2
	}
	for {
		t := table{seed: maphash.MakeSeed(), mask: uint64(size - 1), slots: make([]slot, size)}
		if t.fill(edges, targets) {
			return t
		}
	}
}

func (t *table) fill(edges map[edge]int32, targets []target) bool {
	for e, to := range edges {
		h := t.literal(e.from, e.head)
		if e.open {
			h = t.open(e.from, e.head, e.tail)
		}
		if !t.put(h, targets[to]) {
			return false
		}
	}
	return true
}

// put takes an edge; false says that there is one with that hash.
func (t *table) put(h uint64, to target) bool {
	i := h & t.mask
	for ; t.slots[i].hash != 0; i = (i + 1) & t.mask {
		if t.slots[i].hash == h {
			return false
		}
	}
	t.slots[i] = slot{h, to}
	return true
}

func (t *table) find(h uint64) (target, bool) {
	for i := h & t.mask; ; i = (i + 1) & t.mask {
		switch s := &t.slots[i]; s.hash {
		case h:
			return s.to, true
		case 0:
			return target{}, false
		}
	}
}

// literal is the hash of the edge from a node for a literal label.
func (t *table) literal(from int32, s string) uint64 { return t.mix(uint64(from)<<1, s) }

// open is the hash of the edge for labels with holes between head and tail.
func (t *table) open(from int32, head, tail string) uint64 {
	h := t.mix(uint64(from)<<1|1, head)
	if tail != "" {
		h = t.mix(h, tail)
	}
	return h
}

// mix is the finalizer of MurmurHash3 over a string and where it stands. It is
// never 0.
func (t *table) mix(h uint64, s string) uint64 {
	h = maphash.String(t.seed, s) ^ h*0x9e3779b97f4a7c15
	h = (h ^ h>>32) * 0xd6e8feb86659fd93
	return h ^ h>>32 | 1<<63
}
