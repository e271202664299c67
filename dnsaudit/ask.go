package dnsaudit

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// result is what became of a question.
type result struct {
	packet  []byte // the answer as it came; nil: none did
	from    string // the upstream that gave it
	said    string // what the others said: "192.0.2.1:53: no answer; ..."
	silent  bool   // no answer came in time
	cut     bool   // we ended before one could
	ignored int    // answers that were none to this question
	cached  bool
}

// errCut is the end of a question that we made, at Shutdown.
var errCut = errors.New("ended by us")

// errand asks the upstreams one question until one of them answers.
type errand struct {
	f        *Forwarder
	w        *waiter
	patience time.Duration
	end      time.Time
	ways     []way // that are left, in their order
	out      []way // that have not ended
	retried  bool
	second   event // an answer that another server may know better than; no packet: none
	said     []string

	// Until a goroutine of its own waits:
	finish func(result)
	mu     sync.Mutex
	timer  *time.Timer
	slow   bool // a goroutine waits, or it is over
}

func (f *Forwarder) errand(q *query, ways []way) *errand {
	return &errand{
		f: f, w: newWaiter(q), ways: ways,
		patience: min(maxPatience, f.timeout/time.Duration(len(ways))), end: q.begun.Add(f.timeout),
	}
}

// probe asks a server thought dead the same question, to see whether it is.
func (f *Forwarder) probe(u *upstream, q *query) {
	own := *q
	own.packet = slices.Clone(q.packet)
	e := f.errand(&own, u.ways(nil, q.via, 0)[:1])
	f.probing.Go(func() {
		e.next()
		e.wait()
	})
}

// wait waits for an end.
func (e *errand) wait() result {
	defer e.w.leave()
	timer := time.NewTimer(e.patience)
	defer timer.Stop()
	for len(e.out) > 0 {
		select {
		case ev := <-e.w.events:
			if e.heard(ev) {
				return e.result(ev)
			}
		case now := <-timer.C:
			if over := e.waited(now); over {
				return e.result(e.second)
			}
			timer.Reset(min(e.patience, e.end.Sub(now)))
		case <-e.f.cut:
			return e.result(event{err: errCut})
		}
	}
	return e.result(e.second)
}

// ask asks until an answer comes, all ways have failed, or the time is over, and
// then calls finish. A server that stays silent is not given up: its answer
// counts when it comes after another was asked.
//
// The usual question, which the first server answers soon over UDP, is finished
// by the goroutine that reads from that server; only others get one of their own.
func (f *Forwarder) ask(q *query, finish func(result)) {
	list := f.ways(q)
	e := f.errand(q, list)
	if list[0].via != viaUDP {
		go func() {
			e.next()
			finish(e.wait())
		}()
		return
	}
	e.finish, e.w.first = finish, e.first
	e.mu.Lock()
	defer e.mu.Unlock()
	e.next()
	e.timer = time.AfterFunc(e.patience, e.late)
	if len(e.out) == 0 || e.out[0].via != viaUDP {
		e.slow = true
		e.timer.Stop()
		go func() { finish(e.wait()) }()
	}
}

// first takes the first event of a quick errand.
func (e *errand) first(ev event) bool {
	if !e.slowDown() {
		return false
	}
	e.timer.Stop()
	if !e.heard(ev) {
		go func() { e.finish(e.wait()) }()
		return true
	}
	e.w.leave()
	e.finish(e.result(ev))
	return true
}

// late is called when the first upstream has not answered soon.
func (e *errand) late() {
	if !e.slowDown() {
		return
	}
	if over := e.waited(time.Now()); over {
		e.w.leave()
		e.finish(e.result(e.second))
		return
	}
	e.finish(e.wait())
}

// slowDown says, to one caller alone, that the errand is its.
func (e *errand) slowDown() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	was := e.slow
	e.slow = true
	return !was
}

// ways are the ways to go; while all servers are well they are always the same.
func (f *Forwarder) ways(q *query) []way {
	for _, u := range f.upstreams {
		if !u.healthy() {
			list, beside := ways(f.upstreams, q.via, q.begun)
			if beside != nil {
				f.probe(beside, q)
			}
			return list
		}
	}
	return f.usual[q.via]
}

// next takes the next way that can be taken.
func (e *errand) next() {
	for len(e.ways) > 0 {
		by := e.ways[0]
		e.ways = e.ways[1:]
		if by.via == viaUDP && e.w.ignored.Load() > 0 {
			by.via = viaTCP // where nobody can slip answers in
		}
		if e.try(by) {
			return
		}
	}
}

func (e *errand) try(by way) bool {
	if by.via == viaTCP {
		by.to.streams.send(e.w, by)
	} else if err := by.to.sockets.send(e.w, by); err != nil {
		e.failed(by, err)
		return false
	}
	e.out = append(e.out, by)
	return true
}

// heard takes what came over one way, and says whether it is the answer.
func (e *errand) heard(ev event) bool {
	if i := slices.Index(e.out, ev.way); i >= 0 {
		e.out = slices.Delete(e.out, i, i+1)
	}
	switch {
	case ev.packet == nil && ev.again && !e.retried:
		e.retried = true
		e.try(ev.way)
	case ev.packet == nil:
		e.failed(ev.way, ev.err)
		e.next()
	default:
		ev.way.to.answered()
		return !e.doubts(ev)
	}
	return false
}

// failed drops the way, and each repetition of it.
func (e *errand) failed(by way, err error) {
	if (by.via == viaUDP) == (by.to.Transport == viaUDP) {
		by.to.failed(time.Now())
	}
	e.drop(func(o way) bool { return o == by })
	e.say(by.to, err.Error())
}

func (e *errand) drop(these func(way) bool) {
	e.ways = slices.DeleteFunc(slices.Clone(e.ways), these)
}

// doubts says whether another server may know better than this answer, and asks
// it. Where none does, the first such answer stays.
func (e *errand) doubts(ev event) bool {
	rcode := int(ev.packet[3] & 0x0F)
	short := ev.packet[2]&flagTC != 0 && e.w.query.via == viaTCP // which came because of that
	if !short && rcode != dns.RcodeServerFailure && rcode != dns.RcodeRefused && rcode != dns.RcodeNotImplemented {
		return false
	}
	e.drop(func(o way) bool { return o.to == ev.way.to && (!short || o.via == viaUDP) })
	if len(e.ways)+len(e.out) == 0 && e.second.packet == nil {
		return false
	}
	if e.second.packet == nil {
		e.second = ev
	} else {
		e.say(ev.way.to, rcodeName(rcode))
	}
	e.next()
	return true
}

// waited takes the end of patience, and says whether the question is over.
func (e *errand) waited(now time.Time) (over bool) {
	last := e.out[len(e.out)-1]
	last.to.failed(now)
	if !now.Before(e.end) || len(e.ways) == 0 && e.second.packet != nil {
		return true
	}
	e.next()
	return false
}

// say keeps what a server other than the one that answers said, once.
func (e *errand) say(u *upstream, what string) {
	if s := u.text + ": " + what; !slices.Contains(e.said, s) {
		e.said = append(e.said, s)
	}
}

func (e *errand) result(ev event) result {
	r := result{packet: ev.packet, cut: ev.err == errCut, ignored: int(e.w.ignored.Load())}
	if r.packet != nil {
		r.from = ev.way.to.text
		binary.BigEndian.PutUint16(r.packet, e.w.query.id)
	}
	for _, by := range e.out {
		if r.packet == nil || by.to != ev.way.to {
			e.say(by.to, errSilent.Error())
		}
		r.silent = r.packet == nil && !r.cut
	}
	r.said = strings.Join(e.said, "; ")
	return r
}
