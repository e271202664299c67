package workload

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/egressaudit/egressaudit/policy"
)

// book is a sink that keeps what it is given.
type book struct {
	mu   sync.Mutex
	list []policy.Observation
	fail error
}

func (b *book) take(o *policy.Observation) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.list = append(b.list, *o)
	return b.fail
}

// all is what was taken.
func (b *book) all() []policy.Observation {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.list)
}

// lines are "ID workload" of what was taken.
func (b *book) lines() []string {
	var out []string
	for _, o := range b.all() {
		out = append(out, o.ID+" "+o.Workload)
	}
	return out
}

// directory names addresses, as the test says.
type directory struct {
	mu    sync.Mutex
	names map[string]Workload
}

func (d *directory) at(a netip.Addr, _ time.Time) (Workload, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	w, ok := d.names[a.String()]
	return w, ok
}

func (d *directory) learn(address, name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.names[address] = Workload{Name: name, Owner: "Job/train", ServiceAccount: "sa"}
}

// withDesk runs a story in which time is the test's.
func withDesk(t *testing.T, story func(t *testing.T, d *desk, known *directory, got *book)) {
	synctest.Test(t, func(t *testing.T) {
		known, got := &directory{names: map[string]Workload{}}, &book{}
		d := newDesk(known.at, got.take, time.Now)
		ctx, stop := context.WithCancel(t.Context())
		var done sync.WaitGroup
		done.Go(func() { d.run(ctx) })
		defer done.Wait()
		defer stop()
		story(t, d, known, got)
	})
}

// seen is an observation that began now.
func seen(id, client string) *policy.Observation {
	return &policy.Observation{Kind: policy.KindConnection, ID: id, Begun: time.Now(), Origin: policy.OriginClient, Client: netip.AddrPortFrom(netip.MustParseAddr(client), 40000)}
}

func TestKnownPassesAtOnce(t *testing.T) {
	withDesk(t, func(t *testing.T, d *desk, known *directory, got *book) {
		known.learn("10.1.0.7", "ml/a")
		o := seen("c1", "10.1.0.7")
		o.Detail = map[string]any{"why": "x"}
		require.NoError(t, d.take(o))
		require.Equal(t, []string{"c1 ml/a"}, got.lines())
		require.Equal(t, map[string]any{"why": "x", "owner": "Job/train", "service_account": "sa"}, got.all()[0].Detail)
		require.Equal(t, map[string]any{"why": "x"}, o.Detail, "the sensor's own stays as it is")
		require.Empty(t, o.Workload)
		got.fail = errors.New("full")
		require.ErrorIs(t, d.take(o), got.fail, "the sensor is told")
	})
}

func TestUnknownWaitsUntilItIsKnown(t *testing.T) {
	withDesk(t, func(t *testing.T, d *desk, known *directory, got *book) {
		o := seen("c1", "10.1.0.7")
		o.Answers, o.Detail = []string{"a"}, map[string]any{"k": "v"}
		require.NoError(t, d.take(o))
		o.Answers[0], o.Detail["k"], o.ID = "changed", "changed", "changed"
		time.Sleep(1500 * time.Millisecond)
		synctest.Wait()
		require.Empty(t, got.lines())
		known.learn("10.1.0.7", "ml/a")
		d.look()
		synctest.Wait()
		require.Equal(t, []string{"c1 ml/a"}, got.lines())
		require.Equal(t, "a", got.all()[0].Answers[0], "it was copied")
		require.Equal(t, map[string]any{"k": "v", "owner": "Job/train", "service_account": "sa", "held_ms": int64(1500)}, got.all()[0].Detail)
	})
}

func TestNobodyWaitsLongerThanLag(t *testing.T) {
	withDesk(t, func(t *testing.T, d *desk, _ *directory, got *book) {
		require.NoError(t, d.take(seen("c1", "10.1.0.7")))
		time.Sleep(time.Second)
		require.NoError(t, d.take(seen("c2", "10.1.0.8")))
		old := seen("c0", "10.1.0.9")
		old.Begun = old.Begun.Add(-Lag)
		require.NoError(t, d.take(old))
		require.Equal(t, []string{"c0 "}, got.lines(), "the API had its time")
		time.Sleep(Lag - time.Second - time.Millisecond)
		require.Equal(t, []string{"c0 "}, got.lines())
		time.Sleep(time.Millisecond)
		synctest.Wait()
		require.Equal(t, []string{"c0 ", "c1 "}, got.lines())
		require.Equal(t, Lag.Milliseconds(), got.all()[1].Detail["held_ms"])
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, []string{"c0 ", "c1 ", "c2 "}, got.lines())
		require.Zero(t, d.waiting())
	})
}

// TestOrder: the interim record of a connection never comes behind the last one,
// whoever learns first who it was.
func TestOrder(t *testing.T) {
	withDesk(t, func(t *testing.T, d *desk, known *directory, got *book) {
		interim := seen("c1", "10.1.0.7")
		interim.Open = true
		require.NoError(t, d.take(interim))
		require.NoError(t, d.take(seen("c2", "10.1.0.8")))
		require.NoError(t, d.take(seen("c3", "10.1.0.7")))
		known.learn("10.1.0.7", "ml/a") // and run has not looked yet
		require.NoError(t, d.take(seen("c1", "10.1.0.7")))
		require.Equal(t, []string{"c1 ml/a", "c3 ml/a", "c1 ml/a"}, got.lines())
		require.True(t, got.all()[0].Open)
		require.False(t, got.all()[2].Open)
		time.Sleep(Lag)
		synctest.Wait()
		require.Equal(t, "c2 ", got.lines()[3])
	})
}

func TestWhatIsNotNamed(t *testing.T) {
	withDesk(t, func(t *testing.T, d *desk, known *directory, got *book) {
		known.learn("127.0.0.1", "ml/wrong")
		known.learn("10.1.0.7", "ml/wrong")
		for i, o := range []*policy.Observation{
			{Origin: policy.OriginCanary, Client: netip.MustParseAddrPort("10.1.0.7:1")},
			{Origin: policy.OriginProbe, Client: netip.MustParseAddrPort("10.1.0.7:1")},
			{Client: netip.MustParseAddrPort("127.0.0.1:1")},
			{Client: netip.MustParseAddrPort("[::ffff:127.0.0.1]:1")},
			{Client: netip.MustParseAddrPort("[::1]:1")},
			{},
		} {
			require.NoError(t, d.take(o))
			require.Len(t, got.all(), i+1)
			require.Empty(t, got.all()[i].Workload)
			require.Nil(t, got.all()[i].Detail)
		}
	})
}

// TestBound: when too many wait, the oldest goes; none is lost, none goes twice.
func TestBound(t *testing.T) {
	withDesk(t, func(t *testing.T, d *desk, _ *directory, got *book) {
		for i := range maxHeld + 100 {
			require.NoError(t, d.take(seen(fmt.Sprintf("c%06d", i), "10.1.0.7")))
			require.LessOrEqual(t, d.waiting(), maxHeld)
		}
		require.Len(t, got.lines(), 100)
		time.Sleep(Lag)
		synctest.Wait()
		lines := got.lines()
		require.Len(t, lines, maxHeld+100)
		require.True(t, slices.IsSorted(lines))
		require.Empty(t, d.whose)
	})
}

func TestEndPassesAll(t *testing.T) {
	withDesk(t, func(t *testing.T, d *desk, known *directory, got *book) {
		for i := range 10 {
			require.NoError(t, d.take(seen(fmt.Sprint("c", i), fmt.Sprintf("10.1.0.%d", i))))
		}
		known.learn("10.1.0.3", "ml/a")
		d.close()
		require.Len(t, got.lines(), 10)
		require.Equal(t, "c3 ml/a", got.lines()[3])
		require.NoError(t, d.take(seen("late", "10.1.0.99")))
		require.Equal(t, "late ", got.lines()[10])
	})
}

// TestManySensors has the race detector look, and counts.
func TestManySensors(t *testing.T) {
	withDesk(t, func(t *testing.T, d *desk, known *directory, got *book) {
		var sensors sync.WaitGroup
		for s := range 8 {
			sensors.Go(func() {
				for i := range 200 {
					d.take(seen(fmt.Sprintf("%d-%d", s, i), fmt.Sprintf("10.1.%d.%d", s, i%16)))
					if i%50 == 0 {
						known.learn(fmt.Sprintf("10.1.%d.%d", s, i%16), "ml/a")
						d.look()
					}
				}
			})
		}
		sensors.Wait()
		time.Sleep(Lag)
		synctest.Wait()
		require.Len(t, got.lines(), 1600)
		seen := map[string]bool{}
		for _, o := range got.all() {
			require.False(t, seen[o.ID], o.ID)
			seen[o.ID] = true
		}
	})
}
