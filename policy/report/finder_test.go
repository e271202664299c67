package report

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/stretchr/testify/require"
)

// On random trials the finder says what a naive reading of all pairs says: a
// look-up is left where its client has no connection to that name, or to that
// address, from a window before to a window behind it, and neither has another
// look-up of that name by the same client within five seconds.
func TestFinderAgreesWithANaiveReading(t *testing.T) {
	o := Options{Catalogs: []*policy.Catalog{small}}
	o.Index = policy.NewIndex(small)
	rng := rand.New(rand.NewPCG(5, 6))
	hosts := []string{"quay.io", "a.quay.io", "jobs.example.org"}
	accused, spared := 0, 0
	for range 3000 {
		tape, now := started(), 5
		for range 1 + rng.IntN(12) {
			now += rng.IntN(40)
			who, host := []mod{c1, c2}[rng.IntN(2)], hosts[rng.IntN(3)]
			address := fmt.Sprintf("203.0.113.%d", rng.IntN(3))
			if rng.IntN(2) == 0 {
				tape.query(host, answers(address), who, at(now))
			} else {
				tape.conn(host, ok, who, to(address+":443"), at(now), lasted(time.Duration(rng.IntN(now))*time.Second))
			}
		}
		want := naive(tape.records, epoch.Add(time.Duration(now+20)*time.Second))
		got := map[string]bool{}
		for _, f := range only(tape.stop(at(now+20)).report(o), Bypass) {
			for _, seq := range f.Evidence {
				got[fmt.Sprint(seq)] = true
			}
		}
		require.Equal(t, want, got)
		accused, spared = accused+bit(len(want) > 0), spared+bit(len(want) == 0)
	}
	require.Greater(t, min(accused, spared), 500)
}

// naive are the numbers of look-ups that no connection explains.
func naive(records []*policy.Record, end time.Time) map[string]bool {
	explained := map[*policy.Record]bool{}
	for _, q := range records {
		if q.Kind != policy.KindQuery {
			continue
		}
		found := false
		for _, c := range records {
			if c.Kind != policy.KindConnection || c.Client.Addr() != q.Client.Addr() || c.Name != q.Name && c.Address.Addr().String() != q.Answers[0] {
				continue
			}
			begun := c.Time.Add(-time.Duration(c.DurationMS) * time.Millisecond)
			found = found || !q.Time.Before(begun.Add(-DefaultBypassWindow)) && !q.Time.After(c.Time.Add(DefaultBypassWindow))
		}
		explained[q] = found
	}
	out := map[string]bool{}
	for q, found := range explained {
		for o, by := range explained {
			found = found || by && o.Name == q.Name && o.Client.Addr() == q.Client.Addr() && o.Time.Sub(q.Time).Abs() <= 5*time.Second
		}
		if !found && !q.Time.Add(DefaultBypassWindow).After(end) {
			out[fmt.Sprint(q.Seq)] = true
		}
	}
	return out
}

// The list of a mark is in the order of the last look-up with it, whatever order
// look-ups come and go in: a connection stops at the first that is too old.
func TestMarkedInOrder(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	l := newLookout(time.Minute)
	var all []*suspect
	for i := range 40 {
		all = append(all, &suspect{host: fmt.Sprint("host", i)})
	}
	last := map[*suspect]time.Time{}
	for range 5000 {
		s := all[rnd.IntN(len(all))]
		if at := time.Unix(rnd.Int64N(1000), 0); rnd.IntN(4) > 0 {
			require.True(t, l.add(s, []uint64{7}, glance{at: at}))
			last[s] = later(last[s], at)
		} else {
			l.drop(s)
			s.marks, s.glances = nil, nil
			delete(last, s)
		}
		list := l.marks[7]
		require.Len(t, list, len(last))
		require.True(t, slices.IsSortedFunc(list, func(a, b marked) int { return a.last.Compare(b.last) }))
		for _, m := range list {
			require.Equal(t, last[m.suspect], m.last)
		}
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
