package report

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/stretchr/testify/require"
)

func jsonOf(t testing.TB, r *Report) string {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, r.WriteJSON(&b))
	return b.String()
}

// The order in which records of different hosts come does not matter, as long
// as each keeps its number and time; nor do snapshots in between.
func TestInterleaving(t *testing.T) {
	o := Options{Catalogs: []*policy.Catalog{arc, aml}}
	whole := every().records
	want := jsonOf(t, every().report(o))
	rng := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		// What one host says keeps its order; start, stop, marks and canaries
		// keep their place.
		var places []int
		byName := map[string][]*policy.Record{}
		for i, r := range whole {
			if r.Observation != nil && r.Origin != policy.OriginCanary {
				places = append(places, i)
				byName[r.Name] = append(byName[r.Name], r)
			}
		}
		mixed := slices.Clone(whole)
		names := slices.Sorted(maps.Keys(byName))
		for _, at := range places {
			i := rng.IntN(len(names))
			mixed[at], byName[names[i]] = byName[names[i]][0], byName[names[i]][1:]
			if len(byName[names[i]]) == 0 {
				names = slices.Delete(names, i, i+1)
			}
		}
		e := New(o)
		for _, r := range mixed {
			e.Add(r)
			e.Report()
		}
		require.Equal(t, want, jsonOf(t, e.Report()))
	}
}

// A snapshot with open connections leaves no trace in the engine.
func TestSnapshotLeavesNoTrace(t *testing.T) {
	o := Options{Catalogs: []*policy.Catalog{small}}
	records := started().conn("quay.io", reset1).conn("quay.io", open("1"), ok, sni("other.example"), from1("ns/a")).
		conn("cdn.quay.io", open("2"), dropped).conn("other.example", open("3"), ok).conn("quay.io", ok, from1("ns/b")).
		query("quay.io", found, c1).conn("quay.io", open("4"), ok, c1, took, to(quay1+":443")).query("quay.io", foundSix, c3).query("jobs.example.org", found, c2).
		conn("quay.io", closes("4"), ok, c1, took, to(quay1+":443")).
		conn("quay.io", closes("1"), reset1).conn("cdn.quay.io", closes("2"), ok).conn("other.example", closes("3"), dropped).stop().records
	o.Index = policy.NewIndex(small)
	snapped, plain := New(o), New(o)
	for _, r := range records {
		snapped.Add(r)
		for range 3 {
			snapped.Report()
		}
		plain.Add(r)
	}
	require.Equal(t, jsonOf(t, plain.Report()), jsonOf(t, snapped.Report()))
	require.Equal(t, plain.book, snapped.book)
}

// The caller may use a record again: nothing of it is retained.
func TestRecordIsNotRetained(t *testing.T) {
	o := Options{Catalogs: []*policy.Catalog{arc, aml}}
	tape := func() *tape { return every().conn("quay.io", open("left open"), reset1, from1("ns/a")) }
	want := jsonOf(t, tape().report(o))
	e := New(o)
	for _, r := range tape().records {
		e.Add(r)
		if r.Observation != nil {
			clear(r.Detail)
			for i := range r.Answers {
				r.Answers[i] = ""
			}
			*r.Observation = policy.Observation{Name: "spoiled.example"}
		}
		if r.Session != nil {
			clear(r.Session.Listeners)
			clear(r.Session.NoProxy)
			*r.Session = policy.Session{}
		}
	}
	require.Equal(t, want, jsonOf(t, e.Report()))
}

// No line of a ledger stays in memory for a name cut out of it.
func TestKeepIsACopy(t *testing.T) {
	line := strings.Repeat("x", 1<<16) + "quay.io"
	name := line[1<<16:]
	require.NotSame(t, unsafe.StringData(name), unsafe.StringData(keep(name)))
	require.Equal(t, name, keep(name))
	require.LessOrEqual(t, len(keep(line)), maxText+3)
}

// Add does not change the record.
func TestRecordIsNotChanged(t *testing.T) {
	e := New(Options{Catalogs: []*policy.Catalog{arc, aml}})
	before := every().records
	for i, r := range every().records {
		e.Add(r)
		require.True(t, reflect.DeepEqual(before[i], r), "record %d", i+1)
	}
}

// Sensors add while the page asks.
func TestConcurrentUse(t *testing.T) {
	e := New(Options{Catalogs: []*policy.Catalog{arc, aml}})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for _, r := range every().records {
				e.Add(r)
			}
		})
		wg.Go(func() {
			for range 20 {
				e.Report()
			}
		})
	}
	wg.Wait()
	require.Equal(t, Gaps, e.Report().Verdict)
}

func heapNow() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// Whatever clients choose, memory stays flat, and what is folded still counts.
func TestMemoryIsBounded(t *testing.T) {
	const n = 240_000 // every limit is reached before the half
	e := New(Options{Catalogs: []*policy.Catalog{small}})
	for _, r := range started().conn("quay.io", ok).records {
		e.Add(r)
	}
	o := &policy.Observation{Origin: policy.OriginClient, Listener: "connect", Port: 443}
	r := &policy.Record{Schema: 1, Kind: policy.KindConnection, Observation: o}
	before, half, idle := heapNow(), uint64(0), map[string]any{"close": "fin"}
	for i := range n {
		if i == n/2 {
			half = heapNow()
		}
		r.Kind = policy.KindConnection
		r.Seq, r.Time = uint64(i+10), epoch.Add(time.Duration(i)*time.Millisecond)
		*o = policy.Observation{Origin: policy.OriginClient, Listener: "connect", Port: 443, Verdict: policy.Verdict{Outcome: policy.OK}}
		o.Name = fmt.Sprintf("h%d.evil%d.example", i, i)
		switch i % 5 {
		case 1:
			o.Name = fmt.Sprintf("h%d.quay.io", i)
		case 2:
			o.ID, o.Open, o.SNI, o.Asked = fmt.Sprint(i), true, fmt.Sprintf("s%d.example", i), o.Name
		case 3:
			r.Kind, o.Type, o.Answers = policy.KindQuery, "A", []string{"203.0.113.1"}
		case 4:
			o.Name, o.Workload = fmt.Sprintf("10.%d.%d.%d", i>>16&255, i>>8&255, i&255), fmt.Sprint("ns/", i)
		}
		o.Address = netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, byte(i >> 16), byte(i >> 8), byte(i)}), 443)
		idle["idle_ms"] = 20000.0 + float64(i)
		o.Detail = idle
		e.Add(r)
		if i%10 == 1 { // and the same host at many addresses
			o.Name = "h1.quay.io"
			e.Add(r)
		}
	}
	requireFlat(t, before, half, heapNow(), 64<<20)

	rep := e.Report()
	require.Equal(t, maxUnlisted+1, len(rep.Unlisted))
	last := rep.Unlisted[len(rep.Unlisted)-1]
	require.Equal(t, "(other)", last.Host)
	require.Equal(t, n/5*2-maxUnlisted, last.Attempts)
	require.Len(t, rep.Endpoints[1].Hosts, maxHosts+1)
	runtime.KeepAlive(e)
}

// requireFlat demands that the heap grew by less than limit, and next to nothing
// in the second half, when everything that is remembered has reached its limit.
func requireFlat(t *testing.T, before, half, after, limit uint64) {
	t.Helper()
	grown, late := int64(half)-int64(before), int64(after)-int64(half)
	t.Logf("heap grew by %.1f MB in the first half, and by %.1f MB in the second", float64(grown)/1e6, float64(late)/1e6)
	require.Less(t, grown+late, int64(limit))
	require.Less(t, late, int64(2<<20))
}

// A folded host that failed is not lost among those that worked.
func TestFoldedFailureCounts(t *testing.T) {
	tape := started()
	for i := range maxHosts {
		tape.conn(fmt.Sprintf("h%d.quay.io", i), ok)
	}
	o := Options{Catalogs: []*policy.Catalog{small}}
	require.Equal(t, Used, tape.report(o).Endpoints[1].Status)
	tape.conn("one-more.quay.io", reset1).conn("and-another.quay.io", ok)
	e := tape.report(o).Endpoints[1]
	require.Equal(t, Partial, e.Status)
	require.Equal(t, policy.ConnectionTerminated, e.Cause.Error)

	tape = started().conn("quay.io", ok)
	for i := range maxLookups {
		tape.query(fmt.Sprintf("h%d.example", i), answers("203.0.113.1"))
	}
	require.Equal(t, Clear, tape.report(o).Verdict)
	require.Equal(t, Gaps, tape.query("gone.example", unanswered("NXDOMAIN")).report(o).Verdict)
}

// Numbers that lie do not make sums overflow, and times that no calendar has do
// not spoil the JSON.
func TestLyingNumbers(t *testing.T) {
	tape := started().conn("quay.io", ok, func(r *policy.Record) { r.BytesUp, r.BytesDown = math.MaxInt64, -5 }).
		conn("quay.io", ok, func(r *policy.Record) { r.BytesUp, r.DurationMS = 10, math.MaxInt64 }).
		conn("quay.io", ok, func(r *policy.Record) { r.Time = time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC) }).
		conn("quay.io", dropped, detail("ratio", math.NaN(), "deep", []any{[]any{map[string]any{"x": []any{1}}}}), at(-1_000_000_000)).stop()
	r := tape.report(Options{Catalogs: []*policy.Catalog{small}})
	require.Equal(t, int64(math.MaxInt64), r.Endpoints[0].Hosts[0].BytesUp)
	require.Equal(t, int64(8000), r.Endpoints[0].Hosts[0].BytesDown)
	require.NotEmpty(t, jsonOf(t, r))
}

func BenchmarkAdd(b *testing.B) {
	for name, mods := range map[string][]mod{"ok": {ok, from1("ns/pod")}, "ok at an address": {ok, from1("ns/pod"), to("203.0.113.1:443")}, "failed": {dropped, detail("errno", "ETIMEDOUT", "ms", 10000.0)}} {
		b.Run(name, func(b *testing.B) {
			tape := started()
			for i := range 1024 {
				tape.conn(fmt.Sprintf("h%d.data.mcr.microsoft.com", i%64), mods...)
			}
			e := New(Options{Catalogs: []*policy.Catalog{arc, aml}})
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				r := tape.records[i%len(tape.records)]
				r.Time = r.Time.Add(time.Hour) // each pass is a later one
				e.Add(r)
			}
		})
	}
}

func BenchmarkReport(b *testing.B) {
	for _, hosts := range []int{10, 1000} {
		b.Run(fmt.Sprint(hosts), func(b *testing.B) {
			e := New(Options{Catalogs: []*policy.Catalog{arc, aml}})
			tape := every()
			for i := range hosts {
				tape.conn(fmt.Sprintf("h%d.other%d.example", i, i), dropped)
			}
			for _, r := range tape.records {
				e.Add(r)
			}
			for b.Loop() {
				e.Report()
			}
		})
	}
}
