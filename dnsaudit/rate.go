package dnsaudit

import (
	"net/netip"
	"sync"
	"time"
)

// rateClients is how many clients are counted one by one; the others share one
// count.
const rateClients = 1 << 16

// rate limits questions by client: a bucket that fills with a second's worth.
// Safe for use by several goroutines at once.
type rate struct {
	perSecond float64
	max       int

	mu      sync.Mutex
	buckets map[netip.Prefix]*bucket
	others  bucket
	swept   time.Time
}

type bucket struct {
	used float64 // at the time of last
	last time.Time
}

func newRate(perSecond float64) *rate {
	return &rate{perSecond: perSecond, max: rateClients, buckets: make(map[netip.Prefix]*bucket)}
}

// allow counts a question of a client, and says whether it may be asked.
func (r *rate) allow(a netip.Addr, now time.Time) bool {
	bits := 32
	if a = a.Unmap().WithZone(""); a.Is6() {
		bits = 64
	}
	client, _ := a.Prefix(bits) // never fails for an address
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.bucket(client, now)
	r.drain(b, now)
	if b.used+1 > max(1, r.perSecond) {
		return false
	}
	b.used++
	return true
}

func (r *rate) drain(b *bucket, now time.Time) {
	if d := now.Sub(b.last); d > 0 {
		b.used = max(0, b.used-d.Seconds()*r.perSecond)
		b.last = now
	}
}

func (r *rate) bucket(client netip.Prefix, now time.Time) *bucket {
	if b := r.buckets[client]; b != nil {
		return b
	}
	if len(r.buckets) >= r.max {
		r.sweep(now)
	}
	if len(r.buckets) >= r.max {
		return &r.others
	}
	b := &bucket{last: now}
	r.buckets[client] = b
	return b
}

// sweep forgets, at most once a second, clients that have not asked for a while.
func (r *rate) sweep(now time.Time) {
	if now.Sub(r.swept) < time.Second {
		return
	}
	r.swept = now
	for client, b := range r.buckets {
		if r.drain(b, now); b.used == 0 {
			delete(r.buckets, client)
		}
	}
}
