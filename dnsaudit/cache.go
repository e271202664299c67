package dnsaudit

import (
	"encoding/binary"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Of the cache.
const (
	cacheEntries = 8192
	cachePacket  = 4096 // larger answers are not kept
	cacheAtMost  = time.Hour
	// negativeAtMost is for answers without what was asked (RFC 2308 section 5
	// has three hours).
	negativeAtMost = 5 * time.Minute
)

// cache keeps answers for the packets they came for. The key is the whole
// question packet, without ID and letter case: flags, EDNS options and cookies
// count, and nobody gets an answer that another question led to. Safe for use by
// several goroutines at once.
type cache struct {
	mu   sync.Mutex
	kept map[string]kept
}

type kept struct {
	result
	ttls     []int // where the TTLs stand in the packet
	at       time.Time
	lifetime time.Duration
}

func newCache() *cache { return &cache{kept: make(map[string]kept)} }

func cacheKey(q *query) string {
	key := slices.Clone(q.packet[2:])
	name := headerLen - 2
	copy(key[name:], lower(q.question[:len(q.question)-4]))
	return string(key)
}

// find is the answer to q that is kept and still valid, for q's ID and letter
// case, with what is left of its TTLs.
func (c *cache) find(q *query, now time.Time) (result, bool) {
	key := cacheKey(q)
	c.mu.Lock()
	k, ok := c.kept[key]
	c.mu.Unlock()
	age := now.Sub(k.at)
	if !ok || age >= k.lifetime {
		return result{}, false
	}
	pkt := slices.Clone(k.packet)
	binary.BigEndian.PutUint16(pkt, q.id)
	copy(pkt[headerLen:], q.question)
	for _, at := range k.ttls {
		left := int64(binary.BigEndian.Uint32(pkt[at:])) - int64(age/time.Second)
		binary.BigEndian.PutUint32(pkt[at:], uint32(max(0, left)))
	}
	return result{packet: pkt, from: k.from, cached: true}, true
}

// keep keeps an answer that says for how long it is valid.
func (c *cache) keep(q *query, r result, now time.Time) {
	ttls, lifetime := lifetime(r.packet)
	if lifetime < time.Second || len(r.packet) > cachePacket {
		return
	}
	k := kept{result{packet: slices.Clone(r.packet), from: r.from}, ttls, now, lifetime}
	key := cacheKey(q)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.kept) >= cacheEntries {
		c.sweep(now)
	}
	c.kept[key] = k
}

// sweep forgets what is no longer valid, and some of the rest where that is not
// enough.
func (c *cache) sweep(now time.Time) {
	for key, k := range c.kept {
		if now.Sub(k.at) >= k.lifetime {
			delete(c.kept, key)
		}
	}
	for key := range c.kept {
		if len(c.kept) < cacheEntries {
			return
		}
		delete(c.kept, key)
	}
}

// lifetime is how long an answer may be kept, and where its TTLs stand: the
// least of them, of the answer section or of a negative answer's SOA (RFC 2308).
// It is 0 for failures, truncated answers, and what cannot be read.
func lifetime(pkt []byte) (ttls []int, d time.Duration) {
	rcode := pkt[3] & 0x0F
	if pkt[2]&flagTC != 0 || rcode != dns.RcodeSuccess && rcode != dns.RcodeNameError || binary.BigEndian.Uint16(pkt[4:]) != 1 {
		return nil, 0
	}
	at, ok := skipName(pkt, headerLen)
	at += 4
	answers := int(binary.BigEndian.Uint16(pkt[6:]))
	d = cacheAtMost
	negative := true
	for n := range records(pkt) {
		var r wireRecord
		if !ok {
			return nil, 0
		}
		if r, ok = readRecord(pkt, at); !ok {
			return nil, 0
		}
		ttl := time.Duration(binary.BigEndian.Uint32(pkt[r.ttl:])) * time.Second
		switch {
		case r.kind == dns.TypeOPT:
			at = r.next
			continue
		case n < answers:
			negative = false
			d = min(d, ttl)
		case r.kind == dns.TypeSOA && r.next-r.data >= 4:
			negative = false
			minimum := time.Duration(binary.BigEndian.Uint32(pkt[r.next-4:])) * time.Second
			d = min(d, ttl, minimum, negativeAtMost)
		}
		ttls = append(ttls, r.ttl)
		at = r.next
	}
	if negative {
		return nil, 0 // nothing says for how long
	}
	return ttls, d
}
