package report

import (
	"cmp"
	"encoding/json"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/egressaudit/egressaudit/policy"
)

// Limits of what a destination keeps for patterns, and what makes one.
const (
	maxIdles  = 16 // the longest ones
	maxPlaces = 8  // addresses
	minSample = 3  // no pattern is told of fewer
)

// traces are what the connections to one destination leave behind that tells
// something only beside those of others.
type traces struct {
	idles   []idle
	hellos  [2]hellos // straight to the network, and through a parent
	places  []place   // where no parent stood between: else the address is the parent's
	crowded bool      // there were more addresses than places
}

// trace is some records, and when they were.
type trace struct {
	evidence
	first, last time.Time
}

func (t *trace) add(s sight) {
	t.evidence.add(s.seq)
	widen(&t.first, &t.last, s.begun, s.at)
}

// meets says whether some of t and some of o were in each other's time, so that
// no rule that was changed in between explains both.
func (t *trace) meets(o *trace) bool {
	return t.n > 0 && o.n > 0 && !t.first.After(o.last) && !o.first.After(t.last)
}

// join adds o to t, of the evidence as much as there is room for.
func (t *trace) join(o trace) {
	if o.n == 0 {
		return
	}
	room := max(0, maxEvidence-len(t.seqs))
	t.seqs = append(slices.Clip(t.seqs), o.seqs[:min(len(o.seqs), room)]...)
	t.n += o.n
	widen(&t.first, &t.last, o.first, o.last)
}

// idle is a tunnel that stood still before it ended.
type idle struct {
	ms     int64
	seq    uint64
	parent string
	cut    bool // by the far side's RST, not FIN
	ours   bool // we ended it: it outlasted that
}

// hellos is what became of ClientHellos within and beyond one segment.
type hellos struct {
	small, large trace // answered
	mute         trace // large ones that were cut or left in silence
	smallMute    int
	least, most  int64  // octets of mute
	parent       string // of mute
}

// place is what became of connections to one address.
type place struct {
	addr      netip.Addr
	ok        trace
	okLarge   bool         // one of them had a large hello
	silent    trace        // cut or left in silence right after the client's first bytes
	mute      trace        // those of silent whose first bytes were a ClientHello with the judged name
	cuts      int          // of mute
	muteSmall int          // of mute
	shut      trace        // refused or unanswered before it
	foul      trace        // failed where an answer was due, silent among them
	answer    policy.Error // that all of foul have in common; mixed where they do not
}

const mixed policy.Error = "mixed"

// add enters an attempt that was ok or failed.
func (t *traces) add(s sight) {
	t.rest(s)
	size, _ := amount(s.Detail, "hello_bytes")
	if s.kind == policy.KindConnection && speaksTLS(s) {
		t.hellos[bit(s.parent != "")].add(s, size)
	}
	if !s.straight {
		return
	}
	if s.Error == policy.DNSSinkhole {
		t.swallowed(s)
	} else if p := t.at(s.Address.Addr()); p != nil {
		p.add(s, size)
	}
}

// shortestIdle is how long a tunnel must stand still for its end to be worth a
// thought.
const shortestIdle = 20 * time.Second

// rest notes how long a tunnel was idle when it ended. The longest are kept:
// how long one can live is what matters.
func (t *traces) rest(s sight) {
	ms, _ := amount(s.Detail, "idle_ms")
	if ms < shortestIdle.Milliseconds() || ms > longest.Milliseconds() || s.Outcome == policy.Failed && s.Stage != policy.StageData {
		return
	}
	how, _ := s.Detail["close"].(string)
	i := idle{ms: ms, seq: s.seq, parent: s.parent, cut: how == "rst", ours: s.By == policy.BySelf || s.Detail["why"] != nil}
	if how != "rst" && how != "fin" && !i.ours {
		return
	}
	if len(t.idles) < maxIdles {
		t.idles = append(t.idles, i)
		return
	}
	least := slices.MinFunc(t.idles, byIdle)
	if byIdle(i, least) > 0 {
		t.idles[slices.Index(t.idles, least)] = i
	}
}

// byIdle orders by length; of two equal ones the earlier record is kept.
func byIdle(a, b idle) int { return cmp.Or(cmp.Compare(a.ms, b.ms), cmp.Compare(b.seq, a.seq)) }

// add enters a connection whose ClientHello had size octets, 0 where it fitted
// into one segment.
func (h *hellos) add(s sight, size int64) {
	switch {
	case mute(s) && size > 0:
		if h.mute.add(s); h.least == 0 || size < h.least {
			h.least = size
		}
		h.most, h.parent = max(h.most, size), s.parent
	case mute(s):
		h.smallMute++
	case s.Outcome == policy.Failed && s.Stage != policy.StageHello && s.Stage != policy.StageHandshake && s.Stage != policy.StageData:
	case size > 0:
		h.large.add(s)
	default:
		h.small.add(s)
	}
}

// mute says whether the far side was silent or cut the connection right after
// the client's first bytes.
func mute(s sight) bool {
	return s.Outcome == policy.Failed && s.Stage == policy.StageHello &&
		(s.Error == policy.ConnectionTerminated || s.Error == policy.ConnectionReadTimeout)
}

// speaksTLS says whether s may have sent a ClientHello over TCP.
func speaksTLS(s sight) bool {
	return s.SNIState != policy.SNINotTLS && (s.Protocol == "" || s.Protocol == "tls")
}

// at is the place of an address; nil where there is none, or no room.
func (t *traces) at(a netip.Addr) *place {
	if !a.IsValid() {
		return nil
	}
	a = a.Unmap().WithZone("")
	for i := range t.places {
		if t.places[i].addr == a {
			return &t.places[i]
		}
	}
	if len(t.places) >= maxPlaces {
		t.crowded = true
		return nil
	}
	t.places = append(t.places, place{addr: a})
	return &t.places[len(t.places)-1]
}

// swallowed enters a connection whose name had a false address.
func (t *traces) swallowed(s sight) {
	var texts []string
	switch v := s.Detail["addresses"].(type) {
	case []string:
		texts = v
	case []any:
		for _, e := range v[:min(len(v), maxPlaces)] {
			text, _ := e.(string)
			texts = append(texts, text)
		}
	}
	for _, text := range texts[:min(len(texts), maxPlaces)] {
		if a, err := netip.ParseAddr(text); err == nil {
			if p := t.at(a); p != nil {
				p.spoil(s)
			}
		}
	}
}

func (p *place) add(s sight, size int64) {
	switch {
	case s.Outcome == policy.OK:
		p.ok.add(s)
		p.okLarge = p.okLarge || size > 0
		return
	case s.Stage == policy.StageConnect && (s.Error == policy.ConnectionRefused || s.Error == policy.ConnectionTimeout):
		p.shut.add(s)
	case s.Stage == policy.StageHello, s.Stage == policy.StageHandshake, s.Error == policy.HTTPBlockPage:
		p.spoil(s)
	}
	if !mute(s) {
		return
	}
	if p.silent.add(s); speaksTLS(s) && saysName(s) {
		p.mute.add(s)
		p.cuts += bit(s.Error == policy.ConnectionTerminated)
		p.muteSmall += bit(size == 0)
	}
}

// spoil enters a failure where an answer was due. A client that refuses a
// certificate says the same as one that is known to be false.
func (p *place) spoil(s sight) {
	answer := s.Error
	if s.By == policy.ByClient {
		answer = policy.TLSIntercepted
	}
	switch p.foul.add(s); {
	case p.answer == "":
		p.answer = policy.Error(keep(string(answer)))
	case p.answer != answer:
		p.answer = mixed
	}
}

// saysName says whether the name that s is judged by is the one in its
// ClientHello, as far as is known: a filter sees no other.
func saysName(s sight) bool {
	if s.SNIState != policy.SNIPresent && s.SNIState != "" {
		return false
	}
	judged, err := policy.ParseName(s.Name)
	if err != nil || s.SNI == "" {
		return err == nil
	}
	sni, err := policy.ParseName(s.SNI)
	return err == nil && sni == judged
}

// clone is a copy on which one can go on without a trace in t.
func (t traces) clone() traces {
	t.idles = slices.Clone(t.idles)
	t.places = slices.Clone(t.places)
	for i := range t.places {
		p := &t.places[i]
		clipAll(&p.ok, &p.silent, &p.mute, &p.shut, &p.foul)
	}
	for i := range t.hellos {
		h := &t.hellos[i]
		clipAll(&h.small, &h.large, &h.mute)
	}
	return t
}

func clipAll(list ...*trace) {
	for _, t := range list {
		t.seqs = slices.Clip(t.seqs)
	}
}

// amount is a fact that is a number and not negative; ok is false where it is
// missing or something else.
func amount(d map[string]any, name string) (n int64, ok bool) {
	if len(d) == 0 {
		return 0, false
	}
	switch v := d[name].(type) {
	case int:
		n, ok = int64(v), true
	case int64:
		n, ok = v, true
	case float64:
		n, ok = int64(v), v >= 0 && v < math.MaxInt32*1000
	case json.Number:
		i, err := v.Int64()
		n, ok = i, err == nil
	}
	if !ok || n < 0 {
		return 0, false
	}
	return n, true
}
