package workload

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/egressaudit/egressaudit/policy"
)

// maxHeld bounds the observations that wait. When there are more, the oldest
// passes without a name.
const maxHeld = 4096

// desk stands before a sink: it names observations, and has those wait whose
// client is not known yet.
type desk struct {
	at   func(netip.Addr, time.Time) (Workload, bool)
	sink policy.Sink
	now  func() time.Time
	wake chan struct{} // there is more to look at

	mu     sync.Mutex
	held   []held             // in the order in which they came
	whose  map[netip.Addr]int // how many of them are of a client
	due    time.Time          // of the first that goes without a name, at the latest
	closed bool
}

// held is an observation that waits.
type held struct {
	policy.Observation
	came, due time.Time
}

func newDesk(at func(netip.Addr, time.Time) (Workload, bool), sink policy.Sink, now func() time.Time) *desk {
	return &desk{at: at, sink: sink, now: now, wake: make(chan struct{}, 1), whose: map[netip.Addr]int{}}
}

// take passes an observation on, or keeps a copy of it. Those of one client
// address stay in their order: an interim record never comes behind the one that
// closes it.
func (d *desk) take(o *policy.Observation) error {
	if !named(o) {
		return d.sink(o)
	}
	now := d.now()
	begun := o.Begun
	if begun.IsZero() {
		begun = now
	}
	client := plain(o.Client.Addr())
	w, ok := d.at(client, begun)
	d.mu.Lock()
	if due := begun.Add(Lag); !ok && !d.closed && due.After(now) {
		defer d.mu.Unlock()
		d.hold(o, client, now, due)
		return nil
	}
	if d.whose[client] > 0 { // those before it can be named by now, too, or are as late
		d.drain(now)
	}
	d.mu.Unlock()
	return d.sink(signed(o, w, 0))
}

// named says whether an observation has a client to name.
func named(o *policy.Observation) bool {
	a := o.Client.Addr()
	return a.IsValid() && !a.Unmap().IsLoopback() && (o.Origin == policy.OriginClient || o.Origin == "")
}

// hold keeps a copy of o; mu is held.
func (d *desk) hold(o *policy.Observation, client netip.Addr, now, due time.Time) {
	if len(d.held) >= maxHeld {
		d.pass(d.held[0], Workload{}, now)
		d.held = d.held[1:]
	}
	d.held = append(d.held, held{clone(o), now, due})
	d.whose[client]++
	if d.due.IsZero() || due.Before(d.due) {
		d.due = due
		d.look()
	}
}

// clone is a copy that shares nothing that a sensor may change.
func clone(o *policy.Observation) policy.Observation {
	c := *o
	c.ALPN, c.Answers, c.CNAMEs, c.Matches = slices.Clone(o.ALPN), slices.Clone(o.Answers), slices.Clone(o.CNAMEs), slices.Clone(o.Matches)
	c.Detail = maps.Clone(o.Detail)
	return c
}

// look has run look at what waits.
func (d *desk) look() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// run passes on what can be named by now, or has waited long enough, until ctx
// ends, and then all.
func (d *desk) run(ctx context.Context) {
	late := time.NewTimer(Lag)
	defer late.Stop()
	for {
		select {
		case <-ctx.Done():
			d.close()
			return
		case <-d.wake:
		case <-late.C:
		}
		d.mu.Lock()
		d.drain(d.now())
		if late.Stop(); !d.due.IsZero() {
			late.Reset(d.due.Sub(d.now()))
		}
		d.mu.Unlock()
	}
}

// drain passes on, in their order, those that wait no more; mu is held.
func (d *desk) drain(now time.Time) {
	d.due = time.Time{}
	d.held = slices.DeleteFunc(d.held, func(h held) bool {
		w, ok := d.at(h.Client.Addr(), h.due.Add(-Lag))
		if !ok && h.due.After(now) && !d.closed {
			if d.due.IsZero() || h.due.Before(d.due) {
				d.due = h.due
			}
			return false
		}
		d.pass(h, w, now)
		return true
	})
}

// pass hands on one that waited; mu is held. An error is the sink's to count.
func (d *desk) pass(h held, w Workload, now time.Time) {
	client := plain(h.Client.Addr())
	if d.whose[client]--; d.whose[client] == 0 {
		delete(d.whose, client)
	}
	d.sink(signed(&h.Observation, w, now.Sub(h.came)))
}

func (d *desk) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	d.drain(d.now())
}

func (d *desk) waiting() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.held)
}

// signed is o with who made it, and how long it waited to be told.
func signed(o *policy.Observation, w Workload, waited time.Duration) *policy.Observation {
	ms := waited.Milliseconds()
	if w.Name == "" && ms == 0 {
		return o
	}
	c := *o
	c.Workload = w.Name
	c.Detail = make(map[string]any, len(o.Detail)+3)
	maps.Copy(c.Detail, o.Detail)
	if w.Owner != "" {
		c.Detail["owner"] = w.Owner
	}
	if w.ServiceAccount != "" {
		c.Detail["service_account"] = w.ServiceAccount
	}
	if ms > 0 {
		c.Detail["held_ms"] = ms
	}
	return &c
}
