package report

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/stretchr/testify/require"
)

// A lane says of any attempts, in any order, what a naive count at its own level
// says, and its level is the finest one at which they fit.
func TestLaneAgainstCounting(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		span := int64(1) << rng.IntN(45)
		var l lane
		var times []int64
		for range 1 + rng.IntN(400) {
			ms := epoch.UnixMilli() - span/2 + rng.Int64N(span)
			times = append(times, ms)
			l.add(time.UnixMilli(ms), beatKind(ms%int64(beatKinds)+int64(beatKinds))%beatKinds)
			require.LessOrEqual(t, len(l.beats), maxSteps)
		}
		first, last := slices.Min(times), slices.Max(times)
		require.Less(t, last>>l.level-first>>l.level, int64(maxSteps))
		if l.level > 0 {
			require.GreaterOrEqual(t, last>>(l.level-1)-first>>(l.level-1), int64(maxSteps), "a finer level would do")
		}
		want := map[int64][beatKinds]uint32{}
		for _, ms := range times {
			n := want[ms>>l.level]
			n[beatKind(ms%int64(beatKinds)+int64(beatKinds))%beatKinds]++
			want[ms>>l.level] = n
		}
		got := map[int64][beatKinds]uint32{}
		for i, b := range l.beats {
			got[l.at(i)] = b.n
		}
		require.Equal(t, want, got)
		require.Equal(t, slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got)))
		require.True(t, slices.IsSortedFunc(l.beats, func(a, b beat) int { return int(a.step - b.step) }))
	}
}

// Whatever has no time leaves no trace, and times that no clock has end nothing.
func TestLaneOddTimes(t *testing.T) {
	var l lane
	l.add(time.Time{}, beatWorked)
	require.Empty(t, l.beats)
	l.add(time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC), beatWorked)
	l.add(time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC), beatFailed)
	require.Len(t, l.beats, 2)
}

// The report's beats are every attempt that it counts, each at its time.
func TestTimeline(t *testing.T) {
	r := started().mark("first").conn("quay.io", ok, at(10)).conn("quay.io", reset1, at(10)).mark("second").conn("quay.io", ok, at(500), lasted(100*time.Second)).
		query("cdn.quay.io", unanswered("NXDOMAIN"), at(20)).conn("beacon.example.net", left, at(30)).conn("other.example", denied(policy.HTTPRequestDenied), at(40)).
		stop(at(600)).report(Options{Catalogs: []*policy.Catalog{small}})
	tl := r.Timeline
	require.LessOrEqual(t, tl.Steps, maxSteps)
	require.Greater(t, tl.Steps, maxSteps/2-1)
	require.False(t, tl.From.After(r.Trial.Started))
	require.True(t, tl.Until().After(r.Trial.Ended))
	require.Equal(t, []string{"first", "second"}, []string{tl.Phases[0].Name, tl.Phases[1].Name})

	quay := r.Endpoints[slices.IndexFunc(r.Endpoints, func(e Endpoint) bool { return e.Host == "quay.io" })]
	requireBeats(t, tl, quay.Beats, map[int]Beat{10: {Worked: 1, Failed: 1}, 400: {Worked: 1}})
	wild := r.Endpoints[slices.IndexFunc(r.Endpoints, func(e Endpoint) bool { return e.Host == "*.quay.io" })]
	requireBeats(t, tl, wild.Beats, map[int]Beat{20: {Failed: 1}})
	requireBeats(t, tl, r.Unlisted[1].Beats, map[int]Beat{40: {Failed: 1}})
	requireBeats(t, tl, r.Unlisted[0].Beats, map[int]Beat{30: {Other: 1}})
}

// requireBeats demands the beats of so many seconds after the epoch, and no
// others.
func requireBeats(t *testing.T, tl Timeline, beats []Beat, want map[int]Beat) {
	t.Helper()
	got := map[Beat]bool{}
	for _, b := range beats {
		got[b] = true
	}
	for second, b := range want {
		b.Step = int(epoch.Add(time.Duration(second)*time.Second).Sub(tl.From) / tl.Step)
		require.True(t, got[b], "no %+v among %+v", b, beats)
	}
	require.Len(t, beats, len(want))
}

// A mark that is lost is told by the first observation of its phase.
func TestPhaseWithoutMark(t *testing.T) {
	r := started().conn("quay.io", ok, func(r *policy.Record) { r.Phase = "pull" }).mark("pull").mark("push").stop().
		report(Options{Catalogs: []*policy.Catalog{small}})
	var names []string
	for _, p := range r.Timeline.Phases {
		names = append(names, p.Name)
	}
	require.Equal(t, []string{"pull", "pull", "push"}, names)
	require.Equal(t, []string{"pull", "push"}, r.Trial.Phases)
}
