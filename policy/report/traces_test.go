package report

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/stretchr/testify/require"
)

// What clients choose is bounded for patterns, too, and a limit never makes one
// surer.
func TestTracesAreBounded(t *testing.T) {
	o := Options{Catalogs: []*policy.Catalog{small}}
	tape := alive()
	for i := range 100 {
		tape.conn("a.one.example", ok, to(fmt.Sprintf("192.0.2.%d:443", i)), detail("close", "fin", "idle_ms", float64(20000+i*1000)))
	}
	tape.times(2, "b.two.example", dropped).conn("c.three.example", dropped).conn("jobs.example.org", ok, to(there))
	e := New(o)
	for _, r := range tape.records {
		e.Add(r)
	}
	d := e.book.dests[key{host: "a.one.example", port: 443}]
	require.Len(t, d.places, maxPlaces)
	require.Len(t, d.idles, maxIdles)
	least := math.MaxInt
	for _, i := range d.idles {
		least = min(least, int(i.ms))
	}
	require.Equal(t, 20000+(100-maxIdles)*1000, least, "the longest are kept")
	found := told(e.Report())
	require.Len(t, found, 1)
	require.Contains(t, found[0].Text, "confidence: guess", "one that was not kept may have worked there")
}

// Connections that are open count in a snapshot, and leave no trace.
func TestOpenPatterns(t *testing.T) {
	o := Options{Catalogs: []*policy.Catalog{small}}
	e, plain := New(o), New(o)
	e.opt.Index = plain.opt.Index
	e.book.index = plain.book.index
	tape := started().conn("a.one.example", ok, to(here)).conn("b.two.example", reset1).conn("b.two.example", reset1).
		conn("b.two.example", silence, open("1")).conn("a.one.example", ok, to(here), open("2")).
		conn("c.three.example", silence, big, open("3")).conn("c.three.example", closes("3"), ok, to(there))
	for _, r := range tape.records {
		e.Add(r)
		plain.Add(r)
		e.Report()
	}
	require.Equal(t, plain.book, e.book)
	found := told(e.Report())
	require.Len(t, found, 1)
	require.Equal(t, SNIFilter, found[0].Kind)
	require.Contains(t, found[0].Text, "likely")
}

// A page that asks often, of a ledger that an attacker filled, is not kept busy.
func TestManyAtOneAddress(t *testing.T) {
	tape := alive()
	for i := range 4000 {
		tape.conn(fmt.Sprintf("h%d.d%d.example", i, i), []mod{reset1, dropped, alert}[i%3])
		tape.conn(fmt.Sprintf("h%d.d%d.example", i, i), silence, big, detail("close", "rst", "idle_ms", float64(20000+i)))
		tape.rests(fmt.Sprintf("i%d.d%d.example", i%50, i), "rst", 20+float64(i))
	}
	begun := time.Now()
	r := tape.report(Options{Catalogs: []*policy.Catalog{small}})
	require.Less(t, time.Since(begun), 20*time.Second)
	require.LessOrEqual(t, len(told(r)), len(patternKinds))
}

// What counts an ok connection allocates nothing.
func TestAddAllocatesNothing(t *testing.T) {
	for name, mods := range map[string][]mod{"no detail": {ok}, "an address": {ok, to(here)}, "through a parent": {ok, to(here), from1("ns/pod"), client("10.0.0.1:1")}} {
		tape := started()
		for range 64 {
			tape.conn("quay.io", mods...)
		}
		e := New(Options{Catalogs: []*policy.Catalog{small}})
		for _, r := range tape.records {
			e.Add(r)
		}
		last := tape.records[len(tape.records)-1]
		require.Zero(t, testing.AllocsPerRun(100, func() { e.Add(last) }), name)
	}
}
