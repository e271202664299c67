package capture

import (
	"net"
	"slices"
	"time"

	"github.com/egressaudit/egressaudit/proxy/hello"
)

// Why a flow ends.
const (
	idle    = "idle"
	drained = "drain"
)

// tick does what is due.
func (f *flow) tick() {
	f.mu.Lock()
	now := time.Now()
	over := !now.Before(f.last.Add(f.patience()))
	if !f.ended && !over {
		for _, v := range slices.Clone(f.visits) {
			f.attend(v, now)
		}
		f.arm()
	}
	f.mu.Unlock()
	if over {
		f.end(idle)
	}
}

// arm sets the timer for what is due next.
func (f *flow) arm() {
	next := f.last.Add(f.patience())
	for _, v := range f.visits {
		if due := f.due(v); !due.IsZero() && due.Before(next) {
			next = due
		}
	}
	f.timer.Reset(time.Until(next))
}

// patience is how long the flow lives without a datagram: one that was refused,
// only as long as a client that does not understand repeats itself.
func (f *flow) patience() time.Duration {
	for _, v := range f.visits {
		if !v.judged || v.allowed {
			return f.relay.limits.Idle
		}
	}
	return f.relay.limits.Answer
}

// due is when a visit wants to be attended to; zero for never.
func (f *flow) due(v *visit) time.Time {
	l := f.relay.limits
	switch {
	case !v.judged:
		return v.born.Add(l.Hold)
	case v.recorded, v.opened:
	case v.done:
		return v.observed.Begun.Add(l.Open)
	case v.asks > 0:
		return v.asking.Add(l.Answer)
	}
	return time.Time{}
}

// attend does what is due for a visit: the name has not come in time, and one that
// comes later is judged again; or it is worth an open record.
func (f *flow) attend(v *visit, now time.Time) {
	switch due := f.due(v); {
	case due.IsZero() || now.Before(due):
	case !v.judged:
		f.judge(v)
	default:
		f.interim(v)
	}
}

// end closes the flow and records each visit. It may be called twice.
func (f *flow) end(why string) {
	f.mu.Lock()
	if f.ended {
		f.mu.Unlock()
		return
	}
	f.ended = true
	f.timer.Stop()
	for _, v := range f.visits {
		v.why = why
		f.conclusive(v)
	}
	f.mu.Unlock()
	// Close waits for receive, which may wait for the lock.
	for _, c := range []*net.UDPConn{f.up, f.back} {
		if c != nil {
			c.Close()
		}
	}
	f.relay.forget(f)
}

// conclusive records a visit as it stands; one without a verdict gets one first.
func (f *flow) conclusive(v *visit) {
	if !v.judged {
		v.read.End(hello.TimedOut)
		f.ask(v)
	}
	f.record(v)
}
