package report

import (
	"hash/maphash"
	"math/bits"
	"net/netip"
	"time"
)

// recency remembers values by the hash of what they are of: each for hold at
// least, and for twice that at most, in the time of the records. It has two
// maps, of which the older is thrown away when the younger is old enough.
// Records that come much later than their time may find it forgotten.
type recency[V any] struct {
	hold        time.Duration
	limit       int // of each map
	turned      time.Time
	now, before map[uint64]V
	crowded     bool // something was forgotten too early
}

func newRecency[V any](hold time.Duration, limit int) recency[V] {
	return recency[V]{hold: hold, limit: limit, now: map[uint64]V{}, before: map[uint64]V{}}
}

// put remembers v in the place of what k had, as of t. The zero recency, which
// only serves to be asked, remembers nothing.
func (r *recency[V]) put(k uint64, v V, t time.Time) {
	if r.now == nil {
		return
	}
	if full := len(r.now) >= r.limit; full || t.Sub(r.turned) >= r.hold {
		r.crowded = r.crowded || full && t.Sub(r.turned) < r.hold
		r.now, r.before, r.turned = r.before, r.now, t
		clear(r.now)
	}
	r.now[k] = v
}

// at are the values of k: the younger one, and the older.
func (r *recency[V]) at(k uint64) (young, old V) { return r.now[k], r.before[k] }

var seed = maphash.MakeSeed()

// hashName, hashAddr and hashPair are keys of what clients chose, so that
// nothing of a record is kept for them. The seed is not theirs to guess.
func hashName(s string) uint64 { return maphash.String(seed, s) }

func hashAddr(a netip.Addr) uint64 {
	b := a.As16()
	return maphash.Bytes(seed, b[:])
}

func hashPair(a, b uint64) uint64 { return bits.RotateLeft64(a*0x9E3779B97F4A7C15, 29) ^ b }

// machine is a without what does not tell machines apart.
func machine(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }
