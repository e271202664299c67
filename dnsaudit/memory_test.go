package dnsaudit

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestMemory(t *testing.T) {
	begin := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	at := func(after time.Duration) time.Time { return begin.Add(after) }
	a, mapped, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("::ffff:192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	m := NewMemory(0)
	require.Nil(t, m.Names(a, begin))
	m.Learn("x.example", []netip.Addr{a, b}, false, 5*time.Minute, begin)
	m.Learn("y.example", []netip.Addr{mapped}, false, time.Second, begin)
	require.Equal(t, []string{"y.example", "x.example"}, m.Names(a, begin), "the latest first")
	require.Equal(t, []string{"x.example"}, m.Names(b, begin))
	require.Equal(t, []string{"y.example", "x.example"}, m.Names(mapped, at(time.Minute-1)), "a minute at least")
	require.Equal(t, []string{"x.example"}, m.Names(a, at(time.Minute)))
	m.Learn("x.example", []netip.Addr{a}, false, time.Second, at(time.Minute))
	require.Equal(t, []string{"x.example"}, m.Names(a, at(5*time.Minute-1)), "a shorter TTL takes nothing away")
	require.Nil(t, m.Names(a, at(5*time.Minute)))
	m.Learn("z.example", []netip.Addr{a}, false, 1<<31*time.Second, begin)
	require.Equal(t, []string{"z.example"}, m.Names(a, at(24*time.Hour-1)))
	require.Nil(t, m.Names(a, at(24*time.Hour)), "a day at most")
}

func TestMemoryIsBounded(t *testing.T) {
	now := time.Unix(0, 0)
	m := NewMemory(2)
	addr := func(i int) []netip.Addr { return []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})} }
	m.Learn("one", addr(1), false, time.Hour, now)
	m.Learn("two", addr(2), false, time.Hour, now)
	m.Learn("one", addr(1), false, time.Hour, now)
	m.Learn("three", addr(3), false, time.Hour, now)
	require.Equal(t, []string{"one"}, m.Names(addr(1)[0], now))
	require.Nil(t, m.Names(addr(2)[0], now), "learned least recently")
	require.Len(t, m.known, 2)
	for i := range 100 {
		m.Learn(fmt.Sprint("n", i), addr(3), false, time.Hour, now)
	}
	names := m.Names(addr(3)[0], now)
	require.Len(t, names, sharedBy)
	require.Equal(t, "n99", names[0])
	require.Equal(t, m.latest.Len(), len(m.known))
}

// TestMemoryWorlds holds Memory against a list of all that was learned.
func TestMemoryWorlds(t *testing.T) {
	type fact struct {
		name  string
		addr  netip.Addr
		until time.Time
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		m, now := NewMemory(0), time.Unix(0, 0)
		var all []fact
		for range 40 {
			now = now.Add(time.Duration(random.IntN(100)) * time.Second)
			f := fact{fmt.Sprint(random.IntN(4)), netip.AddrFrom4([4]byte{1, 1, 1, byte(random.IntN(3))}), now}
			ttl := time.Duration(random.IntN(1000)) * time.Second
			f.until = now.Add(max(ttl, time.Minute))
			all = append(all, f)
			m.Learn(f.name, []netip.Addr{f.addr}, false, ttl, now)
			asked := netip.AddrFrom4([4]byte{1, 1, 1, byte(random.IntN(3))})
			want := map[string]bool{}
			for _, f := range all {
				if f.addr == asked && now.Before(f.until) {
					want[f.name] = true
				}
			}
			got := map[string]bool{}
			for _, n := range m.Names(asked, now) {
				require.False(t, got[n], "twice")
				got[n] = true
			}
			require.Equal(t, want, got)
		}
	}
}

func TestMemoryAtOnce(t *testing.T) {
	m, now := NewMemory(8), time.Unix(0, 0)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 500 {
				a := netip.AddrFrom4([4]byte{1, 1, byte(i), byte(j)})
				m.Learn("x", []netip.Addr{a}, false, 0, now)
				m.Names(a, now.Add(time.Hour))
			}
		})
	}
	wg.Wait()
	require.LessOrEqual(t, len(m.known), 8)
}

func TestRateBuckets(t *testing.T) {
	now := time.Unix(0, 0)
	a, sibling, b := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2"), netip.MustParseAddr("192.0.2.1")
	r := newRate(2)
	allowed := func(want bool, client netip.Addr, after time.Duration) {
		t.Helper()
		require.Equal(t, want, r.allow(client, now.Add(after)))
	}
	allowed(true, a, 0)
	allowed(true, sibling, 0)
	allowed(false, a, 0) // the whole /64 is one client
	allowed(true, b, 0)
	allowed(false, a, 499*time.Millisecond)
	allowed(true, a, 500*time.Millisecond)
	allowed(false, a, 500*time.Millisecond)
	allowed(true, a, time.Hour)
	allowed(true, a, time.Hour)
	allowed(false, a, time.Hour)   // no more than a second's worth is saved
	allowed(false, a, time.Second) // a clock that goes back gives nothing
}

func TestRateIsBounded(t *testing.T) {
	now := time.Unix(100, 0)
	r := newRate(1)
	r.max = 2
	client := func(i byte) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, i}) }
	require.True(t, r.allow(client(1), now))
	require.True(t, r.allow(client(2), now))
	require.True(t, r.allow(client(3), now), "of those that share")
	require.False(t, r.allow(client(4), now))
	require.False(t, r.allow(client(1), now))
	require.Len(t, r.buckets, 2)
	now = now.Add(2 * time.Second)
	require.True(t, r.allow(client(4), now))
	require.Len(t, r.buckets, 1, "those that had gone are forgotten")
}

// TestElsewhere: a name that has other addresses is told, one that nobody asked
// for, or that has more than are kept, is not.
func TestElsewhere(t *testing.T) {
	m, now := NewMemory(3), time.Now()
	one, two := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	require.False(t, m.Elsewhere("a.example", one, now), "nobody asked")
	m.Learn("a.example", []netip.Addr{one}, false, time.Minute, now)
	require.False(t, m.Elsewhere("a.example", one, now))
	require.False(t, m.Elsewhere("a.example", netip.MustParseAddr("::ffff:192.0.2.1"), now))
	require.True(t, m.Elsewhere("a.example", two, now))
	require.False(t, m.Elsewhere("a.example", two, now.Add(time.Hour)), "forgotten")
	m.Learn("a.example", []netip.Addr{two}, false, time.Minute, now)
	require.False(t, m.Elsewhere("a.example", two, now))
	require.False(t, m.Elsewhere("a.example", one, now), "both count")
	many := []netip.Addr{}
	for i := range maxPlaces + 1 {
		many = append(many, netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}))
	}
	m.Learn("b.example", many, false, time.Minute, now)
	require.False(t, m.Elsewhere("b.example", one, now), "nobody knows them all")
	for i := range 100 {
		m.Learn(fmt.Sprintf("%d.example", i), []netip.Addr{one}, false, time.Minute, now)
	}
	require.LessOrEqual(t, len(m.places), 3)
}

// TestUnlinked: an answer through a private link is told from one without.
func TestUnlinked(t *testing.T) {
	m, now := NewMemory(0), time.Now()
	one, two := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	require.False(t, m.Unlinked("a.example", one, now), "nobody asked")
	m.Learn("a.example", []netip.Addr{one}, false, time.Minute, now)
	m.Learn("b.example", []netip.Addr{two}, true, time.Minute, now)
	require.True(t, m.Unlinked("a.example", netip.MustParseAddr("::ffff:10.0.0.1"), now))
	require.False(t, m.Unlinked("a.example", two, now), "another's address")
	require.False(t, m.Unlinked("b.example", two, now))
	require.False(t, m.Unlinked("a.example", one, now.Add(time.Hour)), "forgotten")
	m.Learn("a.example", []netip.Addr{one}, true, time.Minute, now)
	require.False(t, m.Unlinked("a.example", one, now), "one link is enough not to accuse")
}
