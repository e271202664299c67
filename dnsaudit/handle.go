package dnsaudit

import (
	"net/netip"
	"time"

	"github.com/miekg/dns"

	"github.com/egressaudit/egressaudit/policy"
)

// answerer takes the answer to q, back to the client who asked.
type answerer interface {
	answer(q *query, pkt []byte)
}

// receive looks at a packet from a client. It returns the question in it, or
// what to send back at once, or neither. It keeps pkt where it returns a
// question.
func (f *Forwarder) receive(pkt []byte, client netip.AddrPort, via string) (*query, []byte) {
	q, d := readQuery(pkt)
	switch d {
	case ignore:
		f.counts.dropped.Add(1)
	case malformed:
		f.counts.malformed.Add(1)
	case unknownOpcode:
		f.counts.unknown.Add(1)
	case enter:
		if !f.welcome(client.Addr()) && !f.canary(q) {
			f.counts.strangers.Add(1)
			return nil, nil
		}
		f.counts.questions.Add(1)
		q.client = netip.AddrPortFrom(client.Addr().Unmap(), client.Port())
		q.via, q.begun = via, time.Now()
		return q, nil
	}
	return nil, refusal(pkt, d)
}

// handle answers q and records it, and then calls done: the one place that does
// either. It does not wait for the answer.
func (f *Forwarder) handle(q *query, to answerer, done func()) {
	f.waiting.Add(1)
	end := func(o *policy.Observation, reply []byte) {
		to.answer(q, reply)
		f.record(q, o)
		f.waiting.Add(-1)
		done()
	}
	if why, rcode := f.denies(q); why != "" {
		f.counts.denied.Add(1)
		o := denial(q, why, rcode)
		if why == whyCanary || why == whyLoop {
			o.Origin = policy.OriginCanary
		}
		end(o, q.short(rcode, false))
		return
	}
	f.resolve(q, func(r result) { end(f.observe(q, r)) })
}

// riddled says whether q is what Loop asks an upstream for.
func (f *Forwarder) riddled(q *query) bool {
	name := f.riddle.Load()
	if name == nil || q.name != *name {
		return false
	}
	f.solved.Store(true)
	return true
}

// denies says why q is not passed on, "" where it is, and with which response
// code.
func (f *Forwarder) denies(q *query) (why string, rcode int) {
	switch {
	case f.riddled(q):
		return whyLoop, dns.RcodeRefused
	case f.canary(q):
		return whyCanary, dns.RcodeRefused
	case f.waiting.Load() > maxQuestions:
		return whyFull, dns.RcodeServerFailure
	case f.rate != nil && !f.rate.allow(q.client.Addr(), q.begun):
		return whyRate, dns.RcodeRefused
	case q.kind == dns.TypeAXFR || q.kind == dns.TypeIXFR:
		return whyTransfer, dns.RcodeRefused
	}
	return "", 0
}

// resolve finds the answer to q, with q's ID in it.
func (f *Forwarder) resolve(q *query, finish func(result)) {
	if f.cache == nil {
		f.ask(q, finish)
		return
	}
	if r, ok := f.cache.find(q, q.begun); ok {
		finish(r)
		return
	}
	f.ask(q, func(r result) {
		if r.packet != nil {
			f.cache.keep(q, r, time.Now())
		}
		finish(r)
	})
}

// fit is pkt as it goes to the client: over UDP never longer than the client
// takes, so that nobody is made to amplify.
func (f *Forwarder) fit(q *query, pkt []byte) []byte {
	if q.via == viaUDP && len(pkt) > q.size {
		f.counts.truncated.Add(1)
		return q.short(int(pkt[3]&0x0F), true)
	}
	return pkt
}

func (f *Forwarder) record(q *query, o *policy.Observation) {
	o.DurationMS = time.Since(q.begun).Milliseconds()
	if f.config.Sink(o) != nil {
		f.counts.unrecorded.Add(1)
	}
}
