package isolate

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/egressaudit/egressaudit/policy"
	"github.com/egressaudit/egressaudit/proxy/capture"
	"github.com/egressaudit/egressaudit/proxy/hello"
)

// Bounds of what is kept of packets: a command may send to any number of
// destinations, and begin any number of QUIC connections.
const (
	maxRefused = 4096
	maxHellos  = 256
	maxClosed  = 16
)

const quicPort = 443

// Refusals makes an observation of each destination whose packets were refused: one
// as soon as it is known who was meant, and one at the end that replaces it and has
// the count. UDP to port 443 is read for the name in it, as QUIC. Its methods may be
// called at once.
type Refusals struct {
	judge func(*policy.Observation) bool
	sink  policy.Sink

	mu     sync.Mutex
	hellos map[flow]*capture.Initials
	seen   map[target]*policy.Observation
	counts map[target]int
	order  []target
	more   int              // packets to destinations beyond maxRefused
	closed []netip.AddrPort // ports of loopback where nobody listens
}

type flow struct{ from, to netip.AddrPort }

// target is a destination as far as it was told.
type target struct {
	protocol, name string
	to             netip.AddrPort
}

// NewRefusals makes one. judge names the destination in an observation and gives it
// an ID and the verdict that it is denied; what it returns does not matter
// (proxy.Proxy.JudgeFlow).
func NewRefusals(judge func(*policy.Observation) bool, sink policy.Sink) *Refusals {
	return &Refusals{
		judge: judge, sink: sink,
		hellos: map[flow]*capture.Initials{}, seen: map[target]*policy.Observation{}, counts: map[target]int{},
	}
}

// Add takes a packet that Watch told of.
func (r *Refusals) Add(p Packet) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p.Why == Closed {
		if !slices.Contains(r.closed, p.To) && len(r.closed) < maxClosed {
			r.closed = append(r.closed, p.To)
		}
		return
	}
	if p.Protocol != "udp" || p.To.Port() != quicPort {
		r.count(p, nil)
		return
	}
	f := flow{p.From, p.To}
	h := r.hellos[f]
	if h == nil {
		if len(r.hellos) >= maxHellos {
			r.undecided()
		}
		h = new(capture.Initials)
		r.hellos[f] = h
	}
	if h.Feed(p.Payload) {
		r.count(p, h)
	}
}

// undecided counts those whose hello never became whole, and forgets all.
func (r *Refusals) undecided() {
	for f, h := range r.hellos {
		if h.Hello().Protocol == hello.Undecided {
			h.End(hello.TimedOut)
			r.count(Packet{Why: Refused, Protocol: "udp", From: f.from, To: f.to}, h)
		}
	}
	clear(r.hellos)
}

// count counts a packet, of which h was read, for its destination. The first one is
// recorded.
func (r *Refusals) count(p Packet, h *capture.Initials) {
	t := target{protocol: p.Protocol, to: p.To}
	if h != nil {
		t.name = h.Hello().ServerName
	}
	if r.seen[t] == nil {
		if len(r.seen) >= maxRefused {
			r.more++
			return
		}
		o := r.observe(p, h)
		r.seen[t], r.order = o, append(r.order, t)
		r.tell(t, true)
	}
	r.counts[t]++
}

func (r *Refusals) observe(p Packet, h *capture.Initials) *policy.Observation {
	o := &policy.Observation{
		Kind: policy.KindConnection, Begun: time.Now(), Listener: "redirect",
		Client: p.From, Address: p.To, Port: p.To.Port(), Protocol: "other", SNIState: policy.SNINotTLS,
	}
	if h != nil {
		h.Describe(o)
	}
	r.judge(o)
	why := "is refused with --isolate, which carries TCP and DNS"
	switch {
	case o.Error == policy.DestinationProhibited:
		return o
	case o.Protocol == "quic":
		why = "QUIC " + why + "; clients turn to TCP"
	default:
		why = strings.ToUpper(p.Protocol) + " " + why
	}
	o.Detail = map[string]any{"why": why, "ip_protocol": p.Protocol}
	return o
}

// tell records what is known of a destination. What the sink refuses it counts
// itself.
func (r *Refusals) tell(t target, open bool) {
	o := *r.seen[t]
	o.Open, o.DurationMS = open, time.Since(o.Begun).Milliseconds()
	if !open {
		detail := map[string]any{"packets": r.counts[t]}
		for k, v := range o.Detail {
			detail[k] = v
		}
		o.Detail = detail
	}
	r.sink(&o)
}

// End records the counts; nothing is added any more. It returns what else is to be
// said, a sentence without a full stop each.
func (r *Refusals) End() (blind []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.undecided()
	for _, t := range r.order {
		r.tell(t, false)
	}
	if r.more > 0 {
		blind = append(blind, fmt.Sprintf("%d packets to more destinations than %d were refused, and are not recorded one by one", r.more, maxRefused))
	}
	for _, c := range r.closed {
		blind = append(blind, fmt.Sprintf("the command asked for %s on its own loopback, where nothing listens: where the host's is meant, run it with --isolate-allow %[1]s", c))
	}
	return blind
}
